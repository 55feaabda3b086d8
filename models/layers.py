"""Convolutions that are as fast on a CPU as they are on a GPU, and differentiable as often as needed.

XLA's CPU backend is quick for a plain convolution in ('NHWC', 'HWIO', 'NHWC') layout, but 3 to 300
times too slow for the ones that autodiff makes of it (dilated inputs, unusual layouts, groups, more so
inside a loop). A convolution y = x * w is linear in x and in w, so its two derivatives are two more
such products, and the derivatives of those are again among the three:

    convolve(x, w) -> y,   convolve_input(y, w) -> x,   convolve_kernel(x, y) -> w.

On a CPU each is written so that XLA sees only what it is quick at:

- a 1x1 convolution with stride 1 is a product of two matrices;
- any other is a plain convolution in that layout, whose channels may stand for something else;
- groups are convolved one after the other;
- of XLA's two libraries, YNNPACK takes a convolution that sums few products for each number, Eigen
  one that sums many, as the gradient of a kernel does.

Off the CPU the native lowering is used, groups and all. docs/performance.md has the figures.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_MANY_GROUPS = 32  # so many are no longer written out one by one
_FEW_CHANNELS = 16  # fewer are not worth a convolution for each phase
_LONG_SUM = 800  # of so many products: Eigen's
Size: TypeAlias = tuple[int, int]
Initializer: TypeAlias = nn.initializers.Initializer


class Geometry(NamedTuple):
    """What fixes a convolution besides its arrays.

    Attributes:
      image: (H, W) of x.
      kernel: (h, w) of w.
      stride: Along H and W.
      padding: Zeros before and after, along H and W.
      groups: Into how many the channels of x, and of y, are split; each is convolved by itself.
    """

    image: Size
    kernel: Size
    stride: Size
    padding: tuple[Size, Size]
    groups: int = 1

    @property
    def output(self) -> Size:
        """(H', W') of y."""
        height, width = (
            (size + sum(pad) - kernel) // stride + 1
            for size, kernel, stride, pad in zip(
                self.image, self.kernel, self.stride, self.padding, strict=True
            )
        )
        return height, width

    @property
    def pointwise(self) -> bool:
        """Whether each pixel of y comes from that of x alone."""
        return self.kernel == self.stride == (1, 1) and self.padding == ((0, 0), (0, 0))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolve(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """y[n, o, c'] = sum over k, c of x[n, o stride + k - pad, c] w[k, c, c'].

    Args:
      geometry: Sizes, stride, padding and groups.
      x: `[N, H, W, C]`.
      w: `[h, w, C / groups, C']`.

    Returns:
      y: `[N, H', W', C']`.
    """
    return _by_platform(_convolve_on_cpu, _native, geometry, x, w)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolve_input(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    """The transpose of `convolve` in x: y and w to `[N, H, W, C]`."""
    return _by_platform(_input_on_cpu, _native_input, geometry, y, w)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolve_kernel(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """The transpose of `convolve` in w: x and y to `[h, w, C / groups, C']`."""
    return _by_platform(_kernel_by_swap, _native_kernel, geometry, x, y)


def _forward(function: Any) -> Any:
    return lambda geometry, a, b: (function(geometry, a, b), (a, b))


def _convolve_backward(geometry: Geometry, arrays: Any, dy: jax.Array) -> Any:
    x, w = arrays
    return convolve_input(geometry, dy, w), convolve_kernel(geometry, x, dy)


def _input_backward(geometry: Geometry, arrays: Any, dx: jax.Array) -> Any:
    y, w = arrays
    return convolve(geometry, dx, w), convolve_kernel(geometry, dx, y)


def _kernel_backward(geometry: Geometry, arrays: Any, dw: jax.Array) -> Any:
    x, y = arrays
    return convolve_input(geometry, y, dw), convolve(geometry, x, dw)


convolve.defvjp(_forward(convolve), _convolve_backward)
convolve_input.defvjp(_forward(convolve_input), _input_backward)
convolve_kernel.defvjp(_forward(convolve_kernel), _kernel_backward)

Lowering: TypeAlias = Callable[[Geometry, jax.Array, jax.Array], jax.Array]


def _by_platform(
    cpu: Lowering, native: Lowering, geometry: Geometry, a: jax.Array, b: jax.Array
) -> jax.Array:
    return lax.platform_dependent(
        a, b, cpu=partial(_each_group, cpu, geometry), default=partial(native, geometry)
    )


def _each_group(function: Lowering, geometry: Geometry, a: jax.Array, b: jax.Array) -> jax.Array:
    """Groups are parts of the last axis, of x, w and y alike."""
    groups, one = geometry.groups, partial(function, geometry._replace(groups=1))
    if groups == 1:
        return one(a, b)
    if groups < _MANY_GROUPS:
        parts = zip(jnp.split(a, groups, -1), jnp.split(b, groups, -1), strict=True)
        return jnp.concatenate([one(*part) for part in parts], -1)

    def first(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)

    y = jnp.moveaxis(lax.map(lambda part: one(*part), (first(a), first(b))), 0, -2)
    return y.reshape(*y.shape[:-2], -1)


def _native(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        geometry.stride,
        geometry.padding,
        dimension_numbers=_LAYOUT,
        feature_group_count=geometry.groups,
    )


def _native_input(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    shape = (len(y), *geometry.image, w.shape[2] * geometry.groups)
    x = jax.ShapeDtypeStruct(shape, y.dtype)
    return jax.linear_transpose(lambda x: _native(geometry, x, w), x)(y)[0]


def _native_kernel(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    shape = (*geometry.kernel, x.shape[-1] // geometry.groups, y.shape[-1])
    w = jax.ShapeDtypeStruct(shape, x.dtype)
    return jax.linear_transpose(lambda w: _native(geometry, x, w), w)(y)[0]


def _convolve_on_cpu(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    if geometry.pointwise:
        return x @ w[0, 0]
    return _plain(x, w, geometry.padding, stride=geometry.stride)


def _plain(
    x: jax.Array,
    w: jax.Array,
    padding: Sequence[Size],
    *,
    stride: Size = (1, 1),
    dilation: Size = (1, 1),
) -> jax.Array:
    """A plain convolution, by the library that is faster at it."""
    spread = 1
    if math.prod(w.shape[:3]) >= _LONG_SUM:
        # By default YNNPACK takes all that it can, and it cannot take what has zeros between its rows.
        # Where image, kernel and stride are spread alike, no zero is ever multiplied.
        spread = 2
    (top, bottom), left_right = padding
    return lax.conv_general_dilated(
        x,
        w,
        (spread * stride[0], stride[1]),
        ((spread * top, spread * bottom), left_right),
        lhs_dilation=(spread, 1),
        rhs_dilation=(spread * dilation[0], dilation[1]),
        dimension_numbers=_LAYOUT,
    )


def _input_on_cpu(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    if geometry.pointwise:
        return y @ w[0, 0].T
    few = w.shape[2] < _FEW_CHANNELS
    return (_input_at_once if few else _input_by_phases)(geometry, y, w)


class Phase(NamedTuple):
    """Every stride-th pixel of x along one axis: a stride-1 convolution of y.

    Attributes:
      taps: Which of the kernel's numbers along this axis, last first, those pixels are made with.
      padding: Of y.
    """

    taps: slice
    padding: Size


def _phases(geometry: Geometry, axis: int) -> list[Phase]:
    """One for each pixel of a stride; all are ceil(image / stride) long."""
    stride, (low, _) = geometry.stride[axis], geometry.padding[axis]
    size, length = max(geometry.kernel[axis], stride), geometry.output[axis]
    phases = []
    for first in range(stride):
        # Pixel first + q stride of x is pixel tap + (q + shift) stride of the padded x.
        shift, tap = divmod(first + low, stride)
        taps = (size - tap - 1) // stride + 1
        blocks = math.ceil(geometry.image[axis] / stride)
        last = tap + (taps - 1) * stride
        phases.append(
            Phase(slice(last, None, -stride), (taps - 1 - shift, blocks + shift - length))
        )
    return phases


def _input_by_phases(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    """Every stride-th pixel of x sees the same part of the kernel; those are laid side by side."""
    spare = [(0, max(0, s - k)) for s, k in zip(geometry.stride, geometry.kernel, strict=True)]
    w = jnp.pad(w, [*spare, (0, 0), (0, 0)]).swapaxes(2, 3)  # [h, w, C', C]
    columns = _phases(geometry, 1)
    x = jnp.stack(
        [
            jnp.stack([_plain(y, w[r.taps, c.taps], (r.padding, c.padding)) for c in columns], 3)
            for r in _phases(geometry, 0)
        ],
        2,
    )  # [N, H / sh, sh, W / sw, sw, C]
    _, qh, sh, qw, sw, channels = x.shape
    height, width = geometry.image
    return x.reshape(-1, qh * sh, qw * sw, channels)[:, :height, :width]


def _input_at_once(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    """The same where x has few channels: one convolution, the phases as its channels.

    Padding shifts some phases by a pixel: a row and a column of y more are convolved than are used.
    """
    (sh, sw), channels = geometry.stride, w.shape[2]
    taps = [math.ceil(k / s) for k, s in zip(geometry.kernel, geometry.stride, strict=True)]
    kh, kw = taps
    spare = [(0, t * s - k) for t, s, k in zip(taps, geometry.stride, geometry.kernel, strict=True)]
    w = jnp.pad(w, [*spare, (0, 0), (0, 0)]).reshape(kh, sh, kw, sw, channels, -1)
    w = w[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)  # [kh, kw, C', sh, sw, C]
    w = w.reshape(kh, kw, y.shape[-1], sh * sw * channels)
    # Pixel q stride + phase of the padded x comes from y[q - kh + 1 .. q].
    blocks = [
        math.ceil((size + low) / s)
        for size, (low, _), s in zip(geometry.image, geometry.padding, geometry.stride, strict=True)
    ]
    padding = [
        (t - 1, block - out) for t, block, out in zip(taps, blocks, geometry.output, strict=True)
    ]
    x = _plain(y, w, padding)
    qh, qw = blocks
    x = x.reshape(-1, qh, qw, sh, sw, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(-1, qh * sh, qw * sw, channels)
    (top, _), (left, _) = geometry.padding
    height, width = geometry.image
    return x[:, top : top + height, left : left + width]


def _kernel_by_swap(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """The batch is what is summed over: it takes the place of the channels.

    Those lie side by side within a row, so that moving x's axes is turning one matrix over.
    """
    if geometry.pointwise:
        w = lax.dot_general(_pixels(x), _pixels(y), (((0,), (0,)), ((), ())))
        return w[None, None]
    channels, (height, width) = x.shape[-1], geometry.kernel
    (sh, sw), (rows, (left, right)) = geometry.stride, geometry.padding
    w = _plain(
        x.transpose(1, 2, 3, 0).reshape(1, geometry.image[0], -1, len(x)),  # [1, H, W C, N]
        y.transpose(1, 2, 0, 3),  # [H', W', N, C']
        (rows, (left * channels, right * channels)),
        dilation=(sh, sw * channels),
    )  # [1, h.., w.. C, C'], longer than the kernel where the stride leaves pixels unused
    return w[0, :height, : width * channels].reshape(height, width, channels, -1)


def _pixels(x: jax.Array) -> jax.Array:
    """`[N, H, W, C]` to `[N H W, C]`."""
    return x.reshape(-1, x.shape[-1])


class Conv(nn.Module):
    """`flax.linen.Conv` for images: the same names, shapes and initialisers of its parameters.

    Attributes:
      features: C'.
      kernel_size: (h, w).
      strides: Along H and W.
      padding: Zeros before and after along H and W, or `"SAME"`, or `"VALID"`.
      feature_group_count: Groups; C and C' are multiples of it.
      use_bias: Whether a bias is added.
      dtype: Of the computation; None is that of the input and the parameters.
      param_dtype: Of the parameters.
      kernel_init: Initialiser of `kernel`, `[h, w, C / feature_group_count, C']`.
      bias_init: Initialiser of `bias`, `[C']`.
      resample: `"double"`: each pixel of the image is doubled both ways first; `"mean"`: the mean of
        each 2x2 pixels is taken afterwards. Both are one convolution here, of the pixels that
        there are, with 16 / 36 of the multiplications of a 3x3 kernel; the parameters are the same.
        The kernel has to be odd, its stride 1, its padding `"SAME"`, in one group.
    """

    features: int
    kernel_size: Size
    strides: Size = (1, 1)
    padding: str | Sequence[Size] = "SAME"
    feature_group_count: int = 1
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros
    resample: Literal["none", "double", "mean"] = "none"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, H, W, C]` to `[N, H', W', C']`."""
        groups = self.feature_group_count
        if x.shape[-1] % groups or self.features % groups:
            raise ValueError(
                f"feature_group_count must divide the {x.shape[-1]} channels that come and the "
                f"{self.features} that go, given {groups}"
            )
        shape = (*self.kernel_size, x.shape[-1] // groups, self.features)
        x, kernel, bias = _arrays(self, x, shape)
        image = (x.shape[1], x.shape[2])
        if self.resample != "none":
            return _resampled(self, x, kernel) + bias
        padding = self.padding
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(image, self.kernel_size, self.strides, padding)
        pads = tuple((int(low), int(high)) for low, high in padding)
        geometry = Geometry(image, self.kernel_size, self.strides, pads, groups)  # type: ignore[arg-type]
        return convolve(geometry, x, kernel) + bias


class ConvTranspose(nn.Module):
    """`flax.linen.ConvTranspose` with `"SAME"` padding: H' = H stride; the same parameters.

    Attributes:
      features: C'.
      kernel_size: (h, w), each at least its stride.
      strides: Along H and W.
      use_bias: Whether a bias is added.
      dtype: Of the computation; None is that of the input and the parameters.
      param_dtype: Of the parameters.
      kernel_init: Initialiser of `kernel`, `[h, w, C, C']`.
      bias_init: Initialiser of `bias`, `[C']`.
    """

    features: int
    kernel_size: Size
    strides: Size = (2, 2)
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, H, W, C]` to `[N, H', W', C']`."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        x, kernel, bias = _arrays(self, x, shape)
        # lax pads the dilated input by ceil((k + s - 2) / 2) before; seen from the output's side:
        pads = []
        for k, s in zip(self.kernel_size, self.strides, strict=True):
            low = k - 1 - math.ceil((k + s - 2) / 2)
            pads.append((low, k - s - low))
        return _transposed(x, kernel[::-1, ::-1], self.strides, (pads[0], pads[1])) + bias


def _arrays(
    layer: Conv | ConvTranspose, x: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The input, the kernel and the bias, of one type."""
    kernel = layer.param("kernel", layer.kernel_init, shape, layer.param_dtype)
    bias = jnp.zeros([], kernel.dtype)
    if layer.use_bias:
        bias = layer.param("bias", layer.bias_init, (layer.features,), layer.param_dtype)
    arrays = nn.dtypes.promote_dtype(x, kernel, bias, dtype=layer.dtype)
    return arrays[0], arrays[1], arrays[2]


def _transposed(
    x: jax.Array, kernel: jax.Array, stride: Size, padding: tuple[Size, Size]
) -> jax.Array:
    """Each pixel of x `[N, H, W, C]` paints kernel `[h, w, C, C']`; `[N, H stride, W stride, C']`."""
    height, width = (size * s for size, s in zip(x.shape[1:3], stride, strict=True))
    kernel_size = (kernel.shape[0], kernel.shape[1])
    geometry = Geometry((height, width), kernel_size, stride, padding)
    return convolve_input(geometry, x, kernel.swapaxes(2, 3))


def _resampled(layer: Conv, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The sum of four kernels, a pixel apart, does in one stride what 2x2 equal pixels would do."""
    height, width = layer.kernel_size
    plain = layer.strides == (1, 1) and layer.padding == "SAME" and layer.feature_group_count == 1
    if not plain or height % 2 == 0 or width % 2 == 0:
        raise ValueError(
            f"resample={layer.resample!r} is for an odd kernel, stride 1, padding SAME, one group"
        )
    shifts = [((i, 1 - i), (j, 1 - j), (0, 0), (0, 0)) for i in (0, 1) for j in (0, 1)]
    kernel = sum((jnp.pad(kernel, shift) for shift in shifts), jnp.zeros([], kernel.dtype))
    padding = ((height // 2, height // 2), (width // 2, width // 2))
    if layer.resample == "double":
        return _transposed(x, kernel[::-1, ::-1], (2, 2), padding)
    geometry = Geometry((x.shape[1], x.shape[2]), (height + 1, width + 1), (2, 2), padding)
    return convolve(geometry, x, kernel / 4)
