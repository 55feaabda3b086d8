"""DCGAN: a pyramid of strided convolutions.

Radford et al., "Unsupervised Representation Learning with DCGANs", ICLR 2016.
"""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.argument_bounds import AtLeast
from gan.models.layers import Conv, ConvTranspose, Dense
from gan.models.network import (
    DISCRIMINATORS,
    GENERATORS,
    Discriminator,
    Generator,
    Judgement,
    num_downsamplings,
)
from gan.models.normalization import applying
from gan.precision import at_least_float32

_init = nn.initializers.normal(0.02)
_MAX_WIDENING = 8


@GENERATORS.register("dcgan")
class DCGANGenerator(Generator):
    """Transposed convolutions, each of which doubles the resolution.

    If conditional, an embedding of the label is appended to the latents.

    Attributes:
      width: Channels before the last layer; they double with each halving of the resolution.
      batch_norm: Whether each layer but the last is batch-normalised.
    """

    width: Annotated[int, AtLeast(1)] = 64
    batch_norm: bool = True

    square_images = True

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return not self.batch_norm

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """Maps `[B, Z]` to `[B, H, W, C]` in [-1, 1]."""

        def activate(x: jax.Array) -> jax.Array:
            if self.batch_norm:
                x = nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype)(x)
            return nn.relu(x)

        blocks = num_downsamplings(self.shape)
        base = self.shape[0] >> blocks
        channels = _channels(self.width, blocks)
        bias = not self.batch_norm  # batch normalisation adds its own
        x = latents
        if self.conditional:
            x = jnp.concatenate([x, nn.Embed(self.num_classes, x.shape[-1])(labels)], axis=-1)
        options: dict[str, Any] = {"kernel_init": _init, "dtype": self.dtype}
        x = Dense(base * base * channels[-1], use_bias=bias, **options)(x)
        x = activate(x.reshape(-1, base, base, channels[-1]))
        for features in channels[-2::-1]:
            x = ConvTranspose(features, (4, 4), use_bias=bias, **options)(x)
            x = activate(x)  # [B, 2H, 2W, features]
        x = ConvTranspose(self.shape[-1], (4, 4), **options)(x)
        return nn.tanh(at_least_float32(x))


@DISCRIMINATORS.register("dcgan")
class DCGANDiscriminator(Discriminator):
    """Strided convolutions, which halve the resolution down to 4x4, 6x6 or 7x7 pixels.

    If conditional, the label is judged too, by projection (Miyato and Koyama, ICLR 2018).

    Attributes:
      width: Channels of the first layer; they double with each halving of the resolution.
      norm: `"none"`; `"batch"` normalisation of each layer but the first, as in the paper; or
        `"spectral"` normalisation of each layer (Miyato et al., ICLR 2018).
    """

    width: Annotated[int, AtLeast(1)] = 64
    norm: Literal["none", "batch", "spectral"] = "none"

    square_images = True

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return self.norm != "batch"

    @nn.compact
    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> Judgement:
        """Maps `[B, H, W, C]` in [-1, 1] to `[B]`."""
        layer = applying(spectral=self.norm == "spectral", train=train)
        x = examples
        for i, features in enumerate(_channels(self.width, num_downsamplings(self.shape))):
            normalised = self.norm == "batch" and i > 0
            conv = Conv(
                features,
                (4, 4),
                (2, 2),
                ((1, 1), (1, 1)),
                use_bias=not normalised,
                dtype=self.dtype,
                kernel_init=_init,
            )
            x = layer(conv, x)  # [B, H / 2, W / 2, features]
            if normalised:
                x = nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype)(x)
            x = nn.leaky_relu(x, 0.2)
        flat = at_least_float32(x).reshape(len(x), -1)  # [B, F]
        logits = layer(Dense(1, kernel_init=_init), flat)[:, 0]
        if self.conditional:
            embedding = nn.Embed(self.num_classes, flat.shape[-1], embedding_init=_init)(labels)
            logits += jnp.sum(embedding * flat, axis=-1)
        return self.judgement(logits, flat, layer)


def _channels(width: int, blocks: int) -> list[int]:
    """Returns the channels of each layer, from the image inwards."""
    return [width * min(2**i, _MAX_WIDENING) for i in range(blocks)]
