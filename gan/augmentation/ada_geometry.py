"""Geometric changes of ADA: one affine map of an image, resampled with care for its frequencies.

Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020,
appendix B; the numbers are those of the authors' code (NVlabs/stylegan2-ada-pytorch).
"""

import functools
import math
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gan.augmentation.ada_filters import EDGE, downsampling, upsampling

_EXACT = "highest"  # of products of matrices: a GPU may keep 10 bits of the factors else
Number: TypeAlias = jax.Array | float
Size: TypeAlias = tuple[int, int]


class Geometry(NamedTuple):
    """What is done to one image, in this order; x is to the right and y downwards.

    Attributes:
      flip: 1 mirrors it left to right, 0 does not.
      turns: Quarter turns anticlockwise.
      shift: Whole pixels (x, y) by which it moves.
      scale: Factor of its size.
      rotation: Angle by which it is rotated, anticlockwise.
      stretch: Factor of its width; its height is divided by it.
      rotation_after: Angle by which it is rotated then.
      move: Pixels (x, y) by which it moves.
    """

    flip: Number = 0.0
    turns: Number = 0.0
    shift: jax.Array | tuple[float, float] = (0.0, 0.0)
    scale: Number = 1.0
    rotation: Number = 0.0
    stretch: Number = 1.0
    rotation_after: Number = 0.0
    move: jax.Array | tuple[float, float] = (0.0, 0.0)

    def inverse(self) -> jax.Array:
        """Returns the matrix `[3, 3]` from (x, y, 1) of a place to that where its colour is from.

        Places are in pixels from the middle of the image.
        """
        steps = [
            _scaling(1 - 2 * jnp.asarray(self.flip), 1.0),
            _rotation(math.pi / 2 * jnp.asarray(self.turns)),
            _translation(-self.shift[0], -self.shift[1]),
            _scaling(1 / self.scale, 1 / self.scale),
            _rotation(self.rotation),
            _scaling(1 / self.stretch, self.stretch),
            _rotation(self.rotation_after),
            _translation(-self.move[0], -self.move[1]),
        ]
        return functools.reduce(functools.partial(jnp.matmul, precision=_EXACT), steps)


def resample(images: jax.Array, inverses: jax.Array) -> jax.Array:
    """Moves images `[B, H, W, C]`, each as its matrix of `inverses` `[B, 3, 3]` says.

    An image and its endless reflections are upsampled to half-pixels by the wavelet sym6, sampled
    with bilinear interpolation there, and downsampled by the same wavelet. (The authors' code
    reflects at most one image to each side: what is farther away is 0 there.) H and W are at least
    2, and `inverses` come from `Geometry.inverse`.
    """
    height, width = size = images.shape[1:3]
    up, down = map(upsampling, size), map(downsampling, size)
    fine = jnp.einsum("bhwc,uh,vw->buvc", images, *up, precision=_EXACT)
    points = _sample((height, width), fine, inverses)
    return jnp.einsum("buvc,hu,wv->bhwc", points, *down, precision=_EXACT)


# Two linear maps of arrays, each the transpose of the other. What autodiff derives from the first
# takes four times as long as `_spread` on a CPU.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sample(size: Size, fine: jax.Array, inverses: jax.Array) -> jax.Array:
    """Computes points `[B, 2 H + 2 EDGE, 2 W + 2 EDGE, C]` from half-pixels.

    Args:
      size: (H, W).
      fine: One period of the half-pixels, `[B, 4 (H - 1), 4 (W - 1), C]`.
      inverses: `[B, 3, 3]`.
    """

    def mix(pixels: jax.Array, inverse: jax.Array) -> jax.Array:
        pixels = pixels.reshape(-1, pixels.shape[2])
        points = [
            weight[:, :, None] * pixels.at[place].get(mode="promise_in_bounds")
            for place, weight in _taps(size, inverse)
        ]
        return sum(points[1:], points[0])

    return jax.vmap(mix)(fine, inverses)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _spread(size: Size, points: jax.Array, inverses: jax.Array) -> jax.Array:
    """Computes half-pixels from points: the transpose of `_sample`."""
    height, width = (4 * (side - 1) for side in size)

    def add(points: jax.Array, inverse: jax.Array) -> jax.Array:
        pixels = jnp.zeros([height * width, points.shape[2]], points.dtype)
        for place, weight in _taps(size, inverse):  # flat, which is faster on a CPU
            updates = (weight[:, :, None] * points).reshape(-1, points.shape[2])
            pixels = pixels.at[place.reshape(-1)].add(updates, mode="promise_in_bounds")
        return pixels.reshape(height, width, -1)

    return jax.vmap(add)(points, inverses)


def _set_derivative(linear: Any, transpose: Any) -> None:
    """Sets the derivative of a linear map; of the matrices it has none."""

    def forward(size: Size, values: jax.Array, inverses: jax.Array) -> tuple[jax.Array, jax.Array]:
        return linear(size, values, inverses), inverses

    def backward(size: Size, inverses: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, None]:
        return transpose(size, cotangent, inverses), None

    linear.defvjp(forward, backward)


_set_derivative(_sample, _spread)
_set_derivative(_spread, _sample)


def _taps(size: Size, inverse: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Returns of which four half-pixels each point of an image is a mixture, with their weights.

    The points are the half-pixels of the result that its downsampling needs, `[2 H + 2 EDGE, 2 W + 2
    EDGE]`; a half-pixel is a place in the flat array of one period.
    """
    height, width = size
    x = jnp.arange(-EDGE, 2 * width + EDGE) - (width - 1.0)  # half-pixels from the middle
    y = jnp.arange(-EDGE, 2 * height + EDGE)[:, None] - (height - 1.0)

    def along(row: jax.Array, side: int) -> list[tuple[jax.Array, jax.Array]]:
        """Returns the half-pixels before and after each point on an axis, with their weights."""
        place = row[0] * x + row[1] * y + 2 * row[2] + (side - 1.0)
        before, period = jnp.floor(place), 4 * (side - 1)
        first = before.astype(jnp.int32) % period
        return [(first, 1 - (place - before)), ((first + 1) % period, place - before)]

    stride = 4 * (width - 1)
    return [
        (row * stride + column, down * across)
        for row, down in along(inverse[1], height)
        for column, across in along(inverse[0], width)
    ]


def _translation(x: Number, y: Number) -> jax.Array:
    return _matrix([1, 0, x], [0, 1, y])


def _scaling(x: Number, y: Number) -> jax.Array:
    return _matrix([x, 0, 0], [0, y, 0])


def _rotation(angle: Number) -> jax.Array:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _matrix([cos, -sin, 0], [sin, cos, 0])


def _matrix(*rows: list[Number]) -> jax.Array:
    return jnp.array([*rows, [0, 0, 1]], jnp.float32)
