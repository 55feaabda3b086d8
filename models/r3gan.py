"""R3GAN: residual blocks of grouped convolutions, without normalisation.

Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline", NeurIPS 2024, section 3,
Config E; initial values as in the authors' code. Their networks for CIFAR-10 are `width=768,
blocks=2, cardinality=96`, with 16 channels in a group, as in the defaults. There are two
differences: every stage has the same width here, whereas theirs for FFHQ narrow towards the image;
and all stages have the run's precision, whereas theirs of low resolution stay in single precision.
"""

from functools import partial
from math import sqrt
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.argument_bounds import AtLeast, Within
from gan.models.layers import Conv, Dense
from gan.models.network import (
    DISCRIMINATORS,
    GENERATORS,
    Discriminator,
    Generator,
    Judgement,
    Network,
    num_downsamplings,
)
from gan.models.resampling import downsample, upsample
from gan.precision import at_least_float32

_SLOPE = 0.2  # of the leaky ReLU
_linear = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


class _R3GAN(Network):
    """The fields that both networks have.

    Attributes:
      width: Channels of every stage; there is one stage for each resolution.
      blocks: Residual blocks of a stage.
      cardinality: Groups of channels in a block; divides `width * expansion`.
      expansion: Ratio of the channels within a block to those outside.
    """

    width: Annotated[int, AtLeast(1)] = 128
    blocks: Annotated[int, Within(1, 32)] = 1
    cardinality: Annotated[int, AtLeast(1)] = 16
    expansion: Annotated[int, AtLeast(1)] = 2

    square_images = True

    def __post_init__(self) -> None:
        super().__post_init__()
        channels = self.width * self.expansion
        if channels % self.cardinality:
            raise ValueError(
                f"cardinality must divide width * expansion = {channels}, given {self.cardinality}"
            )


@GENERATORS.register("r3gan")
class R3GANGenerator(_R3GAN, Generator):
    """A learned image of 4x4 pixels (6x6 or 7x7 for some sizes), its channels scaled by the latents, followed by stages.

    If conditional, an embedding of the label is appended to the latents. The fields are those of
    both networks of R3GAN.
    """

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return True

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """Maps `[B, Z]` to `[B, H, W, C]`; nothing confines it to [-1, 1], as in the paper."""
        doublings = num_downsamplings(self.shape)
        base = self.shape[0] >> doublings
        z = latents
        if self.conditional:
            init = nn.initializers.normal(1 / sqrt(self.num_classes))
            embed = nn.Embed(self.num_classes, z.shape[-1], embedding_init=init)
            z = jnp.concatenate([z, embed(labels)], axis=-1)
        options: dict[str, Any] = {"use_bias": False, "kernel_init": _linear, "dtype": self.dtype}
        scale = Dense(self.width, **options)(z)[:, None, None]
        basis = self.param("basis", nn.initializers.normal(1.0), (base, base, self.width))
        x = _stage(self, (basis * scale).astype(scale.dtype))
        for _ in range(doublings):
            x = _stage(self, upsample(x))  # [B, 2H, 2W, width]
        return at_least_float32(Conv(self.shape[-1], (1, 1), **options)(x))


@DISCRIMINATORS.register("r3gan")
class R3GANDiscriminator(_R3GAN, Discriminator):
    """The generator in reverse, down to a weighted sum of each channel's pixels.

    If conditional, the logit is a product with an embedding of the label: projection (Miyato and
    Koyama, ICLR 2018) without the term that all classes share. The fields are those of both
    networks of R3GAN.
    """

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return True

    @nn.compact
    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> Judgement:
        """Maps `[B, H, W, C]` in [-1, 1] to `[B]`."""
        options: dict[str, Any] = {"use_bias": False, "kernel_init": _linear}
        x = Conv(self.width, (1, 1), dtype=self.dtype, **options)(examples)
        x = _stage(self, x)
        for _ in range(num_downsamplings(self.shape)):
            x = _stage(self, downsample(x))  # [B, H / 2, W / 2, width]
        base = x.shape[1]
        basis = self.param("basis", nn.initializers.normal(1 / base), x.shape[1:])
        features = jnp.sum(at_least_float32(x) * basis, axis=(1, 2))  # [B, width]
        x = Dense(self.width if self.conditional else 1, **options)(features)
        if self.conditional:
            init = nn.initializers.normal(1 / sqrt(self.num_classes * self.width))
            x *= nn.Embed(self.num_classes, self.width, embedding_init=init)(labels)
        return self.judgement(jnp.sum(x, axis=-1), features)


def _stage(network: _R3GAN, x: jax.Array) -> jax.Array:
    """Applies the residual blocks of one resolution, `[B, H, W, C]` to the same shape.

    The last kernel of a block starts at zero, and the others start smaller the more blocks there
    are (Zhang et al., "Fixup Initialization", ICLR 2019). Only inputs of a leaky ReLU have a bias.
    """
    blocks = network.blocks * (num_downsamplings(network.shape) + 1)
    init = nn.initializers.variance_scaling(2 / (1 + _SLOPE**2) / sqrt(blocks), "fan_in", "normal")
    inner, groups = network.width * network.expansion, network.cardinality
    conv, zeros = partial(Conv, dtype=network.dtype), nn.initializers.zeros
    for _ in range(network.blocks):
        y = nn.leaky_relu(conv(inner, (1, 1), kernel_init=init)(x), _SLOPE)
        y = conv(inner, (3, 3), feature_group_count=groups, kernel_init=init)(y)
        y = nn.leaky_relu(y, _SLOPE)
        x += conv(network.width, (1, 1), use_bias=False, kernel_init=zeros)(y)
    return x
