"""Changes to real images that leave them as real as they were."""

import abc
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from gan.specs import Registry


class Augmentation(abc.ABC):
    """A random change to every image of a batch, which the discriminator then takes for real."""

    @abc.abstractmethod
    def __call__(self, images: jax.Array, key: jax.Array) -> jax.Array:
        """Changes images `[B, H, W, C]`."""


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation", Augmentation)


@AUGMENTATIONS.register("flip")
@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors images left to right: right for photos, and wrong for digits and letters.

    Attributes:
      share: Of the images that are mirrored, in [0, 1].
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be in [0, 1], given {self.share}")

    def __call__(self, images: jax.Array, key: jax.Array) -> jax.Array:  # noqa: D102
        mirrored = jax.random.bernoulli(key, self.share, [len(images), 1, 1, 1])
        return jnp.where(mirrored, images[:, :, ::-1], images)
