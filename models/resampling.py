"""Resampling of images with a filter, alone and together with a convolution.

The conventions are those of StyleGAN2's `upfirdn2d`: zeros are inserted (`up`), zeros are added around
or pixels cropped (`padding`), the image is convolved with the filter, and every `down`-th pixel is kept
(github.com/NVlabs/stylegan2-ada-pytorch, torch_utils/ops/upfirdn2d.py; along one axis it is
`scipy.signal.upfirdn`). A filter is given by its taps, the same along both axes; their sum does not
matter, as they are divided by it. Everything is computed in float32, and returned in the type of the
image.

The transpose of such an operation is another one, with the taps reversed and `up` and `down` swapped, and
hence so is its derivative. Depthwise convolutions, and what autodiff makes of slices, are several times
slower on a CPU.
"""

import math
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from gan.models.convolutions import convolve, input_gradient
from gan.models.geometry import Geometry, Size
from gan.precision import at_least_float32

Taps: TypeAlias = tuple[float, ...]

BILINEAR: Taps = (1.0, 3.0, 3.0, 1.0)
"""Doubles or halves an image by linear interpolation; the filter of StyleGAN2's networks."""


def resample(
    x: jax.Array,
    taps: Taps,
    *,
    up: int = 1,
    down: int = 1,
    padding: Size = (0, 0),
    gain: float = 1.0,
) -> jax.Array:
    """Inserts zeros, pads, filters and drops pixels along both axes.

    Along each, n pixels become (n up + padding - len(taps)) // down + 1.

    Args:
      x: Images `[B, H, W, C]`.
      taps: The filter; its sum must not be 0.
      up: Each pixel is followed by `up - 1` zeros.
      down: Every `down`-th pixel is kept.
      padding: Zeros before and after the image with its inserted ones; a negative number crops.
      gain: The result is multiplied by it.

    Raises:
      ValueError: where no pixel would be left.
    """
    rows, columns = (
        _Filter(axis, x.shape[axis], taps, up, down, padding, math.sqrt(gain)) for axis in (1, 2)
    )
    if min(rows.length, columns.length) < 1:
        raise ValueError(
            f"an image of {x.shape[1]} x {x.shape[2]} pixels is too small for padding {padding} and a "
            f"filter of {len(taps)} taps"
        )
    return _filtered((rows, columns), at_least_float32(x)).astype(x.dtype)


def smooth(x: jax.Array, taps: Taps = BILINEAR) -> jax.Array:
    """Filters `[B, H, W, C]` to the same shape, with zeros around the image."""
    return resample(x, taps, padding=(len(taps) // 2, (len(taps) - 1) // 2))


def upsample(x: jax.Array, taps: Taps = BILINEAR) -> jax.Array:
    """Doubles `[B, H, W, C]` to `[B, 2H, 2W, C]`; a constant image keeps its values."""
    padding = ((len(taps) + 1) // 2, (len(taps) - 2) // 2)
    return resample(x, taps, up=2, padding=padding, gain=4.0)


def downsample(x: jax.Array, taps: Taps = BILINEAR) -> jax.Array:
    """Halves `[B, H, W, C]` to `[B, H / 2, W / 2, C]`, for even H and W."""
    return resample(x, taps, down=2, padding=((len(taps) - 1) // 2, (len(taps) - 2) // 2))


def upsampling_convolution(x: jax.Array, kernel: jax.Array, taps: Taps = BILINEAR) -> jax.Array:
    """Convolves a doubled image, `[B, H, W, C]` to `[B, 2H, 2W, C']`.

    A transposed convolution with stride 2 comes first, the filter after it, so that no product with a
    zero is computed. Fused with the filter into a kernel of 6x6 it would need four times the products.

    Args:
      x: Images.
      kernel: `[k, k, C, C']` with an odd k; it is applied as it is, not flipped: pixel i adds to pixels
        2i + k of the doubled image, as in PyTorch's `conv_transpose2d`.
      taps: The filter.
    """
    size = kernel.shape[0]
    before, after = size // 2 + (len(taps) + 1) // 2, size // 2 + (len(taps) - 2) // 2
    if size == 1:
        return upsample(convolve(Geometry(_size(x), (1, 1), (1, 1), _NO_PADDING), x, kernel), taps)
    height, width = (2 * (side - 1) + size for side in _size(x))
    geometry = Geometry((height, width), (size, size), (2, 2), _NO_PADDING)
    y = input_gradient(geometry, x, kernel.swapaxes(2, 3))
    return resample(y, taps, padding=(before - (size - 1), after - (size - 2)), gain=4.0)


def downsampling_convolution(x: jax.Array, kernel: jax.Array, taps: Taps = BILINEAR) -> jax.Array:
    """Convolves and halves an image, `[B, H, W, C]` to `[B, H / 2, W / 2, C']`, for even H and W.

    The filter comes first, then a convolution with stride 2; where the kernel is 1x1, the filter keeps
    only the pixels that are needed.

    Args:
      x: Images.
      kernel: `[k, k, C, C']` with an odd k.
      taps: The filter.
    """
    size = kernel.shape[0]
    if size == 1:
        x, stride = downsample(x, taps), 1
    else:
        pad = size // 2
        x = resample(x, taps, padding=(pad + (len(taps) - 1) // 2, pad + (len(taps) - 2) // 2))
        stride = 2
    return convolve(Geometry(_size(x), (size, size), (stride, stride), _NO_PADDING), x, kernel)


_NO_PADDING = ((0, 0), (0, 0))


def _size(x: jax.Array) -> Size:
    return x.shape[1], x.shape[2]


class _Filter(NamedTuple):
    """What is done along one axis of an array; see `resample`.

    Attributes:
      axis: The axis.
      size: Its length.
      taps: The filter.
      up: Factor by which zeros are inserted.
      down: Of so many pixels one is kept.
      padding: Zeros before and after.
      gain: Factor of the result, along this axis.
    """

    axis: int
    size: int
    taps: Taps
    up: int
    down: int
    padding: Size
    gain: float

    @property
    def length(self) -> int:
        """Length of the axis afterwards."""
        return (self.size * self.up + sum(self.padding) - len(self.taps)) // self.down + 1

    @property
    def transposed(self) -> "_Filter":
        """The transpose, from `length` pixels to `size`."""
        before = len(self.taps) - 1 - self.padding[0]
        padding = (
            before,
            self.size * self.up - self.length * self.down - before + len(self.taps) - self.up,
        )
        taps = self.taps[::-1]
        return _Filter(self.axis, self.length, taps, self.down, self.up, padding, self.gain)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _filtered(filters: tuple[_Filter, _Filter], x: jax.Array) -> jax.Array:
    """Applies the filters of the two axes; they commute."""
    rows, columns = filters
    return _along_axis(columns, _along_axis(rows, x))


_filtered.defvjp(
    lambda filters, x: (_filtered(filters, x), None),
    lambda filters, _, y: (_filtered((filters[0].transposed, filters[1].transposed), y),),
)


def _along_axis(f: _Filter, x: jax.Array) -> jax.Array:
    """Applies a filter along its axis.

    Pixel q up + r of the result, for each phase r, is a sum over those taps that meet a pixel of x, not
    an inserted zero: a few slices of x, with stride `down`.
    """
    count = -(-f.length // f.up)
    span = (count - 1) * f.down + 1
    phases: list[list[tuple[float, int]]] = []  # the taps of each, and which pixel they meet first
    for number in range(f.up):
        firsts = [divmod(number * f.down + i - f.padding[0], f.up) for i in range(len(f.taps))]
        pairs = zip(f.taps[::-1], firsts, strict=True)
        phases.append([(tap, first) for tap, (first, inserted) in pairs if tap and not inserted])
    met = [first for phase in phases for _, first in phase]
    low, high = max(0, -min(met, default=0)), max(0, max(met, default=0) + span - f.size)
    padded = jnp.pad(x, [(low, high) if i == f.axis else (0, 0) for i in range(x.ndim)])

    def read(first: int) -> jax.Array:
        return lax.slice_in_dim(padded, low + first, low + first + span, f.down, f.axis)

    sums = []
    for phase in phases:
        terms = [read(first) if tap == 1 else tap * read(first) for tap, first in phase]
        sums.append(sum(terms[1:], terms[0]) if terms else jnp.zeros_like(read(-low)))
    y = sums[0]
    if f.up > 1:
        shape = (*x.shape[: f.axis], count * f.up, *x.shape[f.axis + 1 :])
        y = jnp.stack(sums, f.axis + 1).reshape(shape)
    return lax.slice_in_dim(y, 0, f.length, 1, f.axis) / (sum(f.taps) / f.gain)
