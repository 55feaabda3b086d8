"""Modulated convolutions: those of StyleGAN2, whose kernels depend on a style.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 2.2.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from gan.models.equalized import EqualizedDense, equalized_kernel, operands, resampling_convolution
from gan.models.geometry import Size
from gan.precision import at_least_float32

EPSILON = 1e-8
"""Of equation 3; that of the authors' code."""


class ModulatedConv(nn.Module):
    """A convolution each of whose input channels is scaled by a linear map of w.

    With demodulation the parameter `kernel` is drawn from a normal distribution of variance 1, and its size does
    not matter; without, it has an equalised learning rate. There is no bias: noise is added before it.

    Attributes:
      features: Output channels, C'.
      kernel_size: Odd (k, k).
      resample: `"up"` doubles the image.
      demodulate: Whether the outputs are scaled to the variance that they have of inputs with variance 1.
      dtype: Type of the convolution; by default that of the input and the parameters. The styles and the scales are
        at least float32.
    """

    features: int
    kernel_size: Size
    resample: Literal["none", "up"] = "none"
    demodulate: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        """Maps images `[B, H, W, C]` and w `[B, W]` to `[B, H', W', C']`."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        if self.demodulate:
            kernel = self.param("kernel", nn.initializers.normal(1.0), shape)
        else:
            kernel = equalized_kernel(self, shape)
        style = EqualizedDense(x.shape[-1], bias_init=1.0, name="affine")(at_least_float32(w))
        x, _ = operands(x, kernel, self.dtype)
        return modulated_convolution(
            x, kernel, style, resample=self.resample, demodulate=self.demodulate
        )


def modulated_convolution(
    x: jax.Array,
    kernel: jax.Array,
    style: jax.Array,
    *,
    resample: Literal["none", "up"] = "none",
    demodulate: bool = True,
) -> jax.Array:
    """Convolves each image with a kernel of its own, w'' of equations 1 to 3.

    For image b that is w'[k, i, j] = s[b, i] w[k, i, j], divided by sqrt(sum over k, i of w'^2 + epsilon). Scaling
    a kernel's inputs or outputs is the same as scaling those of the convolution: so the kernel is one for
    the whole batch, and what differs from image to image are factors of channels before and after it.

    Args:
      x: `[B, H, W, C]`, in the type of the computation.
      kernel: `[k, k, C, C']`, at least float32.
      style: s, `[B, C]`, at least float32.
      resample: `"up"` doubles the images.
      demodulate: Whether equation 3 is applied.

    Returns:
      `[B, H', W', C']` in the type of x.
    """
    scaled = (x * style[:, None, None]).astype(x.dtype)
    y = resampling_convolution(scaled, kernel.astype(x.dtype), resample)
    if not demodulate:
        return y
    with jax.named_scope("demodulation"):
        squares = lax.dot(jnp.square(style), jnp.sum(jnp.square(kernel), (0, 1)))  # [B, C']
    return (y * lax.rsqrt(squares + EPSILON)[:, None, None]).astype(x.dtype)
