"""StyleGAN2: a mapping network, modulated convolutions, and images that are sums over resolutions.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020; sizes, first values and
constants as in github.com/NVlabs/stylegan2-ada-pytorch, training/networks.py. The base resolution is 4x4 pixels,
or for other sizes what `num_downsamplings` leaves. Differences from that code:

- style mixing and noise are drawn for each example from its own key; there a batch shares one crossover point;
- layers of low resolution have the run's precision too, while there only the four highest are in half precision.
  As there, the mapping networks, the styles, the scales of demodulation, the sums of images and the discriminator
  from its minibatch deviation on are always float32. That code clamps activations to 256 times a gain,
  because float16 overflows at 65,504; bfloat16 has the range of float32, and nothing is clamped;
- the generator's noise strengths, the mean of w and the noise images are averaged with its weights; there the
  last two are copied from the last iterate. The noise images are constants, so that this is the same.
"""

from math import sqrt
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from gan.argument_bounds import Above, AtLeast, Within
from gan.models.equalized import EqualizedConv, EqualizedDense, leaky_relu
from gan.models.minibatch_stddev import append_minibatch_stddev
from gan.models.modulated import ModulatedConv
from gan.models.network import (
    DISCRIMINATORS,
    GENERATORS,
    MOST_LAYERS,
    Discriminator,
    Generator,
    Judgement,
    Network,
    num_downsamplings,
)
from gan.models.pixel_noise import PixelNoise
from gan.models.resampling import upsample
from gan.precision import at_least_float32


class _StyleGAN2(Network):
    """The fields that both networks have.

    Attributes:
      channel_base: Layers at n x n pixels have `channel_base // n` channels, but not more than `channel_max`.
      channel_max: Most channels of a layer.
      mapping_layers: Layers of the mapping network; of the discriminator, that of the labels.
      mapping_rate: Learning rate multiplier of these layers.
    """

    channel_base: Annotated[int, AtLeast(1)] = 32_768
    channel_max: Annotated[int, AtLeast(1)] = 512
    mapping_layers: Annotated[int, Within(1, MOST_LAYERS)] = 8
    mapping_rate: Annotated[float, Above(0)] = 0.01

    square_images = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channel_base < self.shape[0]:
            raise ValueError(
                f"channel_base must be at least {self.shape[0]}, the pixels of a side, given "
                f"{self.channel_base}"
            )

    @property
    def widths(self) -> list[int]:
        """Channels at each resolution, from the base to the image."""
        doublings = num_downsamplings(self.shape)
        sides = [self.shape[0] >> halvings for halvings in range(doublings, -1, -1)]
        return [min(self.channel_base // side, self.channel_max) for side in sides]


@GENERATORS.register("stylegan2")
class StyleGAN2Generator(_StyleGAN2, Generator):
    """A learned image of 4x4 pixels, convolved and doubled by layers that w modulates.

    w is the output of the mapping network, one for each layer. Each resolution adds to the image ("skip"
    architecture). If conditional, an embedding of the label goes into the mapping network beside the
    latents. Without `keys` every image has the same noise, and nothing is mixed.

    Attributes:
      w_dim: Length of w.
      style_mixing: Probability that in training the layers from a random one on get the w of other latents
        (Karras et al., CVPR 2019, section 3.1).
      mean_decay: Decay of the moving average of w, for truncation.

    The other fields are those of both networks of StyleGAN2.
    """

    w_dim: Annotated[int, AtLeast(1)] = 512
    style_mixing: Annotated[float, Within(0, 1)] = 0.9
    mean_decay: Annotated[float, Within(0, 1)] = 0.995

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return True

    @property
    def stochastic(self) -> bool:
        """Whether an example depends on a random key of its own besides its latents."""
        return True

    @property
    def num_layers(self) -> int:
        """L, the number of layers that get a w of their own."""
        return 2 * len(self.widths)

    def setup(self) -> None:  # noqa: D102
        classes = self.num_classes if self.conditional else 0
        self.mapping = Mapping(self.w_dim, self.mapping_layers, self.mapping_rate, classes)
        self.synthesis = _Synthesis(self.shape, tuple(self.widths), self.dtype)
        self.w_mean = self.variable("w_mean", "value", jnp.zeros, (self.w_dim,))

    def __call__(  # noqa: D102
        self,
        latents: jax.Array,
        labels: jax.Array,
        *,
        train: bool,
        keys: jax.Array | None = None,
        truncation: float | jax.Array = 1.0,
    ) -> jax.Array:
        w = self.map_latents(latents, labels, train=train, keys=keys, truncation=truncation)
        return self.synthesize(w, train=train, keys=keys)

    def map_latents(
        self,
        latents: jax.Array,
        labels: jax.Array,
        *,
        train: bool,
        keys: jax.Array | None = None,
        truncation: float | jax.Array = 1.0,
    ) -> jax.Array:
        """Maps latents `[B, Z]` and labels `[B]` to one w for each layer, `[B, L, W]`.

        Args:
          latents: Standard normal; only their directions matter.
          labels: Ignored unless the generator is conditional.
          train: Whether the mean of w is updated, and styles are mixed.
          keys: Typed random keys `[B]` for style mixing; None mixes nothing.
          truncation: How far from the mean of w an image may be: at 1 all is left as it is, at 0 all images are
            the same but for their noise (`truncation_psi` of the authors' code).
        """
        w = self.mapping(latents, labels)  # [B, W]
        if train and not self.is_initializing():
            mean, batch = self.w_mean.value, lax.stop_gradient(w).mean(0)
            self.w_mean.value = mean + (1 - self.mean_decay) * (batch - mean)
        ws = jnp.broadcast_to(w[:, None], (len(w), self.num_layers, self.w_dim))
        if train and keys is not None and self.style_mixing > 0:
            others, mixed = jax.vmap(lambda key: self._draw_mix(key, latents.shape[-1]))(keys)
            ws = jnp.where(mixed[..., None], self.mapping(others, labels)[:, None], ws)
        if isinstance(truncation, jax.Array) or truncation != 1:
            ws = self.w_mean.value + truncation * (ws - self.w_mean.value)
        return ws

    def synthesize(self, w: jax.Array, *, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """Maps w `[B, L, W]` to images `[B, H, W, C]`; nothing confines them to [-1, 1], as in the paper.

        Args:
          w: One for each layer.
          train: Changes nothing here.
          keys: Typed random keys `[B]` for the noise; None is the same noise for all images.
        """
        del train
        return self.synthesis(w, keys)

    def _draw_mix(self, key: jax.Array, latent_dim: int) -> tuple[jax.Array, jax.Array]:
        """Draws other latents `[Z]` for an example, and which of its layers get their w, `[L]`."""
        whether, where, latents = jax.random.split(jax.random.fold_in(key, _MIXING), 3)
        first = jax.random.randint(where, (), 1, self.num_layers)
        chosen = jax.random.bernoulli(whether, self.style_mixing)
        layers = jnp.arange(self.num_layers)
        return jax.random.normal(latents, (latent_dim,)), chosen & (layers >= first)


_MIXING = 2**16
"""Number of the draws of style mixing; those of noises are the numbers of their layers."""


@DISCRIMINATORS.register("stylegan2")
class StyleGAN2Discriminator(_StyleGAN2, Discriminator):
    """Convolutions that halve the image, then one with the minibatch deviation, and two linear layers.

    If conditional, the last layer's output is multiplied with a mapped label: projection (Miyato and Koyama,
    ICLR 2018), with a mapping network of the label alone.

    Attributes:
      architecture: `"resnet"`, with residual blocks, or `"orig"`, without: that of the CIFAR-10 networks of ADA.
      stddev_group: Examples of a group of the minibatch deviation; it must divide the batch, and each part of it
        with `microbatches`. A smaller batch is a group itself.
      stddev_channels: Channels of the minibatch deviation; with 0 there is none, and each example is judged
        by itself.

    The other fields are those of both networks of StyleGAN2.
    """

    architecture: Literal["resnet", "orig"] = "resnet"
    stddev_group: Annotated[int, AtLeast(1)] = 4
    stddev_channels: Annotated[int, AtLeast(0)] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stddev_channels and self.widths[0] % self.stddev_channels:
            raise ValueError(
                f"stddev_channels must divide the {self.widths[0]} channels of the lowest resolution, given "
                f"{self.stddev_channels}"
            )

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return self.stddev_channels == 0

    @nn.compact
    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> Judgement:
        """Maps `[B, H, W, C]` in [-1, 1] to `[B]`."""
        base, *_ = widths = self.widths

        def conv(features: int, size: int, name: str, x: jax.Array, **options: Any) -> jax.Array:
            layer = EqualizedConv(features, (size, size), dtype=self.dtype, name=name, **options)
            return layer(x)

        x = leaky_relu(conv(widths[-1], 1, "from_image", examples))
        for number, width in enumerate(widths[-2::-1]):
            y = leaky_relu(conv(x.shape[-1], 3, f"conv_{number}", x))
            y = conv(width, 3, f"down_{number}", y, resample="down")  # [B, H / 2, W / 2, width]
            if self.architecture == "orig":
                x = leaky_relu(y)
                continue
            skip = conv(width, 1, f"skip_{number}", x, resample="down", use_bias=False)
            x = (skip + leaky_relu(y)) * sqrt(0.5)
        x = at_least_float32(x)
        if self.stddev_channels:
            x = append_minibatch_stddev(x, self.stddev_group, self.stddev_channels)
        x = leaky_relu(EqualizedConv(base, (3, 3), name="last_conv")(x))
        x = x.reshape(len(x), -1)
        features = leaky_relu(EqualizedDense(base, name="last_hidden")(x))  # [B, base]
        last = EqualizedDense(base if self.conditional else 1, name="last")(features)
        if self.conditional:
            mapping = Mapping(
                base, self.mapping_layers, self.mapping_rate, self.num_classes, name="mapping"
            )
            last *= mapping(None, labels) / sqrt(base)
        return self.judgement(last.sum(-1), features)


class Mapping(nn.Module):
    """A mapping network: linear layers with leaky ReLUs of normalised latents and label embeddings.

    Attributes:
      features: W, the length of every layer's output.
      num_layers: Number of layers.
      rate: Their learning rate multiplier.
      num_classes: Number of labels; 0 ignores them.
    """

    features: int
    num_layers: int
    rate: float
    num_classes: int

    @nn.compact
    def __call__(self, latents: jax.Array | None, labels: jax.Array) -> jax.Array:
        """Maps latents `[B, Z]`, or None, and labels `[B]` to `[B, W]`, in float32."""
        parts = [] if latents is None else [_normalized(latents)]
        if self.num_classes:
            one_hot = jax.nn.one_hot(labels, self.num_classes)
            parts.append(_normalized(EqualizedDense(self.features, name="embedding")(one_hot)))
        x = jnp.concatenate(parts, -1)
        for number in range(self.num_layers):
            x = leaky_relu(EqualizedDense(self.features, self.rate, name=f"layer_{number}")(x))
        return x


class _Synthesis(nn.Module):
    """The layers that make an image of w.

    Attributes:
      shape: Shape of the image, (H, W, C).
      widths: Channels at each resolution, from the base to the image.
      dtype: Type of the convolutions.
    """

    shape: tuple[int, ...]
    widths: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(self, ws: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Maps w `[B, L, W]` to `[B, H, W, C]`."""
        base = self.shape[0] >> (len(self.widths) - 1)
        constant = self.param("constant", nn.initializers.normal(1.0), (base, base, self.widths[0]))
        x = jnp.broadcast_to(constant, (len(ws), *constant.shape))
        image = jnp.zeros([], ws.dtype)
        layer = 0
        for number, width in enumerate(self.widths):
            for resample in ("up", "none") if number else ("none",):
                styled = _StyledConv(width, resample, layer, self.dtype, name=f"conv_{layer}")
                x = styled(x, ws[:, layer], keys)
                layer += 1
            # Its w is also that of the next resolution's first convolution.
            to_image = ModulatedConv(
                self.shape[-1],
                (1, 1),
                demodulate=False,
                dtype=self.dtype,
                name=f"to_image_{number}",
            )
            bias = self.param(f"image_bias_{number}", nn.initializers.zeros, self.shape[-1:])
            added = at_least_float32(to_image(x, ws[:, layer])) + bias
            image = (upsample(image) if number else image) + added
        return image


class _StyledConv(nn.Module):
    """A modulated 3x3 convolution, noise, a bias and a leaky ReLU.

    Attributes:
      features: Output channels, C'.
      resample: `"up"` doubles the image.
      number: Number of the layer.
      dtype: Type of the convolution.
    """

    features: int
    resample: Literal["none", "up"]
    number: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Maps images `[B, H, W, C]` and w `[B, W]` to `[B, H', W', C']`."""
        conv = ModulatedConv(
            self.features, (3, 3), self.resample, dtype=self.dtype, name="modulated"
        )
        x = PixelNoise(self.number, name="noise")(conv(x, w), keys)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return leaky_relu((x + bias).astype(x.dtype))


def _normalized(x: jax.Array) -> jax.Array:
    """Scales each row of `[B, N]` to a mean square of 1."""
    return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-8)
