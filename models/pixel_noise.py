"""Noise for each pixel, the same for all channels, with a strength that is learned.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", CVPR 2019; with one
strength for all channels, as in github.com/NVlabs/stylegan2-ada-pytorch, training/networks.py.
"""

import jax
from flax import linen as nn


class PixelNoise(nn.Module):
    """Adds noise to images.

    Without keys the noise is an image of its own, which is drawn at initialisation and is not trained: the
    variable `image` of the collection `noise`. As a part of the state it is the same in every version of JAX.
    The parameter `strength` is 0 at first.

    Attributes:
      number: Tells the noises of a network's layers apart, which come from the same keys.
    """

    number: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Adds noise to `[B, H, W, C]`, of each image's own key `[B]`, or the constant one for None."""
        strength = self.param("strength", nn.initializers.zeros, ())
        shape = (*x.shape[1:3], 1)
        constant = self.variable(
            "noise", "image", lambda: jax.random.normal(self.make_rng("params"), shape)
        )
        if keys is None:
            noise = constant.value  # [H, W, 1]
        else:
            noise = jax.vmap(
                lambda key: jax.random.normal(jax.random.fold_in(key, self.number), shape)
            )(keys)  # [B, H, W, 1]
        return (x + strength * noise).astype(x.dtype)
