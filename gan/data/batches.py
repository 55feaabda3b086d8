"""Batches as a pure function of (seed, index): nothing to save, and nothing to rewind on resume."""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import struct

from gan.data.dataset import Batch, to_float
from gan.data.permutation import indices_at
from gan.sharding import split_batch


@struct.dataclass
class DeviceDataset:
    """A whole dataset on the devices, from which each step gathers its batch.

    Attributes:
      examples: uint8 images `[N, H, W, C]` or float32 points `[N, D]`; further rows are padding.
      labels: int32 `[N]`, padded likewise.
      size: Number of examples, N.
    """

    examples: jax.Array
    labels: jax.Array
    size: int = struct.field(pytree_node=False)

    def draw(
        self, batch_size: int, seed: jax.Array | int, index: jax.Array | int
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the examples `[B, ...]` and labels `[B]` of batch number `index`."""
        indices = indices_at(self.size, batch_size, seed, index)  # [B]
        return self.examples[indices], self.labels[indices]


@struct.dataclass
class BatchBlock:
    """Successive batches of one seed that the host has sent to the devices.

    Attributes:
      examples: uint8 images or float32 points, `[K, B, ...]`.
      labels: int32 `[K, B]`.
      first: Number of the first batch, an int32 scalar.
    """

    examples: jax.Array
    labels: jax.Array
    first: jax.Array

    def draw(
        self, batch_size: int, seed: jax.Array | int, index: jax.Array | int
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the examples `[B, ...]` and labels `[B]` of batch `index`, one of the K."""
        offset = jnp.asarray(index, jnp.int32) - self.first
        return self.examples[offset], self.labels[offset]


Data: TypeAlias = DeviceDataset | BatchBlock


def batch_at(
    data: Data,
    batch_size: int,
    seed: jax.Array | int,
    index: jax.Array | int,
    update: jax.Array | int | None = None,
) -> Batch:
    """Returns batch number `index` of the run with this seed.

    Args:
      data: Data on the devices that contain the batch.
      batch_size: B.
      seed: Seed of the run, below 2**32.
      index: Number of the batch, from 0.
      update: Number of the discriminator update that the batch is for; by default `index`.
    """
    examples, labels = data.draw(batch_size, seed, index)
    return Batch(
        examples=split_batch(to_float(examples)),
        labels=split_batch(labels),
        update=jnp.asarray(index if update is None else update, jnp.int32),
    )
