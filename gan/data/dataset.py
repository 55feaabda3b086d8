"""What a dataset is, wherever it comes from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from gan.specs import Registry


@dataclass(frozen=True)
class Mixture:
    """An equal mixture of round Gaussians, from which the points of a toy dataset were drawn.

    Attributes:
      means: [modes, D].
      std: Standard deviation in every direction.
    """

    means: np.ndarray
    std: float


class Examples(NamedTuple):
    """Real examples, in memory or mapped from files.

    Attributes:
      examples: uint8 images `[N, H, W, C]`, or float32 points `[N, D]`.
      labels: int32 `[N]`.
    """

    examples: np.ndarray
    labels: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return self.examples.nbytes + self.labels.nbytes


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset before it is read.

    Attributes:
      name: For people.
      shape: Of one example: (H, W, C), or (D,).
      num_classes: Labels are in [0, num_classes).
      load: Reads it; raises UsageError, and says what to do, where it is not there.
      mixture: The distribution itself, where it is known.
      tfds_name: What TFDS calls it, where TFDS has to prepare it first.
    """

    name: str
    shape: tuple[int, ...]
    num_classes: int
    load: Callable[[], Examples]
    mixture: Mixture | None = None
    tfds_name: str | None = None


@struct.dataclass
class Batch:
    """Examples as the networks see them.

    Attributes:
      examples: float32 `[B, *shape]`; images in [-1, 1].
      labels: int32 `[B]`.
      update: Which update of the discriminator it is for, an int32 scalar from 0.
    """

    examples: jax.Array
    labels: jax.Array
    update: jax.Array


def to_float(examples: jax.Array) -> jax.Array:
    """uint8 images to float32 in [-1, 1]; points as they are."""
    return examples.astype(jnp.float32) / 127.5 - 1 if examples.dtype == jnp.uint8 else examples


def to_uint8(images: jax.Array) -> jax.Array:
    """Images in [-1, 1] to the nearest uint8."""
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)


DATASETS: Registry[Dataset] = Registry("dataset", Dataset, context=("data_dir",))
