"""DiffAugment: a fixed list of random changes of what the discriminator sees.

Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020,
sections 3.2 and 4, with the ranges of the authors' code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan.augmentation.discriminator_augmentation import (
    DISCRIMINATOR_AUGMENTATIONS,
    DiscriminatorAugmentation,
)
from gan.errors import brief, nearest


def recolour(
    image: jax.Array, brightness: jax.Array, saturation: jax.Array, contrast: jax.Array
) -> jax.Array:
    """Adds to an image `[H, W, C]`, then scales it about each pixel's grey, then about its mean."""
    image = image + brightness
    grey = image.mean(axis=-1, keepdims=True)  # [H, W, 1]
    image = (image - grey) * saturation + grey
    mean = image.mean()
    return (image - mean) * contrast + mean


def translate(image: jax.Array, shift: jax.Array) -> jax.Array:
    """Moves what is at row i + shift[0], column j + shift[1] to (i, j); what enters is 0."""
    most = [size // 8 for size in image.shape[:2]]
    padded = jnp.pad(image, [(size, size) for size in most] + [(0, 0)])
    start = (shift[0] + most[0], shift[1] + most[1], 0)
    return jax.lax.dynamic_slice(padded, start, image.shape)


def cut_out(image: jax.Array, centre: jax.Array) -> jax.Array:
    """Sets a rectangle of half the height and width to 0, as far as it lies in the image."""
    hit = jnp.ones([1, 1], bool)
    for axis, size in enumerate(image.shape[:2]):
        first = centre[axis] - size // 2 // 2
        place = jnp.arange(size)
        inside = (first <= place) & (place < first + size // 2)
        hit &= jnp.expand_dims(inside, 1 - axis)
    return jnp.where(hit[:, :, None], 0, image)


def _random_colour(image: jax.Array, key: jax.Array) -> jax.Array:
    numbers = jax.random.uniform(key, [3]).astype(image.dtype)
    return recolour(image, numbers[0] - 0.5, 2 * numbers[1], numbers[2] + 0.5)


def _random_translation(image: jax.Array, key: jax.Array) -> jax.Array:
    most = np.array(image.shape[:2]) // 8
    return translate(image, _integers(key, -most, most + 1))


def _random_cutout(image: jax.Array, key: jax.Array) -> jax.Array:
    sizes = np.array(image.shape[:2])
    end = sizes + 1 - sizes // 2 % 2  # one place more for the centre of an even rectangle
    return cut_out(image, _integers(key, 0 * end, end))


def _integers(key: jax.Array, start: np.ndarray, end: np.ndarray) -> jax.Array:
    """Draws an integer of each range; it compiles in a third of the time of `randint`."""
    drawn = jax.random.uniform(key, start.shape) * (end - start)
    return jnp.floor(drawn).astype(jnp.int32) + start


CHANGES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "color": _random_colour,
    "translation": _random_translation,
    "cutout": _random_cutout,
}
"""What a policy can name: functions of an image `[H, W, C]` and a key."""


@DISCRIMINATOR_AUGMENTATIONS.register("diffaugment")
@dataclass(frozen=True)
class DiffAugment(DiscriminatorAugmentation):
    """All changes of a policy, on every image, at full strength from the first step on.

    `color` adds U(-0.5, 0.5), scales each pixel about its grey by U(0, 2) and all about their mean
    by U(0.5, 1.5); `translation` moves by up to an eighth of each side, and zeros enter; `cutout`
    sets a rectangle of half of each side to 0.

    Attributes:
      policy: Names of changes in their order, with commas between them.

    Zhao et al., NeurIPS 2020.
    """

    policy: str = "color,translation,cutout"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self._names:
            if name not in CHANGES:
                hint = nearest(name, CHANGES) or f"; known: {', '.join(CHANGES)}"
                raise ValueError(f"policy {brief(self.policy)}: unknown change {brief(name)}{hint}")

    @property
    def _names(self) -> list[str]:
        return [name.strip() for name in self.policy.split(",")]

    def __call__(self, images: jax.Array, state: Any, keys: jax.Array) -> jax.Array:  # noqa: D102
        def change(image: jax.Array, key: jax.Array) -> jax.Array:
            for place, name in enumerate(self._names):
                image = CHANGES[name](image, jax.random.fold_in(key, place))
            return image

        return jax.vmap(change)(images, keys)
