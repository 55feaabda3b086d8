"""Convolutions that run fast on a CPU as well, and can be differentiated any number of times.

A convolution y = x * w is linear in x and in w. Its two derivatives are therefore bilinear as well, and
the derivatives of those are again among the three:

    convolve(x, w) -> y,   input_gradient(y, w) -> x,   kernel_gradient(x, y) -> w.

On a CPU each is computed by whichever is faster: oneDNN (`gan.models.onednn`), where it is installed, or the
operations at which XLA is fast (`gan.models.cpu_convolutions`). Other devices use the native lowering.
docs/performance.md has the figures.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
from jax import lax

from gan.models import cpu_convolutions, onednn
from gan.models.geometry import Geometry

_FEW_CHANNELS = 8
Lowering: TypeAlias = Callable[[Geometry, jax.Array, jax.Array], jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolve(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """Computes y[n, o, c'] = sum over k, c of x[n, o stride + k - pad, c] w[k, c, c'].

    Args:
      geometry: Sizes, stride, padding and groups.
      x: `[N, H, W, C]`.
      w: `[h, w, C / groups, C']`.

    Returns:
      y: `[N, H', W', C']`.
    """
    return _by_platform("convolve", _native_convolve, geometry, x, w)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def input_gradient(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    """Computes the transpose of `convolve` in x: y and w to `[N, H, W, C]`."""
    return _by_platform("input_gradient", _native_input_gradient, geometry, y, w)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def kernel_gradient(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """Computes the transpose of `convolve` in w: x and y to `[h, w, C / groups, C']`."""
    return _by_platform("kernel_gradient", _native_kernel_gradient, geometry, x, y)


def _forward(function: Any) -> Any:
    return lambda geometry, a, b: (function(geometry, a, b), (a, b))


def _convolve_backward(geometry: Geometry, arrays: Any, dy: jax.Array) -> Any:
    x, w = arrays
    return input_gradient(geometry, dy, w), kernel_gradient(geometry, x, dy)


def _input_gradient_backward(geometry: Geometry, arrays: Any, dx: jax.Array) -> Any:
    y, w = arrays
    return convolve(geometry, dx, w), kernel_gradient(geometry, dx, y)


def _kernel_gradient_backward(geometry: Geometry, arrays: Any, dw: jax.Array) -> Any:
    x, y = arrays
    return input_gradient(geometry, y, dw), convolve(geometry, x, dw)


convolve.defvjp(_forward(convolve), _convolve_backward)
input_gradient.defvjp(_forward(input_gradient), _input_gradient_backward)
kernel_gradient.defvjp(_forward(kernel_gradient), _kernel_gradient_backward)


def _by_platform(
    which: onednn.Pass, native: Lowering, geometry: Geometry, a: jax.Array, b: jax.Array
) -> jax.Array:
    return lax.platform_dependent(
        a, b, cpu=partial(_on_cpu, which, geometry), default=partial(native, geometry)
    )


def _on_cpu(which: onednn.Pass, geometry: Geometry, a: jax.Array, b: jax.Array) -> jax.Array:
    """Computes a pass by what is fastest: with oneDNN, if it is there, all of them.

    The gradient in an image, of few channels, is one plain convolution then: as such oneDNN computes it in a
    third to a half of the time that it takes for the gradient itself.
    """
    xla: Lowering = getattr(cpu_convolutions, which)
    if not onednn.applies(which, geometry, a, b):
        return xla(geometry, a, b)
    of_image = which == "input_gradient" and b.shape[2] < _FEW_CHANNELS and geometry.groups == 1
    if of_image and geometry.stride != (1, 1):
        return cpu_convolutions.input_gradient_at_once(geometry, a, b, partial(_on_cpu, "convolve"))
    return onednn.convolution(which, xla, geometry, a, b)


def _native_convolve(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        geometry.stride,
        geometry.padding,
        dimension_numbers=cpu_convolutions.LAYOUT,
        feature_group_count=geometry.groups,
    )


def _native_input_gradient(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    shape = (len(y), *geometry.image, w.shape[2] * geometry.groups)
    x = jax.ShapeDtypeStruct(shape, y.dtype)
    return jax.linear_transpose(lambda x: _native_convolve(geometry, x, w), x)(y)[0]


def _native_kernel_gradient(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    shape = (*geometry.kernel, x.shape[-1] // geometry.groups, y.shape[-1])
    w = jax.ShapeDtypeStruct(shape, x.dtype)
    return jax.linear_transpose(lambda w: _native_convolve(geometry, x, w), w)(y)[0]
