"""R3GAN: residual blocks of grouped convolutions, without normalisation.

Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline", NeurIPS 2024, section 3,
Config E; initial values as in the authors' code. Their networks for CIFAR-10 are `width=768, blocks=2,
cardinality=96`, which leaves 16 channels in a group, as the defaults do. Here every stage has the
same width, where theirs for FFHQ narrow towards the image, and nothing is in half precision, where
some of their stages are.
"""

from collections.abc import Iterable
from math import sqrt

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from gan.models.layers import Conv
from gan.models.registry import DISCRIMINATORS, GENERATORS, check_size, halvings

_SLOPE = 0.2
_linear = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


@GENERATORS.register("r3gan")
class R3GANGenerator(nn.Module):
    """Latents to images: a learned 4x4 image, its channels scaled by the latents, then stages.

    Attributes:
      shape: (H, W, C) of an image; H = W is 28, or 4 times a power of two.
      num_classes: Of the dataset.
      width: Channels of every stage; there is one stage a resolution.
      blocks: Residual blocks of a stage.
      cardinality: Groups of channels in a block; must divide `width * expansion`.
      expansion: How many times more channels there are within a block.
      conditional: Whether an embedding of the label is appended to the latents.
    """

    shape: tuple[int, int, int]
    num_classes: int
    width: int = 128
    blocks: int = 1
    cardinality: int = 16
    expansion: int = 2
    conditional: bool = False

    def __post_init__(self) -> None:
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """`[B, Z]` to `[B, H, W, C]`, about within [-1, 1]: as in the paper nothing bounds it."""
        doublings = halvings(self.shape)
        base = self.shape[0] >> doublings
        z = latents
        if self.conditional:
            init = nn.initializers.normal(1 / sqrt(self.num_classes))
            embed = nn.Embed(self.num_classes, z.shape[-1], embedding_init=init)
            z = jnp.concatenate([z, embed(labels)], axis=-1)
        scale = nn.Dense(self.width, use_bias=False, kernel_init=_linear)(z)[:, None, None]
        basis = self.param("basis", nn.initializers.normal(1.0), (base, base, self.width))
        x = _stage(self, basis * scale)
        for _ in range(doublings):
            x = _stage(self, _upsample(x))  # [B, 2H, 2W, width]
        return Conv(self.shape[-1], (1, 1), use_bias=False, kernel_init=_linear)(x)


@DISCRIMINATORS.register("r3gan")
class R3GANDiscriminator(nn.Module):
    """Images to logits: the generator in reverse, down to a weighted sum of each channel's pixels.

    Attributes:
      shape: (H, W, C) of an image; H = W is 28, or 4 times a power of two.
      num_classes: Of the dataset.
      width: Channels of every stage; there is one stage a resolution.
      blocks: Residual blocks of a stage.
      cardinality: Groups of channels in a block; must divide `width * expansion`.
      expansion: How many times more channels there are within a block.
      conditional: Whether the logit is a product with an embedding of the label: projection (Miyato
        and Koyama, ICLR 2018) without a part that is the same for all classes.
    """

    shape: tuple[int, int, int]
    num_classes: int
    width: int = 128
    blocks: int = 1
    cardinality: int = 16
    expansion: int = 2
    conditional: bool = False

    samplewise = True

    def __post_init__(self) -> None:
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """`[B, H, W, C]` to `[B]`."""
        x = Conv(self.width, (1, 1), use_bias=False, kernel_init=_linear)(examples)
        x = _stage(self, x)
        for _ in range(halvings(self.shape)):
            x = _stage(self, _downsample(x))  # [B, H / 2, W / 2, width]
        base = x.shape[1]
        basis = self.param("basis", nn.initializers.normal(1 / base), x.shape[1:])
        features = jnp.sum(x * basis, axis=(1, 2))  # [B, width]
        outputs = self.width if self.conditional else 1
        x = nn.Dense(outputs, use_bias=False, kernel_init=_linear)(features)
        if self.conditional:
            init = nn.initializers.normal(1 / sqrt(self.num_classes * self.width))
            x *= nn.Embed(self.num_classes, self.width, embedding_init=init)(labels)
        return jnp.sum(x, axis=-1)


def _check(network: R3GANGenerator | R3GANDiscriminator) -> None:
    for name in ("width", "blocks", "cardinality", "expansion"):
        check_size(name, getattr(network, name), 1)
    if network.width * network.expansion % network.cardinality:
        raise ValueError(
            f"cardinality must divide width * expansion = {network.width * network.expansion}, "
            f"given {network.cardinality}"
        )
    halvings(network.shape)


def _stage(network: R3GANGenerator | R3GANDiscriminator, x: jax.Array) -> jax.Array:
    """Residual blocks at one resolution: `[B, H, W, C]` to the same.

    The last kernel of a block starts at zero, and the others start smaller the more blocks there are
    (Zhang et al., "Fixup Initialization", ICLR 2019). Only what goes into a leaky ReLU has a bias.
    """
    blocks = network.blocks * (halvings(network.shape) + 1)
    init = nn.initializers.variance_scaling(2 / (1 + _SLOPE**2) / sqrt(blocks), "fan_in", "normal")
    inner, groups = network.width * network.expansion, network.cardinality
    for _ in range(network.blocks):
        y = nn.leaky_relu(Conv(inner, (1, 1), kernel_init=init)(x), _SLOPE)
        y = Conv(inner, (3, 3), feature_group_count=groups, kernel_init=init)(y)
        y = nn.leaky_relu(y, _SLOPE)
        x += Conv(network.width, (1, 1), use_bias=False, kernel_init=nn.initializers.zeros)(y)
    return x


# [1, 2, 1] after doubling each pixel, or before the mean of two, is [1, 3, 3, 1]; zeros lie outside.
# Each of the two is the other's transpose but for a factor, and so its derivative. Convolutions with
# one channel each, and what autodiff makes of slices, are several times slower on a CPU.


@jax.custom_vjp
def _upsample(x: jax.Array) -> jax.Array:
    """`[B, H, W, C]` to `[B, 2H, 2W, C]`."""
    for axis in (1, 2):
        before, after = _taps(x, axis, 1, (0, 2))
        shape = tuple(size * 2 if i == axis else size for i, size in enumerate(x.shape))
        x = jnp.stack([before + 3 * x, 3 * x + after], axis + 1).reshape(shape) / 4
    return x


@jax.custom_vjp
def _downsample(x: jax.Array) -> jax.Array:
    """`[B, H, W, C]` to `[B, H / 2, W / 2, C]`."""
    for axis in (1, 2):
        a, b, c, d = _taps(x, axis, 2, range(4))
        x = (a + 3 * b + 3 * c + d) / 8
    return x


def _taps(x: jax.Array, axis: int, stride: int, starts: Iterable[int]) -> list[jax.Array]:
    """The array with a zero at each end of an axis, read from each start, a stride apart."""
    size = x.shape[axis]
    padded = jnp.pad(x, [(int(i == axis),) * 2 for i in range(x.ndim)])
    return [
        lax.slice_in_dim(padded, start, start + size - stride + 1, stride, axis) for start in starts
    ]


_upsample.defvjp(lambda x: (_upsample(x), None), lambda _, y: (4 * _downsample(y),))
_downsample.defvjp(lambda x: (_downsample(x), None), lambda _, y: (_upsample(y) / 4,))
