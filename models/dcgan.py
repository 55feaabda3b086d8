"""DCGAN: a pyramid of strided convolutions.

Radford et al., "Unsupervised Representation Learning with DCGANs", ICLR 2016.
"""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.argument_bounds import AtLeast
from gan.models.layers import Conv, ConvTranspose, Dense
from gan.models.network import DISCRIMINATORS, GENERATORS, Discriminator, Generator, Judgement
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
      down_to: The image is halved until its side is at most so many pixels, an odd one upwards.
    """

    width: Annotated[int, AtLeast(1)] = 64
    batch_norm: bool = True
    down_to: Annotated[int, AtLeast(1)] = 7

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

        *sides, base = _sides(self.shape[0], self.down_to)
        channels = _channels(self.width, len(sides))
        bias = not self.batch_norm  # batch normalisation adds its own
        x = latents
        if self.conditional:
            x = jnp.concatenate([x, nn.Embed(self.num_classes, x.shape[-1])(labels)], axis=-1)
        options: dict[str, Any] = {"kernel_init": _init, "dtype": self.dtype}
        x = Dense(base * base * channels[-1], use_bias=bias, **options)(x)
        x = activate(x.reshape(-1, base, base, channels[-1]))
        for features, side in zip(channels[-2::-1], sides[:0:-1], strict=True):
            x = ConvTranspose(features, (4, 4), use_bias=bias, **options)(x)
            x = activate(x[:, :side, :side])  # [B, 2H, 2W, features], or one less
        x = ConvTranspose(self.shape[-1], (4, 4), **options)(x)[:, : sides[0], : sides[0]]
        return nn.tanh(at_least_float32(x))


@DISCRIMINATORS.register("dcgan")
class DCGANDiscriminator(Discriminator):
    """Strided convolutions, each of which halves the resolution.

    If conditional, the label is judged too, by projection (Miyato and Koyama, ICLR 2018).

    Attributes:
      width: Channels of the first layer; they double with each halving of the resolution.
      norm: `"none"`; `"batch"` normalisation of each layer but the first, as in the paper; or
        `"spectral"` normalisation of each layer (Miyato et al., ICLR 2018).
      down_to: The image is halved until its side is at most so many pixels, an odd one upwards.
    """

    width: Annotated[int, AtLeast(1)] = 64
    norm: Literal["none", "batch", "spectral"] = "none"
    down_to: Annotated[int, AtLeast(1)] = 7

    square_images = True

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return self.norm != "batch"

    @nn.compact
    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> Judgement:
        """Maps `[B, H, W, C]` in [-1, 1] to `[B]`."""
        layer = applying(spectral=self.norm == "spectral", train=train)
        x = examples
        *sides, _ = _sides(self.shape[0], self.down_to)
        channels = _channels(self.width, len(sides))
        for i, (features, side) in enumerate(zip(channels, sides, strict=True)):
            normalised = self.norm == "batch" and i > 0
            padding = (1, 1 + side % 2)
            conv = Conv(
                features,
                (4, 4),
                (2, 2),
                (padding, padding),
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


def _sides(side: int, down_to: int) -> list[int]:
    """Returns the side of the image and of each halving."""
    sides = [side]
    while sides[-1] > down_to or len(sides) == 1:
        sides.append((sides[-1] + 1) // 2)
    return sides


def _channels(width: int, blocks: int) -> list[int]:
    """Returns the channels of each layer, from the image inwards."""
    return [width * min(2**i, _MAX_WIDENING) for i in range(blocks)]
