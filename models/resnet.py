"""The residual networks of SNGAN.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018, appendix
B.4, table 4. The table is for 32x32 pixels. Here all blocks have the same width at every size; the
paper's larger networks double it with each halving of the resolution (tables 5 and 6).
"""

from functools import partial
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.argument_bounds import AtLeast
from gan.models.layers import Conv, Dense
from gan.models.network import (
    DISCRIMINATORS,
    GENERATORS,
    Discriminator,
    Generator,
    Judgement,
    num_downsamplings,
)
from gan.precision import at_least_float32

_glorot = nn.initializers.glorot_uniform()
_glorot_sqrt2 = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")
"""Glorot's with gain sqrt(2), for the 3x3 convolutions of a block, as in the authors' code."""


@GENERATORS.register("resnet")
class ResNetGenerator(Generator):
    """Residual blocks, each of which doubles the resolution.

    If conditional, each class has its own scale and bias in the batch normalisations of the blocks
    (table 6).

    Attributes:
      width: Channels of every block.
    """

    width: Annotated[int, AtLeast(1)] = 256

    square_images = True

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """Maps `[B, Z]` to `[B, H, W, C]` in [-1, 1]."""

        def activate(x: jax.Array, *, conditional: bool) -> jax.Array:
            shared = not conditional  # the same scale and bias for all classes
            options: dict[str, Any] = {"use_scale": shared, "use_bias": shared, "dtype": self.dtype}
            x = nn.BatchNorm(not train, momentum=0.9, **options)(x)
            if conditional:
                scale, bias = (
                    nn.Embed(self.num_classes, self.width, embedding_init=init)(labels)
                    for init in (nn.initializers.ones, nn.initializers.zeros)
                )
                x = (x * scale[:, None, None] + bias[:, None, None]).astype(x.dtype)
            return nn.relu(x)

        blocks = num_downsamplings(self.shape)
        base = self.shape[0] >> blocks
        conv = partial(Conv, self.width, (3, 3), kernel_init=_glorot_sqrt2, dtype=self.dtype)
        linear = partial(Conv, kernel_init=_glorot, dtype=self.dtype)
        x = Dense(base * base * self.width, kernel_init=_glorot, dtype=self.dtype)(latents)
        x = x.reshape(-1, base, base, self.width)
        for _ in range(blocks):
            y = activate(x, conditional=self.conditional)
            y = conv(resample="double")(y)
            y = activate(y, conditional=self.conditional)
            y = conv()(y)  # [B, 2H, 2W, width]
            # A 1x1 convolution commutes with upsampling; before it, there are fewer pixels.
            x = y + _upsample(linear(self.width, (1, 1))(x))
        x = activate(x, conditional=False)
        return nn.tanh(at_least_float32(linear(self.shape[-1], (3, 3))(x)))


@DISCRIMINATORS.register("resnet")
class ResNetDiscriminator(Discriminator):
    """Residual blocks that halve the resolution down to 8x8 pixels, then two that keep it.

    The first block always halves, so that images of 8 and 28 pixels end at 4x4 and 7x7, and those of 48
    at 6x6; an odd side is the last. If conditional, the label is judged too, by projection (Miyato and Koyama, ICLR 2018).

    Attributes:
      width: Channels of every block.
      norm: `"spectral"` normalisation of each layer, as in the paper, or `"none"`.
    """

    width: Annotated[int, AtLeast(1)] = 128
    norm: Literal["none", "spectral"] = "spectral"

    square_images = True

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return True

    @nn.compact
    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> Judgement:
        """Maps `[B, H, W, C]` in [-1, 1] to `[B]`."""

        def layer(module: nn.Module, x: jax.Array) -> jax.Array:
            if self.norm == "spectral":
                return nn.SpectralNorm(module)(x, update_stats=train)
            return module(x)

        def block(x: jax.Array, *, first: bool = False, down: bool = False) -> jax.Array:
            y = layer(conv(), x if first else nn.relu(x))
            y = layer(conv(resample="mean" if down else "none"), nn.relu(y))
            if not down:
                return x + y
            shortcut = Conv(self.width, (1, 1), kernel_init=_glorot, dtype=self.dtype)
            return layer(shortcut, _average_pool(x)) + y  # [B, H / 2, W / 2, width]

        conv = partial(Conv, self.width, (3, 3), kernel_init=_glorot_sqrt2, dtype=self.dtype)
        x = block(examples, first=True, down=True)
        while x.shape[1] > 8 and x.shape[1] % 2 == 0:
            x = block(x, down=True)
        for _ in range(2):
            x = block(x)
        features = at_least_float32(nn.relu(x)).sum((1, 2))  # [B, width]
        logits = layer(Dense(1, use_bias=False, kernel_init=_glorot), features)[:, 0]
        if self.conditional:
            embed = nn.Embed(self.num_classes, self.width, embedding_init=_glorot)
            logits += jnp.sum(layer(embed, labels) * features, axis=-1)
        return self.judgement(logits, features, layer)


def _upsample(x: jax.Array) -> jax.Array:
    """Repeats each pixel twice along both axes: `[B, H, W, C]` to `[B, 2H, 2W, C]`."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _average_pool(x: jax.Array) -> jax.Array:
    """Takes the mean of each 2x2 pixels: `[B, H, W, C]` to `[B, H / 2, W / 2, C]`."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
