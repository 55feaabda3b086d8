"""Convolutions as operations at which XLA is fast on a CPU.

XLA's CPU backend is fast at a plain convolution in the layout ('NHWC', 'HWIO', 'NHWC'), but 3 to
300 times slower than necessary at those that autodiff derives from it (dilated inputs, unusual
layouts, groups), especially inside a loop. Therefore:

- a 1x1 convolution with stride 1 is a product of two matrices;
- any other is a plain convolution in that layout, in which channels may stand for something else;
- groups are convolved one after the other;
- of XLA's two libraries, YNNPACK runs convolutions that sum few products for each output, and Eigen
  those that sum many, such as the gradient of a kernel.
"""

import contextlib
import functools
import math
import pathlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gan.models.geometry import Geometry, Size

LAYOUT = ("NHWC", "HWIO", "NHWC")
_MAX_UNROLLED_GROUPS = 31  # more groups are convolved in a loop
_MIN_PHASE_CHANNELS = 16  # fewer are not worth a convolution for each phase


def convolve(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """Computes `gan.models.convolutions.convolve`."""
    return _by_group(_convolve, geometry, x, w)


def input_gradient(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    """Computes `gan.models.convolutions.input_gradient`."""
    return _by_group(_input_gradient, geometry, y, w)


def kernel_gradient(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """Computes `gan.models.convolutions.kernel_gradient`."""
    return _by_group(_kernel_gradient, geometry, x, y)


def _by_group(
    form: Callable[[Geometry, jax.Array, jax.Array], jax.Array],
    geometry: Geometry,
    a: jax.Array,
    b: jax.Array,
) -> jax.Array:
    """Applies a form to each group; groups split the last axis of x, of w and of y alike."""
    groups, lower = geometry.groups, partial(form, geometry._replace(groups=1))
    if groups == 1:
        return lower(a, b)
    if groups <= _MAX_UNROLLED_GROUPS:
        parts = zip(jnp.split(a, groups, -1), jnp.split(b, groups, -1), strict=True)
        return jnp.concatenate([lower(*part) for part in parts], -1)

    def groups_first(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)

    results = lax.map(lambda part: lower(*part), (groups_first(a), groups_first(b)))
    results = jnp.moveaxis(results, 0, -2)
    return results.reshape(*results.shape[:-2], -1)


def _convolve(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    if geometry.pointwise:
        return x @ w[0, 0]
    return _plain_convolution(x, w, geometry.padding, stride=geometry.stride)


def _plain_convolution(
    x: jax.Array,
    w: jax.Array,
    padding: Sequence[Size],
    *,
    stride: Size = (1, 1),
    dilation: Size = (1, 1),
) -> jax.Array:
    """Convolves with whichever library is faster.

    XLA gives YNNPACK every convolution that it supports, and it supports no dilated input. Dilating
    the rows of image, kernel and stride alike selects Eigen; no zero is ever multiplied. Negative padding
    is cut off before: YNNPACK (jaxlib 0.10 to 0.12) reads past the image's end where it stands
    before the image and zeros stand after it.
    """
    (before, after), (left, right) = padding
    x = x[:, max(-before, 0) : x.shape[1] - max(-after, 0)]
    x = x[:, :, max(-left, 0) : x.shape[2] - max(-right, 0)]
    padding = [(max(low, 0), max(high, 0)) for low, high in padding]
    row_dilation = 2 if math.prod(w.shape[:3]) >= _min_eigen_products() else 1
    (top, bottom), left_right = padding
    return lax.conv_general_dilated(
        x,
        w,
        (row_dilation * stride[0], stride[1]),
        ((row_dilation * top, row_dilation * bottom), left_right),
        lhs_dilation=(row_dilation, 1),
        rhs_dilation=(row_dilation * dilation[0], dilation[1]),
        dimension_numbers=LAYOUT,
    )


@functools.cache
def _min_eigen_products() -> int:
    """Returns from how many products on, summed for each output, Eigen is faster; measured on two processors."""
    on_amd = False
    with contextlib.suppress(OSError):
        on_amd = "AuthenticAMD" in pathlib.Path("/proc/cpuinfo").read_text()
    return 200 if on_amd else 800  # EPYC (Zen 4); Xeon


def _input_gradient(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    if geometry.pointwise:
        return y @ w[0, 0].T
    if w.shape[2] < _MIN_PHASE_CHANNELS:
        return input_gradient_at_once(geometry, y, w, convolve)
    return _input_gradient_by_phases(geometry, y, w)


class Phase(NamedTuple):
    """Every stride-th pixel of x along one axis, which is a stride-1 convolution of y.

    Attributes:
      taps: Elements of the kernel along this axis, last first, that contribute to these pixels.
      padding: Number of zeros before and after y; a negative number crops.
    """

    taps: slice
    padding: Size


def _phases(geometry: Geometry, axis: int) -> list[Phase]:
    """Returns a phase for each pixel of a stride; all are ceil(image / stride) pixels long."""
    stride, (low, _) = geometry.stride[axis], geometry.padding[axis]
    size, length = max(geometry.kernel[axis], stride), geometry.output[axis]
    phases = []
    for first in range(stride):
        # Pixel first + q stride of x is pixel tap + (q + shift) stride of the padded x.
        shift, tap = divmod(first + low, stride)
        num_taps = (size - tap - 1) // stride + 1
        num_pixels = math.ceil(geometry.image[axis] / stride)
        last = tap + (num_taps - 1) * stride
        padding = (num_taps - 1 - shift, num_pixels + shift - length)
        phases.append(Phase(slice(last, None, -stride), padding))
    return phases


def _input_gradient_by_phases(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    """Convolves y once for each phase, and interleaves the results."""
    spare = [(0, max(0, s - k)) for s, k in zip(geometry.stride, geometry.kernel, strict=True)]
    w = jnp.pad(w, [*spare, (0, 0), (0, 0)]).swapaxes(2, 3)  # [h, w, C', C]

    def pixels(row: Phase, column: Phase) -> jax.Array:
        return _plain_convolution(y, w[row.taps, column.taps], (row.padding, column.padding))

    rows, columns = _phases(geometry, 0), _phases(geometry, 1)
    x = jnp.stack([jnp.stack([pixels(r, c) for c in columns], 3) for r in rows], 2)
    # x is [N, H / sh, sh, W / sw, sw, C].
    _, qh, sh, qw, sw, channels = x.shape
    height, width = geometry.image
    return x.reshape(-1, qh * sh, qw * sw, channels)[:, :height, :width]


def input_gradient_at_once(
    geometry: Geometry,
    y: jax.Array,
    w: jax.Array,
    convolve: Callable[[Geometry, jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """Convolves y once, with the phases as channels; faster if x has few channels.

    Padding shifts some phases by a pixel, so that one more row and column are computed than used.
    """
    (sh, sw), channels = geometry.stride, w.shape[2]
    taps = [math.ceil(k / s) for k, s in zip(geometry.kernel, geometry.stride, strict=True)]
    spare = [(0, t * s - k) for t, s, k in zip(taps, geometry.stride, geometry.kernel, strict=True)]
    kh, kw = taps
    w = jnp.pad(w, [*spare, (0, 0), (0, 0)]).reshape(kh, sh, kw, sw, channels, -1)
    w = w[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)  # [kh, kw, C', sh, sw, C]
    w = w.reshape(kh, kw, y.shape[-1], sh * sw * channels)
    # Pixel q stride + phase of the padded x comes from y[q - kh + 1 .. q].
    lengths = [
        math.ceil((size + low) / s)
        for size, (low, _), s in zip(geometry.image, geometry.padding, geometry.stride, strict=True)
    ]
    padding = [
        (t - 1, length - out) for t, length, out in zip(taps, lengths, geometry.output, strict=True)
    ]
    small = Geometry((y.shape[1], y.shape[2]), (kh, kw), (1, 1), (padding[0], padding[1]))
    x = convolve(small, y, w)
    qh, qw = lengths
    x = x.reshape(-1, qh, qw, sh, sw, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(-1, qh * sh, qw * sw, channels)
    (top, _), (left, _) = geometry.padding
    height, width = geometry.image
    return x[:, top : top + height, left : left + width]


def _kernel_gradient(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """Convolves x with y; batch and channels swap their places, as the batch is summed over.

    The channels of x lie side by side within a row, so that moving its axes transposes one matrix.
    """
    if geometry.pointwise:
        w = lax.dot_general(_pixels(x), _pixels(y), (((0,), (0,)), ((), ())))
        return w[None, None]
    channels, (height, width) = x.shape[-1], geometry.kernel
    (sh, sw), (rows, (left, right)) = geometry.stride, geometry.padding
    w = _plain_convolution(
        x.transpose(1, 2, 3, 0).reshape(1, geometry.image[0], -1, len(x)),  # [1, H, W C, N]
        y.transpose(1, 2, 0, 3),  # [H', W', N, C']
        (rows, (left * channels, right * channels)),
        dilation=(sh, sw * channels),
    )  # [1, >= h, >= w C, C'], longer than the kernel if the stride leaves pixels unused
    return w[0, :height, : width * channels].reshape(height, width, channels, -1)


def _pixels(x: jax.Array) -> jax.Array:
    """Flattens `[N, H, W, C]` to `[N H W, C]`."""
    return x.reshape(-1, x.shape[-1])
