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

_DOWNSAMPLINGS = {  # by the side in pixels
    28: 2,
    **{4 * 2**count: count for count in range(1, 9)},
    **{6 * 2**count: count for count in range(1, 8)},  # 48 is that of SNGAN for STL-10
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
    """A map from latents to examples."""

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
    """Returns how often an image can be halved, down to 4x4 pixels (6x6 for 48 and its like, 7x7 for 28).

    Raises:
      ValueError: for any shape but (H, W, C) with H = W = 28, or a power of two from 8 to 1,024, or
        three times a power of two from 12 to 768.
    """
    if len(shape) != 3 or shape[0] != shape[1] or shape[0] not in _DOWNSAMPLINGS:
        accepted = ", ".join(map(str, sorted(_DOWNSAMPLINGS)))
        given = " x ".join(map(str, shape))
        raise ValueError(f"makes square images of {accepted} pixels; one example here is {given}")
    return _DOWNSAMPLINGS[shape[0]]


_CONTEXT = ("shape", "num_classes", "dtype")
GENERATORS: Registry[Generator] = Registry(
    "generator", Generator, context=_CONTEXT, needs=("__call__",)
)
DISCRIMINATORS: Registry[Discriminator] = Registry(
    "discriminator", Discriminator, context=(*_CONTEXT, "class_logits"), needs=("__call__",)
)
