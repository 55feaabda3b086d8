"""Multilayer perceptrons: for points in the plane, or images taken as flat vectors."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.argument_bounds import AtLeast, Within
from gan.models.layers import Dense
from gan.models.network import (
    DISCRIMINATORS,
    GENERATORS,
    MOST_LAYERS,
    Discriminator,
    Generator,
    Judgement,
)
from gan.precision import at_least_float32


@GENERATORS.register("mlp")
class MLPGenerator(Generator):
    """Hidden layers of ReLU units; images end in tanh.

    If conditional, the one-hot label is appended to the latents.

    Attributes:
      width: Units of a hidden layer.
      depth: Number of hidden layers.
    """

    width: Annotated[int, AtLeast(1)] = 128
    depth: Annotated[int, Within(0, MOST_LAYERS)] = 3

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return True

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """Maps `[B, Z]` to `[B, *shape]`."""
        x = latents
        if self.conditional:
            x = jnp.concatenate([x, jax.nn.one_hot(labels, self.num_classes)], axis=-1)
        for _ in range(self.depth):
            x = nn.relu(Dense(self.width, dtype=self.dtype)(x))  # [B, width]
        x = Dense(math.prod(self.shape), dtype=self.dtype)(x)
        x = at_least_float32(x).reshape(-1, *self.shape)
        return nn.tanh(x) if len(self.shape) == 3 else x


@DISCRIMINATORS.register("mlp")
class MLPDiscriminator(Discriminator):
    """Hidden layers of leaky ReLU units.

    If conditional, the one-hot label is appended to the example.

    Attributes:
      width: Units of a hidden layer.
      depth: Number of hidden layers.
    """

    width: Annotated[int, AtLeast(1)] = 128
    depth: Annotated[int, Within(0, MOST_LAYERS)] = 3

    @property
    def per_sample(self) -> bool:  # noqa: D102
        return True

    @nn.compact
    def __call__(self, examples: jax.Array, labels: jax.Array, *, train: bool) -> Judgement:
        """Maps `[B, *shape]` to `[B]`."""
        x = examples.reshape(len(examples), -1)
        if self.conditional:
            x = jnp.concatenate([x, jax.nn.one_hot(labels, self.num_classes)], axis=-1)
        for _ in range(self.depth):
            x = nn.leaky_relu(Dense(self.width, dtype=self.dtype)(x), 0.2)  # [B, width]
        features = at_least_float32(x)
        return self.judgement(Dense(1)(features)[:, 0], features)
