"""The bases of generators and discriminators, and the registries in which they are found by name.

A network is one file with a class for each side:

    @GENERATORS.register("linear")
    class LinearGenerator(Generator):
        width: Annotated[int, AtLeast(1)] = 64

        @nn.compact
        def __call__(self, latents, labels, *, train): ...

What the class adds to the fields of its base is what a spec may set.
"""

from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar, TypeAlias

import jax
from flax import linen as nn

from gan.argument_bounds import check_fields
from gan.models.layers import Dense
from gan.registry import Registry

Judgement: TypeAlias = jax.Array | tuple[jax.Array, jax.Array]

_BASES = (4, 5, 6, 7, 9, 11, 13, 15)  # pixels; 8, 10, 12 and 14 are halved once more
_DOWNSAMPLINGS = {  # by the side in pixels
    base << count: count
    for base in _BASES
    for count in range(1, 9)
    if (side := base << count) in (8, 12) or (side % 4 == 0 and 16 <= side <= 1024)
}

MOST_LAYERS = 256
"""Layers are traced and compiled one by one: more of them would take for ever."""


class Network(nn.Module):
    """A generator or a discriminator.

    Attributes:
      shape: Shape of one example, (H, W, C) or (D,); comes from the dataset.
      num_classes: Number of classes of the dataset.
      conditional: Whether the labels are used; a network that is not conditional ignores them.
      dtype: Type of the layers' computation, by the run's precision; every layer is to get it, as
        `dtype=self.dtype`. None infers it from inputs and parameters. See `gan.precision`.
      square_images: Whether the shape must be one that `num_downsamplings` accepts.

    Raises:
      ValueError: for a field out of its bounds, or a shape that the network cannot handle.
    """

    shape: tuple[int, ...]
    num_classes: int
    conditional: bool = field(default=False, kw_only=True)
    dtype: Any = field(default=None, kw_only=True)

    square_images: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.square_images:
            num_downsamplings(self.shape)
        super().__post_init__()


class Generator(Network):
    """A map from latents to examples.

    One with a mapping network, from latents to w, has two methods besides, whose composition `__call__`
    is; `map_latents` is the one that looks at labels, mixes styles and truncates, and `__call__` has its
    arguments:

        map_latents(latents, labels, *, train, keys=None, truncation=1.0) -> w [B, L, W], for L layers
        synthesize(w, *, train, keys=None) -> examples [B, *shape]
    """

    @property
    def stochastic(self) -> bool:
        """Whether the latents do not say all: `__call__` then takes `keys`, one for each example.

        They are given in training. Without them, in sampling, nothing is random.
        """
        return False

    @property
    def per_sample(self) -> bool:
        """Whether each example depends on its own latents alone, not on others of its batch."""
        return False

    def __call__(self, latents: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """Maps latents `[B, Z]` and labels `[B]` to examples `[B, *shape]`, images in [-1, 1]."""
        raise NotImplementedError


class Discriminator(Network):
    """A map from examples to logits.

    Attributes:
      class_logits: Whether it also says of which class an example is; comes from the loss.
    """

    class_logits: bool = field(default=False, kw_only=True)

    @property
    def per_sample(self) -> bool:
        """Whether each logit depends on its own sample alone.

        If so, steps that update both players at once go back through the network once, not twice.
        """
        return False

    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> Judgement:
        """Maps examples `[B, *shape]`, images in [-1, 1], and labels `[B]` to logits `[B]`.

        With `class_logits` it returns a pair: these, and the logits of the classes `[B, classes]`.
        """
        raise NotImplementedError

    def judgement(
        self,
        logits: jax.Array,
        features: jax.Array,
        apply: Callable[[nn.Module, jax.Array], jax.Array] = lambda layer, x: layer(x),
    ) -> Judgement:
        """Returns what `__call__` is to return; to be called in it.

        Args:
          logits: `[B]`.
          features: `[B, F]`, of which the logits of the classes are a linear map.
          apply: Applies a layer, where that is more than to call it.
        """
        if not self.class_logits:
            return logits
        return logits, apply(Dense(self.num_classes, name="class_logits_layer"), features)


def num_downsamplings(shape: tuple[int, ...]) -> int:
    """Returns how often an image can be halved, down to 4x4 to 7x7 pixels, or an odd number up to 15.

    Raises:
      ValueError: for any shape but (H, W, C) with H = W, a multiple of 4 from 16 to 60, of 8 to 120,
        of 16 to 240, and so on to 1,024; or 8 or 12.
    """
    if len(shape) == 3 and shape[0] == shape[1] and shape[0] in _DOWNSAMPLINGS:
        return _DOWNSAMPLINGS[shape[0]]
    given, side = " x ".join(map(str, shape)), shape[0]
    near = f"from {min(_DOWNSAMPLINGS)} to {max(_DOWNSAMPLINGS)} pixels"
    if len(shape) == 3 and shape[0] == shape[1] and 8 < side < 1024:
        below = max(size for size in _DOWNSAMPLINGS if size < side)
        above = min(size for size in _DOWNSAMPLINGS if size > side)
        near = f"of {below} or {above} pixels, say"
    raise ValueError(f"makes square images {near}; one example here is {given}")


_CONTEXT = ("shape", "num_classes", "dtype")
GENERATORS: Registry[Generator] = Registry(
    "generator", Generator, context=_CONTEXT, needs=("__call__",)
)
DISCRIMINATORS: Registry[Discriminator] = Registry(
    "discriminator", Discriminator, context=(*_CONTEXT, "class_logits"), needs=("__call__",)
)
