"""Layers with linen's parameters: convolutions several times faster than linen's on a CPU.

In bfloat16 a bias is added in float32, so that its gradient, a sum over the whole batch, is summed in
float32 too: not every device does so by itself.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from gan.models.convolutions import convolve, input_gradient
from gan.models.geometry import Geometry, Size

Initializer: TypeAlias = nn.initializers.Initializer


class Dense(nn.Module):
    """`flax.linen.Dense`, with the same names, shapes and initialisers of parameters.

    Attributes:
      features: Output features, C'.
      use_bias: Whether a bias is added.
      dtype: Type of the computation; by default that of the input and the parameters.
      param_dtype: Type of the parameters.
      kernel_init: Initialiser of `kernel`, `[C, C']`.
      bias_init: Initialiser of `bias`, `[C']`.
    """

    features: int
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., C]` to `[..., C']`."""
        x, kernel, bias = _arrays(self, x, (x.shape[-1], self.features))
        y = lax.dot_general(x, kernel.astype(x.dtype), (((x.ndim - 1,), (0,)), ((), ())))
        return plus(y, bias) if self.use_bias else y


class Conv(nn.Module):
    """`flax.linen.Conv` for images, with the same names, shapes and initialisers of parameters.

    Attributes:
      features: Output channels, C'.
      kernel_size: (h, w).
      strides: Strides along H and W.
      padding: Number of zeros before and after, along H and W; or `"SAME"`, or `"VALID"`.
      feature_group_count: Number of groups; divides C and C'.
      use_bias: Whether a bias is added.
      dtype: Type of the computation; by default that of the input and the parameters.
      param_dtype: Type of the parameters.
      kernel_init: Initialiser of `kernel`, `[h, w, C / feature_group_count, C']`.
      bias_init: Initialiser of `bias`, `[C']`.
      resample: `"double"` repeats each pixel twice along both axes before the convolution, and
        `"mean"` takes the mean of each 2x2 pixels after it. The parameters stay the same. Either is
        fused into a single convolution with 16 / 36 of the multiplications of a 3x3 kernel. The
        kernel must be odd, with stride 1, padding `"SAME"` and one group.
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
        """Maps `[N, H, W, C]` to `[N, H', W', C']`."""
        groups = self.feature_group_count
        if x.shape[-1] % groups or self.features % groups:
            raise ValueError(
                f"feature_group_count must divide the {x.shape[-1]} channels of the input and the "
                f"{self.features} of the output, given {groups}"
            )
        shape = (*self.kernel_size, x.shape[-1] // groups, self.features)
        x, kernel, bias = _arrays(self, x, shape)
        image = (x.shape[1], x.shape[2])
        if self.resample != "none":
            return plus(_resampled(self, x, kernel), bias)
        padding = self.padding
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(image, self.kernel_size, self.strides, padding)
        rows, columns = ((int(low), int(high)) for low, high in padding)
        geometry = Geometry(image, self.kernel_size, self.strides, (rows, columns), groups)
        return plus(convolve(geometry, x, kernel.astype(x.dtype)), bias)


class ConvTranspose(nn.Module):
    """`flax.linen.ConvTranspose` with `"SAME"` padding, H' = H stride, and the same parameters.

    Attributes:
      features: Output channels, C'.
      kernel_size: (h, w), each at least its stride.
      strides: Strides along H and W.
      use_bias: Whether a bias is added.
      dtype: Type of the computation; by default that of the input and the parameters.
      param_dtype: Type of the parameters.
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
        """Maps `[N, H, W, C]` to `[N, H', W', C']`."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        x, kernel, bias = _arrays(self, x, shape)
        # lax pads the dilated input by ceil((k + s - 2) / 2) before; seen from the output:
        pads = []
        for k, s in zip(self.kernel_size, self.strides, strict=True):
            low = k - 1 - math.ceil((k + s - 2) / 2)
            pads.append((low, k - s - low))
        kernel = kernel[::-1, ::-1].astype(x.dtype)
        return plus(_transposed(x, kernel, self.strides, (pads[0], pads[1])), bias)


def upsample(x: jax.Array) -> jax.Array:
    """Repeats each pixel twice along both axes: `[B, H, W, C]` to `[B, 2H, 2W, C]`."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def average_pool(x: jax.Array) -> jax.Array:
    """Takes the mean of each 2x2 pixels: `[B, H, W, C]` to `[B, H / 2, W / 2, C]`."""
    return _squares(x).mean((2, 4))


def max_pool(x: jax.Array) -> jax.Array:
    """Takes the largest of each 2x2 pixels: `[B, H, W, C]` to `[B, H / 2, W / 2, C]`."""
    return _squares(x).max((2, 4))


def _squares(x: jax.Array) -> jax.Array:
    """Splits into 2x2 pixels: `[B, H, W, C]` to `[B, H / 2, 2, W / 2, 2, C]`."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _arrays(
    layer: Dense | Conv | ConvTranspose, x: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the input in the type of the computation, and kernel and bias in at least float32."""
    kernel = layer.param("kernel", layer.kernel_init, shape, layer.param_dtype)
    bias = jnp.zeros([], kernel.dtype)
    if layer.use_bias:
        bias = layer.param("bias", layer.bias_init, (layer.features,), layer.param_dtype)
    dtype = nn.dtypes.canonicalize_dtype(x, kernel, bias, dtype=layer.dtype)
    full = jnp.promote_types(dtype, jnp.float32)
    return jnp.asarray(x, dtype), kernel.astype(full), bias.astype(full)


def plus(y: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds a bias in its own type, and returns the sum in that of y."""
    return (y + bias).astype(y.dtype)


def _transposed(
    x: jax.Array, kernel: jax.Array, stride: Size, padding: tuple[Size, Size]
) -> jax.Array:
    """Computes a transposed convolution, `[N, H, W, C]` to `[N, H stride, W stride, C']`."""
    height, width = (size * s for size, s in zip(x.shape[1:3], stride, strict=True))
    kernel_size = (kernel.shape[0], kernel.shape[1])
    geometry = Geometry((height, width), kernel_size, stride, padding)
    return input_gradient(geometry, x, kernel.swapaxes(2, 3))


def _resampled(layer: Conv, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 2 and the sum of four copies of the kernel, shifted by a pixel."""
    height, width = layer.kernel_size
    plain = layer.strides == (1, 1) and layer.padding == "SAME" and layer.feature_group_count == 1
    if not plain or height % 2 == 0 or width % 2 == 0:
        raise ValueError(
            f"resample={layer.resample!r} needs an odd kernel, stride 1, padding SAME and one group"
        )
    shifts = [((i, 1 - i), (j, 1 - j), (0, 0), (0, 0)) for i in (0, 1) for j in (0, 1)]
    kernel = sum((jnp.pad(kernel, shift) for shift in shifts), jnp.zeros([], kernel.dtype))
    padding = ((height // 2, height // 2), (width // 2, width // 2))
    if layer.resample == "double":
        return _transposed(x, kernel[::-1, ::-1].astype(x.dtype), (2, 2), padding)
    geometry = Geometry((x.shape[1], x.shape[2]), (height + 1, width + 1), (2, 2), padding)
    return convolve(geometry, x, (kernel / 4).astype(x.dtype))
