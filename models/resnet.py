"""The residual networks of SNGAN.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018, appendix B.4,
table 4. The table is for 32x32; here every size has the same width in all its blocks, where the
paper's larger networks double it with each halving of the resolution (tables 5 and 6).
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.models.layers import Conv
from gan.models.registry import DISCRIMINATORS, GENERATORS, check_size, halvings

_glorot = nn.initializers.glorot_uniform()
_root2 = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")
"""Glorot's with gain sqrt(2), for what ReLU feeds in a block: as in the authors' code."""


@GENERATORS.register("resnet")
class ResNetGenerator(nn.Module):
    """Latents to images: each residual block doubles the resolution.

    Attributes:
      shape: (H, W, C) of an image; H = W is 28, or 4 times a power of two.
      num_classes: Of the dataset.
      width: Channels of every block.
      conditional: Whether each class has a scale and a bias of its own where a block is
        batch-normalised (table 6).
    """

    shape: tuple[int, int, int]
    num_classes: int
    width: int = 256
    conditional: bool = False

    def __post_init__(self) -> None:
        check_size("width", self.width, 1)
        halvings(self.shape)
        super().__post_init__()

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """`[B, Z]` to `[B, H, W, C]` in [-1, 1]."""

        def activate(x: jax.Array, *, conditional: bool) -> jax.Array:
            own = not conditional
            x = nn.BatchNorm(not train, momentum=0.9, use_scale=own, use_bias=own)(x)
            if conditional:
                scale, bias = (
                    nn.Embed(self.num_classes, self.width, embedding_init=init)(labels)
                    for init in (nn.initializers.ones, nn.initializers.zeros)
                )
                x = x * scale[:, None, None] + bias[:, None, None]
            return nn.relu(x)

        blocks = halvings(self.shape)
        base = self.shape[0] >> blocks
        x = nn.Dense(base * base * self.width, kernel_init=_glorot)(latents)
        x = x.reshape(-1, base, base, self.width)
        for _ in range(blocks):
            y = activate(x, conditional=self.conditional)
            y = Conv(self.width, (3, 3), kernel_init=_root2, resample="double")(y)
            y = activate(y, conditional=self.conditional)
            y = Conv(self.width, (3, 3), kernel_init=_root2)(y)  # [B, 2H, 2W, width]
            # A 1x1 convolution may as well come before the doubling, of four times fewer pixels.
            x = y + _double(Conv(self.width, (1, 1), kernel_init=_glorot)(x))
        x = activate(x, conditional=False)
        return nn.tanh(Conv(self.shape[-1], (3, 3), kernel_init=_glorot)(x))


@DISCRIMINATORS.register("resnet")
class ResNetDiscriminator(nn.Module):
    """Images to logits: residual blocks that halve the resolution down to 8x8, then two that do not.

    The first block always halves; sizes 8 and 28 end at 4x4 and 7x7.

    Attributes:
      shape: (H, W, C) of an image; H = W is 28, or 4 times a power of two.
      num_classes: Of the dataset.
      width: Channels of every block.
      norm: `"spectral"` normalisation of each layer, as in the paper, or `"none"`.
      conditional: Whether the label is judged too, by projection (Miyato and Koyama, ICLR 2018).
    """

    shape: tuple[int, int, int]
    num_classes: int
    width: int = 128
    norm: Literal["none", "spectral"] = "spectral"
    conditional: bool = False

    samplewise = True

    def __post_init__(self) -> None:
        check_size("width", self.width, 1)
        halvings(self.shape)
        super().__post_init__()

    @nn.compact
    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """`[B, H, W, C]` in [-1, 1] to `[B]`."""

        def layer(module: nn.Module, x: jax.Array) -> jax.Array:
            if self.norm == "spectral":
                return nn.SpectralNorm(module)(x, update_stats=train)
            return module(x)

        def block(x: jax.Array, *, first: bool = False, down: bool = False) -> jax.Array:
            y = x if first else nn.relu(x)
            y = layer(Conv(self.width, (3, 3), kernel_init=_root2), y)
            resample: Literal["none", "mean"] = "mean" if down else "none"
            conv = Conv(self.width, (3, 3), kernel_init=_root2, resample=resample)
            y = layer(conv, nn.relu(y))
            if not down:
                return x + y
            shortcut = Conv(self.width, (1, 1), kernel_init=_glorot)
            return layer(shortcut, _halve(x)) + y  # [B, H / 2, W / 2, width]

        x = block(examples, first=True, down=True)
        while x.shape[1] > 8:
            x = block(x, down=True)
        for _ in range(2):
            x = block(x)
        features = nn.relu(x).sum((1, 2))  # [B, width]
        logits = layer(nn.Dense(1, use_bias=False, kernel_init=_glorot), features)[:, 0]
        if self.conditional:
            embed = nn.Embed(self.num_classes, self.width, embedding_init=_glorot)
            logits += jnp.sum(layer(embed, labels) * features, axis=-1)
        return logits


def _double(x: jax.Array) -> jax.Array:
    """Each pixel four times: `[B, H, W, C]` to `[B, 2H, 2W, C]`."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _halve(x: jax.Array) -> jax.Array:
    """The mean of each four pixels: `[B, H, W, C]` to `[B, H / 2, W / 2, C]`."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
