"""Datasets, examples and batches, wherever they come from."""

import hashlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from gan.errors import UsageError
from gan.registry import Registry

_MOST_CLASSES = 1_000_000
_HASHES: dict[int, Any] = {}  # of images that are mapped from files, as long as they are in use


@dataclass(frozen=True)
class Mixture:
    """A uniform mixture of isotropic Gaussians, from which the points of a toy dataset are drawn.

    Attributes:
      means: Means of the Gaussians, `[modes, D]`.
      std: Standard deviation in every direction.
    """

    means: np.ndarray
    std: float


class Examples(NamedTuple):
    """Real examples with their labels, in memory or mapped from files.

    Attributes:
      examples: uint8 images `[N, H, W, C]`, or float32 points `[N, D]`.
      labels: int32 `[N]`.
    """

    examples: np.ndarray
    labels: np.ndarray

    @property
    def nbytes(self) -> int:
        """Size of examples and labels in bytes."""
        return self.examples.nbytes + self.labels.nbytes


@dataclass(frozen=True)
class Dataset:
    """A dataset that is described, but not read yet.

    Attributes:
      name: Name for messages.
      shape: Shape of one example, (H, W, C) or (D,).
      num_classes: Number of classes; labels are in [0, num_classes).
      load: Reads the examples; raises UsageError, with what to do about it, if they are missing.
      mixture: The distribution of the examples, if it is known.
      tfds_name: TFDS name of a dataset that TFDS must prepare first, else None.
      class_names: The name of each class; none where the classes are just numbers.
      notes: What was changed or left out when the examples were made of files, each a line.
    """

    name: str
    shape: tuple[int, ...]
    num_classes: int
    load: Callable[[], Examples]
    mixture: Mixture | None = None
    tfds_name: str | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_classes > _MOST_CLASSES:
            raise UsageError(
                f"dataset {self.name}: it has {self.num_classes:,} classes, {_MOST_CLASSES:,} are "
                f"accepted; labels are numbers from 0, without large gaps"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class; its number where it has no other."""
        return self.class_names or tuple(map(str, range(self.num_classes)))


@struct.dataclass
class Batch:
    """Examples in the form that networks take.

    Attributes:
      examples: float32 `[B, *shape]`; images in [-1, 1].
      labels: int32 `[B]`.
      update: Number of the discriminator update that the batch is for, an int32 scalar from 0.
    """

    examples: jax.Array
    labels: jax.Array
    update: jax.Array


def to_float(examples: jax.Array) -> jax.Array:
    """Converts uint8 images to float32 in [-1, 1]; returns points unchanged."""
    return examples.astype(jnp.float32) / 127.5 - 1 if examples.dtype == jnp.uint8 else examples


def to_uint8(images: jax.Array) -> jax.Array:
    """Rounds images in [-1, 1] to the nearest uint8; clips what lies outside."""
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)


def data_digest(examples: Examples) -> str:
    """Computes the SHA-256 of all examples and labels."""
    array, labels = examples
    if (total := _HASHES.get(id(array))) is None:
        total = hashlib.sha256(f"{array.shape} {array.dtype}".encode())
        for begin in range(0, len(labels), 1_000):
            total.update(array[begin : begin + 1_000].tobytes())
        # What is mapped may be large: once is enough.
        if isinstance(array, np.memmap) and not array.flags.writeable:
            _HASHES[id(array)] = total
            weakref.finalize(array, _HASHES.pop, id(array))
    total = total.copy()
    total.update(labels.tobytes())
    return total.hexdigest()


def check_examples(dataset: Dataset, examples: Examples) -> None:
    """Checks that what was read is what the dataset says of itself.

    Raises:
      UsageError: for another type, shape or range.
    """
    images, labels = examples
    wanted = np.uint8 if len(dataset.shape) == 3 else np.float32
    shape = (len(labels), *dataset.shape)
    if images.dtype != wanted or images.shape != shape:
        raise UsageError(
            f"dataset {dataset.name}: examples must be {np.dtype(wanted)} {list(shape)}, and load "
            f"returned {images.dtype} {list(images.shape)}"
        )
    if labels.ndim != 1 or labels.dtype != np.int32 or not len(labels):
        raise UsageError(
            f"dataset {dataset.name}: labels must be int32 [N], one for each example, and load "
            f"returned {labels.dtype} {list(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() >= dataset.num_classes:
        raise UsageError(
            f"dataset {dataset.name}: labels must be in [0, {dataset.num_classes}), and are from "
            f"{labels.min()} to {labels.max()}"
        )


DATASETS: Registry[Dataset] = Registry("dataset", Dataset, context=("data_dir",))
