"""BigGAN: wide residual networks with spectral norms, whose latents reach every block.

Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", ICLR 2019, appendix
B; the widths of 32 and 64 pixels are those of the author's code, github.com/ajbrock/BigGAN-PyTorch
(BigGAN.py), and those of 512 those of github.com/google/compare_gan (architectures/resnet_biggan.py).
The paper's networks for ImageNet at 128 pixels are `biggan(96, attention=64, conditional=True)`, with
latents of length 120. There are two differences: epsilon is 1e-5 in batch normalisation and 1e-12 in
spectral norms, where the paper has 1e-4; and the batches' running means, not standing statistics,
normalise samples, unless an average has `recalibrate_batch_norm`.
"""

from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.argument_bounds import AtLeast
from gan.errors import UsageError
from gan.models.attention import SelfAttention, check_attention
from gan.models.layers import Conv, Dense, Initializer, average_pool, upsample
from gan.models.network import (
    DISCRIMINATORS,
    GENERATORS,
    Discriminator,
    Generator,
    Judgement,
    Network,
    num_downsamplings,
)
from gan.models.normalization import (
    Apply,
    applying,
    class_affine,
    conditional_batch_norm,
    projected_affine,
)
from gan.models.resnet import halvings_to_8
from gan.precision import at_least_float32

_INITIALIZERS: dict[str, Initializer] = {
    "orthogonal": nn.initializers.orthogonal(),
    "normal": nn.initializers.normal(0.02),
}
_SMALL = 4  # in place of all of these, where an image is doubled at most three times
_GENERATOR = {  # the first layer's channels and those of the blocks, by the number of doublings
    4: (16, 16, 8, 4, 2),
    5: (16, 16, 8, 4, 2, 1),
    6: (16, 16, 8, 8, 4, 2, 1),
    7: (16, 16, 8, 8, 4, 2, 1, 1),
}
_DISCRIMINATOR = {  # the blocks' channels; all but the last block halve the image
    4: (1, 2, 4, 8, 16),
    5: (1, 2, 4, 8, 16, 16),
    6: (1, 2, 4, 8, 8, 16, 16),
    7: (1, 1, 2, 4, 8, 8, 16, 16),
}


class _BigGAN(Network):
    """What both networks have in common.

    Attributes:
      width: Channels are multiples of it: from 16 times in the middle to once at 128 pixels and more. With
        images that are halved at most three times, as those of 32 pixels are, it is 4 times everywhere.
      attention: Resolution at whose block's end there is self-attention, 64 in the paper; 0 is none.
      initializer: Of kernels and embeddings: `"orthogonal"`, or `"normal"` of deviation 0.02.
    """

    width: Annotated[int, AtLeast(1)] = 64
    attention: Annotated[int, AtLeast(0)] = 0
    initializer: Literal["orthogonal", "normal"] = "orthogonal"

    square_images = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if num_downsamplings(self.shape) > max(_GENERATOR):
            raise ValueError(f"has no widths for {self.shape[0]} pixels: BigGAN makes at most 512")
        check_attention(self.attention, self.resolutions())

    def resolutions(self) -> list[int]:
        """Returns the resolutions at which blocks end."""
        raise NotImplementedError

    @property
    def kernel_init(self) -> Initializer:
        """What `initializer` names."""
        return _INITIALIZERS[self.initializer]

    def applying(self, *, train: bool) -> Apply:
        """Returns what applies the layers."""
        return applying(spectral=True, train=train)

    def attend(self, x: jax.Array, layer: Apply) -> jax.Array:
        """Applies self-attention, if it belongs to this resolution; to be called in `__call__`."""
        if x.shape[1] != self.attention:
            return x
        return SelfAttention(self.kernel_init, self.dtype)(x, layer)


@GENERATORS.register("biggan")
class BigGANGenerator(_BigGAN, Generator):
    """Residual blocks, each of which doubles the resolution, with conditional batch normalisation.

    The latents are split evenly, a part for the first layer and one for each block. In a block the part,
    after the embedding of the label if conditional, gives scales and biases of the batch normalisations by
    linear maps. If not conditional the part alone does: self-modulation (Chen et al., ICLR 2019)
    without a hidden layer. All kernels are spectrally normalised. The fields are those of both
    networks of BigGAN, and:

    Attributes:
      embedding: Length of the label's embedding, which all blocks share; with 0 each batch normalisation
        has a scale and a bias for each class instead, which needs `hierarchical=False`.
      hierarchical: Whether the latents are split; if not, the first layer gets them all, and blocks get
        the embedding alone, or are normalised plainly if not conditional.

    Raises:
      UsageError: where the latents do not split evenly.
    """

    embedding: Annotated[int, AtLeast(0)] = 128
    hierarchical: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.conditional and self.hierarchical and self.embedding == 0:
            raise ValueError("embedding=0, scales of each class, needs hierarchical=False")

    def resolutions(self) -> list[int]:  # noqa: D102
        return [self.shape[0] >> i for i in range(num_downsamplings(self.shape))]

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """Maps `[B, Z]` to `[B, H, W, C]` in [-1, 1]."""
        blocks = num_downsamplings(self.shape)
        base = self.shape[0] >> blocks
        first, *widths = (self.width * n for n in _GENERATOR.get(blocks, (_SMALL,) * (blocks + 1)))
        init, layer = self.kernel_init, self.applying(train=train)
        conv = partial(Conv, kernel_init=init, dtype=self.dtype)
        linear = partial(Dense, kernel_init=init, dtype=self.dtype)

        def activate(x: jax.Array, vector: jax.Array | None) -> jax.Array:
            channels = x.shape[-1]
            if vector is not None:
                scale, bias = projected_affine(
                    vector, partial(linear, channels, use_bias=False), layer
                )
            elif self.conditional:
                inits = (_one_plus(init), init)
                scale, bias = class_affine(labels, self.num_classes, channels, *inits)
            else:
                return nn.relu(nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype)(x))
            return nn.relu(conditional_batch_norm(x, scale, bias, train=train, dtype=self.dtype))

        z, vectors = self._vectors(latents, labels, blocks)
        x = layer(linear(base * base * first), z).reshape(-1, base, base, first)
        for features, vector in zip(widths, vectors, strict=True):
            y = layer(conv(features, (3, 3), resample="double"), activate(x, vector))
            y = layer(conv(features, (3, 3)), activate(y, vector))  # [B, 2H, 2W, features]
            # A 1x1 convolution commutes with upsampling; before it, there are fewer pixels.
            x = y + upsample(layer(conv(features, (1, 1)), x))
            x = self.attend(x, layer)
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype)(x))
        return nn.tanh(at_least_float32(layer(conv(self.shape[-1], (3, 3)), x)))

    def _vectors(
        self, latents: jax.Array, labels: jax.Array, blocks: int
    ) -> tuple[jax.Array, list[jax.Array | None]]:
        """Returns what the first layer gets, `[B, Z']`, and what each block is conditioned on, `[B, V]`.

        None stands for no vector.
        """
        first, *parts = _split(latents, blocks) if self.hierarchical else [latents]
        vectors: list[jax.Array | None] = [*parts] or [None] * blocks
        if self.conditional and self.embedding:
            embed = nn.Embed(self.num_classes, self.embedding, embedding_init=self.kernel_init)
            shared = embed(labels)
            vectors = [
                shared if part is None else jnp.concatenate([shared, part], axis=-1)
                for part in vectors
            ]
        return first, vectors


@DISCRIMINATORS.register("biggan")
class BigGANDiscriminator(_BigGAN, Discriminator):
    """Residual blocks that halve the resolution, all but the last; then a sum over the pixels.

    Small images, as above, are halved to 8 pixels, and two blocks keep them, as in SNGAN. If
    conditional, the label is judged too, by projection (Miyato and Koyama, ICLR 2018). All kernels are
    spectrally normalised, and so is the embedding of the label. The fields are those of both networks
    of BigGAN.
    """

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return True

    def resolutions(self) -> list[int]:  # noqa: D102
        if (blocks := num_downsamplings(self.shape)) in _DISCRIMINATOR:
            return [self.shape[0] >> i for i in range(1, blocks + 1)]
        return halvings_to_8(self.shape[0])

    @nn.compact
    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> Judgement:
        """Maps `[B, H, W, C]` in [-1, 1] to `[B]`."""
        init, layer = self.kernel_init, self.applying(train=train)
        conv = partial(Conv, kernel_init=init, dtype=self.dtype)

        def block(x: jax.Array, features: int, *, first: bool, down: bool) -> jax.Array:
            y = layer(conv(features, (3, 3)), x if first else nn.relu(x))
            y = layer(conv(features, (3, 3), resample="mean" if down else "none"), nn.relu(y))
            if not down and x.shape[-1] == features:
                return x + y
            # A 1x1 convolution commutes with the mean of pixels; after it, there are fewer.
            x = average_pool(x) if down else x
            return y + layer(conv(features, (1, 1)), x)

        halvings = len(self.resolutions())
        widths = _DISCRIMINATOR.get(num_downsamplings(self.shape), (_SMALL,) * (halvings + 2))
        x = examples
        for i, multiple in enumerate(widths):
            x = block(x, self.width * multiple, first=i == 0, down=i < halvings)
            x = self.attend(x, layer) if i < halvings else x
        features = at_least_float32(nn.relu(x)).sum((1, 2))  # [B, F]
        logits = layer(Dense(1, kernel_init=init), features)[:, 0]
        if self.conditional:
            embed = nn.Embed(self.num_classes, features.shape[-1], embedding_init=init)
            logits += jnp.sum(layer(embed, labels) * features, axis=-1)
        return self.judgement(logits, features, layer)


def _split(latents: jax.Array, blocks: int) -> list[jax.Array]:
    """Splits latents `[B, Z]` into parts of one length, for the first layer and for each block."""
    size, parts = latents.shape[-1], blocks + 1
    if rest := size % parts:
        near = " or ".join(str(near) for near in (size - rest, size - rest + parts) if near)
        raise UsageError(
            f"biggan splits the latents into {parts} equal parts, for its first layer and each block: "
            f"latent_dim = {size} does not divide; {near} would, or hierarchical=False splits nothing"
        )
    return jnp.split(latents, parts, axis=-1)


def _one_plus(init: Initializer) -> Initializer:
    """Returns an initialiser whose values are those of another one plus 1."""
    return lambda *args: 1 + init(*args)
