"""Convolutions that are as fast on a CPU as they are on a GPU, and differentiable as often as needed.

XLA's CPU backend is quick for a plain convolution in ('NHWC', 'HWIO', 'NHWC') layout, but 3 to 40
times too slow for the ones that autodiff makes of it (dilated inputs, unusual layouts, more so
inside a loop). A convolution y = x * w is linear in x and in w, so its two derivatives are two more
such products, and the derivatives of those are again among the three:

    convolve(x, w) -> y,   convolve_input(y, w) -> x,   convolve_kernel(x, y) -> w.

Each is written below as a plain convolution, and each names the other two as its derivatives. Off
the CPU the native lowering is used.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")
Size: TypeAlias = tuple[int, int]
Initializer: TypeAlias = nn.initializers.Initializer


class Geometry(NamedTuple):
    """What fixes a convolution besides its arrays.

    Attributes:
      image: (H, W) of x.
      kernel: (h, w) of w.
      stride: Along H and W.
      padding: Zeros before and after, along H and W.
    """

    image: Size
    kernel: Size
    stride: Size
    padding: tuple[Size, Size]

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


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolve(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """y[n, o, c'] = sum over k, c of x[n, o stride + k - pad, c] w[k, c, c'].

    Args:
      geometry: Sizes, stride and padding.
      x: `[N, H, W, C]`.
      w: `[h, w, C, C']`.

    Returns:
      y: `[N, H', W', C']`.
    """
    return _native(geometry, x, w)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolve_input(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    """The transpose of `convolve` in x: y `[N, H', W', C']`, w `[h, w, C, C']` to `[N, H, W, C]`."""
    return lax.platform_dependent(
        y, w, cpu=partial(_input_by_phases, geometry), default=partial(_native_input, geometry)
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolve_kernel(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """The transpose of `convolve` in w: x `[N, H, W, C]`, y `[N, H', W', C']` to `[h, w, C, C']`."""
    return lax.platform_dependent(
        x, y, cpu=partial(_kernel_by_swap, geometry), default=partial(_native_kernel, geometry)
    )


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


def _native(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, w, geometry.stride, geometry.padding, dimension_numbers=_LAYOUT
    )


def _native_input(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    x = jax.ShapeDtypeStruct((len(y), *geometry.image, w.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _native(geometry, x, w), x)(y)[0]


def _native_kernel(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    w = jax.ShapeDtypeStruct((*geometry.kernel, x.shape[-1], y.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda w: _native(geometry, x, w), w)(y)[0]


def _input_by_phases(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    """Every stride-th pixel of x sees the same part of the kernel.

    One stride-1 convolution gives all these phases as channels; they are then laid side by side.
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
    x = lax.conv_general_dilated(y, w, (1, 1), padding, dimension_numbers=_LAYOUT)
    qh, qw = blocks
    x = x.reshape(-1, qh, qw, sh, sw, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(-1, qh * sh, qw * sw, channels)
    (top, _), (left, _) = geometry.padding
    height, width = geometry.image
    return x[:, top : top + height, left : left + width]


def _kernel_by_swap(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """The batch is what is summed over: it takes the place of the channels."""
    w = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),  # [C, H, W, N]
        y.transpose(1, 2, 0, 3),  # [H', W', N, C']
        (1, 1),
        geometry.padding,
        rhs_dilation=geometry.stride,
        dimension_numbers=_LAYOUT,
    )  # [C, h.., w.., C'], longer than the kernel where the stride leaves pixels unused
    height, width = geometry.kernel
    return w[:, :height, :width].transpose(1, 2, 0, 3)


class Conv(nn.Module):
    """`flax.linen.Conv` for images: the same names, shapes and initialisers of its parameters.

    Attributes:
      features: C'.
      kernel_size: (h, w).
      strides: Along H and W.
      padding: Zeros before and after along H and W, or `"SAME"`.
      feature_group_count: Groups of channels that do not see each other.
      use_bias: Whether a bias is added.
      kernel_init: Initialiser of `kernel`, `[h, w, C / groups, C']`.
    """

    features: int
    kernel_size: Size
    strides: Size = (1, 1)
    padding: str | Sequence[Size] = "SAME"
    feature_group_count: int = 1
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, H, W, C]` to `[N, H', W', C']`."""
        groups = self.feature_group_count
        shape = (*self.kernel_size, x.shape[-1] // groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        image = (x.shape[1], x.shape[2])
        padding = self.padding
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(image, self.kernel_size, self.strides, padding)
        pads = tuple((int(low), int(high)) for low, high in padding)
        if groups != 1:
            y = lax.conv_general_dilated(
                x,
                kernel,
                self.strides,
                pads,
                dimension_numbers=_LAYOUT,
                feature_group_count=groups,
            )
            return _with_bias(self, y)
        geometry = Geometry(image, self.kernel_size, self.strides, pads)  # type: ignore[arg-type]
        return _with_bias(self, convolve(geometry, x, kernel))


class ConvTranspose(nn.Module):
    """`flax.linen.ConvTranspose` with `"SAME"` padding: H' = H stride; the same parameters.

    Attributes:
      features: C'.
      kernel_size: (h, w), each at least its stride.
      strides: Along H and W.
      use_bias: Whether a bias is added.
      kernel_init: Initialiser of `kernel`, `[h, w, C, C']`.
    """

    features: int
    kernel_size: Size
    strides: Size = (2, 2)
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, H, W, C]` to `[N, H', W', C']`."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        height, width = (
            size * stride for size, stride in zip(x.shape[1:3], self.strides, strict=True)
        )
        # lax pads the dilated input by ceil((k + s - 2) / 2) before; seen from the output's side:
        pads = []
        for k, s in zip(self.kernel_size, self.strides, strict=True):
            low = k - 1 - math.ceil((k + s - 2) / 2)
            pads.append((low, k - s - low))
        geometry = Geometry((height, width), self.kernel_size, self.strides, tuple(pads))  # type: ignore[arg-type]
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)  # linen's kernel maps C to C', unflipped
        return _with_bias(self, convolve_input(geometry, x, flipped))


def _with_bias(layer: Conv | ConvTranspose, y: jax.Array) -> jax.Array:
    if not layer.use_bias:
        return y
    return y + layer.param("bias", nn.initializers.zeros_init(), (layer.features,))
