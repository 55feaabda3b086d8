"""The residual networks of SNGAN.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018, appendix
B.4, table 4. The table is for 32x32 pixels. Here all blocks have the same width at every size; the
paper's larger networks double it with each halving of the resolution (tables 5 and 6).
"""

from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.argument_bounds import AtLeast
from gan.models.attention import SelfAttention, check_attention
from gan.models.layers import Conv, Dense, average_pool, upsample
from gan.models.network import (
    DISCRIMINATORS,
    GENERATORS,
    Discriminator,
    Generator,
    Judgement,
    num_downsamplings,
)
from gan.models.normalization import applying, class_affine, conditional_batch_norm
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
      attention: Resolution at whose block's end there is self-attention (SAGAN); 0 is none.
    """

    width: Annotated[int, AtLeast(1)] = 256
    attention: Annotated[int, AtLeast(0)] = 0

    square_images = True

    def __post_init__(self) -> None:
        super().__post_init__()
        blocks = num_downsamplings(self.shape)
        check_attention(self.attention, (self.shape[0] >> i for i in range(blocks)))

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """Maps `[B, Z]` to `[B, H, W, C]` in [-1, 1]."""

        def activate(x: jax.Array, *, conditional: bool) -> jax.Array:
            if not conditional:
                return nn.relu(nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype)(x))
            scale, bias = class_affine(labels, self.num_classes, self.width)
            return nn.relu(conditional_batch_norm(x, scale, bias, train=train, dtype=self.dtype))

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
            x = y + upsample(linear(self.width, (1, 1))(x))
            if x.shape[1] == self.attention:
                x = SelfAttention(_glorot, self.dtype)(x, applying(spectral=False, train=train))
        x = activate(x, conditional=False)
        return nn.tanh(at_least_float32(linear(self.shape[-1], (3, 3))(x)))


@DISCRIMINATORS.register("resnet")
class ResNetDiscriminator(Discriminator):
    """Residual blocks that halve the resolution down to 8x8 pixels, then two that keep it.

    The first block always halves, so that images of 8 and 28 pixels end at 4x4 and 7x7, and those of 48
    at 6x6; an odd side is the last. If conditional, the label is judged too, by projection (Miyato and
    Koyama, ICLR 2018).

    Attributes:
      width: Channels of every block.
      norm: `"spectral"` normalisation of each layer, as in the paper, or `"none"`.
      attention: Resolution at whose block's end there is self-attention (SAGAN); 0 is none.
    """

    width: Annotated[int, AtLeast(1)] = 128
    norm: Literal["none", "spectral"] = "spectral"
    attention: Annotated[int, AtLeast(0)] = 0

    square_images = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attention(self.attention, halvings_to_8(self.shape[0]))

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return True

    @nn.compact
    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> Judgement:
        """Maps `[B, H, W, C]` in [-1, 1] to `[B]`."""
        layer = applying(spectral=self.norm == "spectral", train=train)
        conv = partial(Conv, self.width, (3, 3), kernel_init=_glorot_sqrt2, dtype=self.dtype)

        def block(x: jax.Array, *, first: bool = False, down: bool = False) -> jax.Array:
            y = layer(conv(), x if first else nn.relu(x))
            y = layer(conv(resample="mean" if down else "none"), nn.relu(y))
            if not down:
                return x + y
            shortcut = Conv(self.width, (1, 1), kernel_init=_glorot, dtype=self.dtype)
            return layer(shortcut, average_pool(x)) + y  # [B, H / 2, W / 2, width]

        x = examples
        for side in halvings_to_8(self.shape[0]):
            x = block(x, first=x is examples, down=True)
            if side == self.attention:
                x = SelfAttention(_glorot, self.dtype)(x, layer)
        for _ in range(2):
            x = block(x)
        features = at_least_float32(nn.relu(x)).sum((1, 2))  # [B, width]
        logits = layer(Dense(1, use_bias=False, kernel_init=_glorot), features)[:, 0]
        if self.conditional:
            embed = nn.Embed(self.num_classes, self.width, embedding_init=_glorot)
            logits += jnp.sum(layer(embed, labels) * features, axis=-1)
        return self.judgement(logits, features, layer)


def halvings_to_8(side: int) -> list[int]:
    """Returns the sides of an image that is halved once, and then down to 8 pixels or an odd side."""
    sides = [side // 2]
    while sides[-1] > 8 and sides[-1] % 2 == 0:
        sides.append(sides[-1] // 2)
    return sides
