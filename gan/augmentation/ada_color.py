"""Changes of colour and of frequencies of ADA, and its corruptions; each image has its own.

Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020,
appendix B; the numbers are those of the authors' code (NVlabs/stylegan2-ada-pytorch).
"""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gan.augmentation.ada_filters import band_matrices

Number: TypeAlias = jax.Array | float

_POWER = np.array([10, 1, 1, 1]) / 13
"""Share of each band in the power of an image, expected from the 1 / f spectrum of photos."""


class Colour(NamedTuple):
    """What is done to the colours of one image, in this order; scalars.

    Attributes:
      brightness: It is added.
      contrast: Factor of all.
      flip: 1 reverses the luma, the mean of red, green and blue; 0 does not.
      hue: Angle by which colours are rotated about the axis of greys.
      saturation: Factor of the distance from that axis.
    """

    brightness: Number = 0.0
    contrast: Number = 1.0
    flip: Number = 0.0
    hue: Number = 0.0
    saturation: Number = 1.0

    def affine(self) -> tuple[jax.Array, jax.Array]:
        """Returns a matrix `[3, 3]` and a scalar: a colour becomes their product and sum."""
        luma = jnp.full([3, 3], 1 / 3)  # projects on the axis of greys, v v^T with v = 1 / sqrt(3)
        chroma = jnp.eye(3) - luma
        turned = jnp.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)  # c -> v x c
        sign = 1 - 2 * jnp.asarray(self.flip)
        rotated = jnp.cos(self.hue) * chroma + jnp.sin(self.hue) * turned
        matrix = self.contrast * (sign * luma + self.saturation * rotated)
        return matrix, self.brightness * self.contrast * sign


def recolour(images: jax.Array, matrices: jax.Array, offsets: jax.Array) -> jax.Array:
    """Changes images `[B, H, W, C]`, C 3 or 1, by what `Colour.affine` says: `[B, 3, 3]` and `[B]`.

    Grey images are taken for coloured ones, and the mean of the result is grey again.
    """
    columns = matrices[:, None, None]  # [B, 1, 1, 3, 3]
    if images.shape[3] == 1:
        columns = columns.sum(axis=(3, 4), keepdims=True) / 3
    mixed = [images[..., c, None] * columns[..., c] for c in range(images.shape[3])]
    return sum(mixed, offsets[:, None, None, None])


def band_gains(factors: jax.Array) -> jax.Array:
    """Returns the gain `[4]` of each band, from the factor `[4]` by which each is amplified.

    One after the other is amplified, and each time the expected power of the image stays.
    """
    amplified = jnp.where(jnp.eye(4, dtype=bool), factors[:, None], 1.0)  # [which, band]
    power = jnp.sum(_POWER * amplified**2, axis=1, keepdims=True)
    return jnp.prod(amplified / jnp.sqrt(power), axis=0)


def filter_bands(images: jax.Array, gains: jax.Array) -> jax.Array:
    """Filters the rows and columns of images `[B, H, W, C]`, by gains `[B, 4]` of four bands."""
    down, along = (
        jnp.einsum("bk,kij->bij", gains, band_matrices(size), precision="highest")
        for size in images.shape[1:3]
    )
    return jnp.einsum("bij,bjwc,bvw->bivc", down, images, along, precision="highest")


def cut_out(image: jax.Array, centre: jax.Array, size: Number) -> jax.Array:
    """Sets a rectangle of an image `[H, W, C]` to 0.

    Args:
      image: The image.
      centre: Where the middle of the rectangle is down and along the image, `[2]` in [0, 1].
      size: Its height and width, as shares of the image's.
    """
    down, along = (
        jnp.abs((jnp.arange(side) + 0.5) / side - middle) < size / 2
        for side, middle in zip(image.shape[:2], centre, strict=True)
    )
    return jnp.where((down[:, None] & along)[:, :, None], 0.0, image)
