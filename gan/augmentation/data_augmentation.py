"""Random changes to real images that leave them as real as they were."""

import abc
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from gan.argument_bounds import BoundedFields, Within
from gan.registry import Registry


class DataAugmentation(BoundedFields, abc.ABC):
    """A random change to every image of a batch; the discriminator takes the result for real."""

    @abc.abstractmethod
    def __call__(self, images: jax.Array, key: jax.Array) -> jax.Array:
        """Changes images `[B, H, W, C]`."""


DATA_AUGMENTATIONS: Registry[DataAugmentation] = Registry("data augmentation", DataAugmentation)


@DATA_AUGMENTATIONS.register("flip")
@dataclass(frozen=True)
class Flip(DataAugmentation):
    """Mirrors images left to right: suits photos, but not digits and letters.

    Attributes:
      probability: Probability that an image is mirrored.
    """

    probability: Annotated[float, Within(0, 1)] = 0.5

    def __call__(self, images: jax.Array, key: jax.Array) -> jax.Array:  # noqa: D102
        mirrored = jax.random.bernoulli(key, self.probability, [len(images), 1, 1, 1])
        return jnp.where(mirrored, images[:, :, ::-1], images)
