"""Layers with an equalised learning rate.

Kernels are drawn from a normal distribution of variance 1 and divided by sqrt(fan-in) at each use, rather
than when they are drawn. So Adam, whose steps do not depend on the size of a gradient, moves all layers at the
same speed relative to their size. With a learning rate multiplier m a kernel is drawn 1 / m times as large, and
both kernel and bias are multiplied by m at each use: they move m times as fast.

Karras et al., "Progressive Growing of GANs", ICLR 2018; the multiplier and other details are those of
github.com/NVlabs/stylegan2-ada-pytorch, training/networks.py.
"""

from math import prod, sqrt
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from gan.argument_bounds import Above
from gan.models.convolutions import convolve
from gan.models.geometry import Geometry, Size
from gan.models.layers import plus
from gan.models.resampling import downsampling_convolution, upsampling_convolution

SLOPE = 0.2
"""That of the leaky ReLU below zero."""


def leaky_relu(x: jax.Array, gain: float = sqrt(2)) -> jax.Array:
    """Applies a leaky ReLU with slope 0.2, times a gain that keeps the variance about the same."""
    return nn.leaky_relu(x, SLOPE) * gain


class EqualizedDense(nn.Module):
    """A linear layer.

    Attributes:
      features: Output features, C'.
      lr_multiplier: How much faster it learns than others.
      bias_init: First value of `bias`, `[C']`.
      dtype: Type of the computation; by default that of the input and the parameters.
    """

    features: int
    lr_multiplier: Annotated[float, Above(0)] = 1.0
    bias_init: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., C]` to `[..., C']`."""
        rate, fan_in = self.lr_multiplier, x.shape[-1]
        kernel = equalized_kernel(self, (fan_in, self.features), rate)
        bias = self.param("bias", nn.initializers.constant(self.bias_init), (self.features,))
        x, kernel = operands(x, kernel, self.dtype)
        y = lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))
        return plus(y, bias * rate)


class EqualizedConv(nn.Module):
    """A convolution, followed by a filter and halving, or preceded by doubling and a filter.

    Attributes:
      features: Output channels, C'.
      kernel_size: Odd (k, k).
      use_bias: Whether there is a `bias`, `[C']`, from 0.
      resample: `"up"` doubles the image, `"down"` halves it; see `gan.models.resampling`.
      dtype: Type of the computation; by default that of the input and the parameters.
    """

    features: int
    kernel_size: Size
    use_bias: bool = True
    resample: Literal["none", "up", "down"] = "none"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, H, W, C]` to `[B, H', W', C']`."""
        kernel = equalized_kernel(self, (*self.kernel_size, x.shape[-1], self.features))
        x, kernel = operands(x, kernel, self.dtype)
        y = resampling_convolution(x, kernel, self.resample)
        if not self.use_bias:
            return y
        return plus(y, self.param("bias", nn.initializers.zeros, (self.features,)))


def equalized_kernel(layer: nn.Module, shape: tuple[int, ...], rate: float = 1.0) -> jax.Array:
    """Returns a layer's parameter `kernel`, divided by sqrt(fan-in), in float32.

    Args:
      layer: The layer.
      shape: The kernel's; the last axis is that of the outputs.
      rate: The layer's learning rate multiplier.
    """
    kernel = layer.param("kernel", nn.initializers.normal(1 / rate), shape)
    return kernel * (rate / sqrt(prod(shape[:-1])))


def operands(x: jax.Array, kernel: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Returns an input and a kernel in the type of the computation."""
    dtype = nn.dtypes.canonicalize_dtype(x, kernel, dtype=dtype)
    return jnp.asarray(x, dtype), kernel.astype(dtype)


def resampling_convolution(
    x: jax.Array, kernel: jax.Array, resample: Literal["none", "up", "down"] = "none"
) -> jax.Array:
    """Convolves `[B, H, W, C]` with an odd kernel `[k, k, C, C']`, with zeros around the image."""
    if resample == "up":
        return upsampling_convolution(x, kernel)
    if resample == "down":
        return downsampling_convolution(x, kernel)
    height, width = kernel.shape[0] // 2, kernel.shape[1] // 2
    padding = ((height, height), (width, width))
    geometry = Geometry(
        (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1]), (1, 1), padding
    )
    return convolve(geometry, x, kernel)
