"""Multilayer perceptrons: for points in the plane, or images taken as flat vectors."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.models.registry import DISCRIMINATORS, GENERATORS, check_size


@GENERATORS.register("mlp")
class MLPGenerator(nn.Module):
    """Latents to examples through `depth` hidden layers of `width` ReLU units.

    Attributes:
      shape: Of one example; images end in tanh.
      num_classes: Of the dataset.
      width: Units of a hidden layer.
      depth: Hidden layers.
      conditional: Whether the label is appended to the latents, one-hot.
    """

    shape: tuple[int, ...]
    num_classes: int
    width: int = 128
    depth: int = 3
    conditional: bool = False

    def __post_init__(self) -> None:
        check_size("width", self.width, 1)
        check_size("depth", self.depth, 0)
        super().__post_init__()

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """`[B, Z]` to `[B, *shape]`."""
        x = latents
        if self.conditional:
            x = jnp.concatenate([x, jax.nn.one_hot(labels, self.num_classes)], axis=-1)
        for _ in range(self.depth):
            x = nn.relu(nn.Dense(self.width)(x))  # [B, width]
        x = nn.Dense(math.prod(self.shape))(x).reshape(-1, *self.shape)
        return nn.tanh(x) if len(self.shape) == 3 else x


@DISCRIMINATORS.register("mlp")
class MLPDiscriminator(nn.Module):
    """Examples to logits through `depth` hidden layers of `width` leaky ReLU units.

    Attributes:
      shape: Of one example.
      num_classes: Of the dataset.
      width: Units of a hidden layer.
      depth: Hidden layers.
      conditional: Whether the label is appended to the example, one-hot.
    """

    shape: tuple[int, ...]
    num_classes: int
    width: int = 128
    depth: int = 3
    conditional: bool = False

    def __post_init__(self) -> None:
        check_size("width", self.width, 1)
        check_size("depth", self.depth, 0)
        super().__post_init__()

    @property
    def samplewise(self) -> bool:
        """Whether no sample's logit depends on the others."""
        return True

    @nn.compact
    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """`[B, *shape]` to `[B]`."""
        x = examples.reshape(len(examples), -1)
        if self.conditional:
            x = jnp.concatenate([x, jax.nn.one_hot(labels, self.num_classes)], axis=-1)
        for _ in range(self.depth):
            x = nn.leaky_relu(nn.Dense(self.width)(x), 0.2)  # [B, width]
        return nn.Dense(1)(x)[:, 0]
