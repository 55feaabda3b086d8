"""Self-attention over the pixels of an image.

Zhang et al., "Self-Attention Generative Adversarial Networks", ICML 2019, section 3, in the form of
their code and of BigGAN's (github.com/ajbrock/BigGAN-PyTorch, layers.py): keys and values are
max-pooled, so that there are a quarter as many of them as of queries.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.models.layers import Conv, Initializer, max_pool
from gan.models.normalization import Apply
from gan.precision import at_least_float32


class SelfAttention(nn.Module):
    """Adds to every pixel a mixture of all of them: `x + gamma o(softmax(theta phi') g)`.

    theta, phi and g are 1x1 convolutions without biases, to C / 8, C / 8 and C / 2 channels (1 where that is
    less), and o is one back to C. gamma is a number that starts at 0: at first the layer changes nothing.
    Each example is treated by itself.

    Attributes:
      kernel_init: Initialiser of the convolutions' kernels.
      dtype: Type of the computation; the softmax is in float32.
    """

    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, apply: Apply) -> jax.Array:
        """Maps `[B, H, W, C]` to the same shape; H and W are even.

        Args:
          x: `[B, H, W, C]`.
          apply: Applies a convolution: `gan.models.normalization.applying`.
        """
        batch, _, _, channels = x.shape

        def conv(x: jax.Array, features: int) -> jax.Array:
            options: dict[str, Any] = {"kernel_init": self.kernel_init, "dtype": self.dtype}
            return apply(Conv(max(features, 1), (1, 1), use_bias=False, **options), x)

        def flat(x: jax.Array) -> jax.Array:
            return x.reshape(batch, -1, x.shape[-1])  # [B, pixels, channels]

        theta = flat(conv(x, channels // 8))  # [B, N, C / 8]
        phi = flat(max_pool(conv(x, channels // 8)))  # [B, N / 4, C / 8]
        g = flat(max_pool(conv(x, channels // 2)))  # [B, N / 4, C / 2]
        scores = at_least_float32(jnp.einsum("bic,bjc->bij", theta, phi))
        weights = nn.softmax(scores).astype(g.dtype)  # [B, N, N / 4]
        mixed = jnp.einsum("bij,bjc->bic", weights, g)
        y = conv(mixed.reshape(*x.shape[:3], -1), channels)
        gamma = self.param("gamma", nn.initializers.zeros, ())
        return (x + gamma * y).astype(x.dtype)


def check_attention(attention: int, resolutions: Iterable[int]) -> None:
    """Raises ValueError where `attention` is neither 0 nor an even one of a network's resolutions."""
    accepted = sorted({side for side in resolutions if side % 2 == 0})
    if attention and attention not in accepted:
        sides = ", ".join(map(str, accepted)) or "no other, as all its resolutions are odd"
        raise ValueError(f"attention must be 0 (none), or here {sides}, given {attention}")
