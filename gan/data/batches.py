"""Batches as a pure function of (seed, index): nothing to save, nothing to rewind on resume.

The examples of a run are one endless row: epoch after epoch, each a permutation of the dataset.
Batch k is the places k B to (k + 1) B - 1 of that row, so that every epoch shows each example once
and no tail is dropped. The permutation is computed place by place, on the device: a Feistel network
over the next power of four, walked until it lands inside the dataset.

Reference: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002 (cycle walking).
"""

from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from gan.data.dataset import Batch, to_float
from gan.errors import UsageError
from gan.sharding import split_batch

_ROUNDS = 8


@struct.dataclass
class Resident:
    """A whole dataset on the devices, where each step gathers its batch.

    Attributes:
      examples: uint8 images `[N, H, W, C]` or float32 points `[N, D]`; more rows are padding.
      labels: int32 `[N]`, padded likewise.
      size: N.
    """

    examples: jax.Array
    labels: jax.Array
    size: int = struct.field(pytree_node=False)

    def draw(
        self, batch_size: int, seed: jax.Array | int, index: jax.Array | int
    ) -> tuple[jax.Array, jax.Array]:
        """The examples and labels of batch number `index`, `[B, ...]` and `[B]`."""
        places = indices_at(self.size, batch_size, seed, index)  # [B]
        return self.examples[places], self.labels[places]


@struct.dataclass
class Block:
    """Some successive batches of one seed on the devices, where the host has sent them.

    Attributes:
      examples: `[K, B, ...]`.
      labels: int32 `[K, B]`.
      first: The number of the first batch, an int32 scalar.
    """

    examples: jax.Array
    labels: jax.Array
    first: jax.Array

    def draw(
        self, batch_size: int, seed: jax.Array | int, index: jax.Array | int
    ) -> tuple[jax.Array, jax.Array]:
        """The examples and labels of batch number `index`, one of these K."""
        place = jnp.asarray(index, jnp.int32) - self.first
        return self.examples[place], self.labels[place]


Data: TypeAlias = Resident | Block


def batch_at(
    data: Data,
    batch_size: int,
    seed: jax.Array | int,
    index: jax.Array | int,
    update: jax.Array | int | None = None,
) -> Batch:
    """Batch number `index` of the run with this seed.

    Args:
      data: On the devices.
      batch_size: B.
      seed: Of the run, below 2**32.
      index: From 0.
      update: Which update of the discriminator it is for; by default each batch is for its own.
    """
    examples, labels = data.draw(batch_size, seed, index)
    return Batch(
        examples=split_batch(to_float(examples)),
        labels=split_batch(labels),
        update=jnp.asarray(index if update is None else update, jnp.int32),
    )


def indices_at(
    size: int, batch_size: int, seed: jax.Array | int, index: jax.Array | int
) -> jax.Array:
    """Which examples of a dataset of `size` make up batch number `index`: int32 `[B]`."""
    check_indices(size, batch_size)
    return _indices_at(size, batch_size, jnp.asarray(seed, jnp.uint32), index)


def indices_of(
    size: int, batch_size: int, seed: jax.Array | int, first: int, count: int
) -> jax.Array:
    """`indices_at` of `count` batches from `first` on: int32 `[count, B]`."""
    check_indices(size, batch_size)
    numbers = jnp.arange(first, first + count, dtype=jnp.uint32)
    each = jax.vmap(_indices_at, (None, None, None, 0))
    return each(size, batch_size, jnp.asarray(seed, jnp.uint32), numbers)


@partial(jax.jit, static_argnames=("size", "batch_size"))
def _indices_at(size: int, batch_size: int, seed: jax.Array, index: jax.Array | int) -> jax.Array:
    index = jnp.asarray(index, jnp.uint32)
    # index B + j = (index // N) N B + (index % N) B + j, without overflow.
    rest = (index % size) * np.uint32(batch_size) + jnp.arange(batch_size, dtype=jnp.uint32)
    epoch = (index // size) * np.uint32(batch_size) + rest // size
    return permute(rest % size, size, _mix(epoch ^ _mix(seed))).astype(jnp.int32)


def check_indices(size: int, batch_size: int) -> None:
    """Raises UsageError where the indices would not fit into 32 bits."""
    if size * batch_size >= 2**32:
        raise UsageError(
            f"batch_size = {batch_size} is too large for {size} examples: "
            f"at most {(2**32 - 1) // size}"
        )


def permute(places: jax.Array, size: int, key: jax.Array) -> jax.Array:
    """Sends places in [0, size) to places in [0, size), one to one for each key.

    Args:
      places: uint32, any shape.
      size: At most 2**32.
      key: uint32, of the shape of `places`; each key is a permutation of its own.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)  # bits on each side
    mask = np.uint32(2**half - 1)

    def feistel(x: jax.Array) -> jax.Array:
        left, right = x >> half, x & mask
        for turn in range(_ROUNDS):
            noise = _mix(right ^ _mix(key + np.uint32(turn * 0x9E3779B9 % 2**32)))
            left, right = right, left ^ (noise & mask)
        return (left << half) | right

    def outside(x: jax.Array) -> jax.Array:
        return jnp.any(x >= size)

    def walk(x: jax.Array) -> jax.Array:
        return jnp.where(x >= size, feistel(x), x)

    return jax.lax.while_loop(outside, walk, feistel(places))


def _mix(x: jax.Array | np.uint32) -> jax.Array:
    """Mixes the 32 bits of each number (the finalizer of MurmurHash3, by Austin Appleby)."""
    x = jnp.asarray(x, jnp.uint32)
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
