"""Penalties on the discriminator's gradient with respect to its inputs.

A penalty sees the discriminator as a `critic`, a function of examples `[B, *shape]` to logits `[B]`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp

from gan.data.dataset import Batch
from gan.specs import Registry

Critic: TypeAlias = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class Regularizer:
    """A penalty that is applied at every n-th update, and then n times as strong.

    Attributes:
      name: Under which it is logged.
      penalty: `(critic, real, fake, key) -> scalar`.
      every: n; 1 applies it always, 16 is the lazy regularization of Karras et al., CVPR 2020.
    """

    name: str
    penalty: Callable[[Critic, jax.Array, jax.Array, jax.Array], jax.Array]
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, given {self.every}")

    def __call__(self, critic: Critic, batch: Batch, fake: jax.Array, key: jax.Array) -> jax.Array:
        """The penalty on one batch."""
        fake = jax.lax.stop_gradient(fake)
        if self.every == 1:
            return self.penalty(critic, batch.examples, fake, key)
        return jax.lax.cond(
            batch.update % self.every == 0,
            lambda: self.every * self.penalty(critic, batch.examples, fake, key),
            lambda: jnp.zeros([]),
        )


REGULARIZERS: Registry[Regularizer] = Registry("regularizer", Regularizer)


@REGULARIZERS.register("r1")
def r1(weight: float = 1.0, every: int = 1) -> Regularizer:
    """(weight / 2) E ||grad_x D(x)||^2 on real examples.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018, equation 9.
    """
    return Regularizer(
        "r1", lambda critic, real, fake, key: weight / 2 * _squared(critic, real).mean(), every
    )


@REGULARIZERS.register("r2")
def r2(weight: float = 1.0, every: int = 1) -> Regularizer:
    """(weight / 2) E ||grad_x D(x)||^2 on fake examples; Mescheder et al., 2018, equation 10."""
    return Regularizer(
        "r2", lambda critic, real, fake, key: weight / 2 * _squared(critic, fake).mean(), every
    )


@REGULARIZERS.register("gradient_penalty")
def gradient_penalty(weight: float = 10.0, every: int = 1) -> Regularizer:
    """Weight E (||grad_x D(x)||_2 - 1)^2, x on the line between a real and a fake example.

    Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, equation 3. The mixing
    ratio and the norm are each sample's own.
    """

    def penalty(critic: Critic, real: jax.Array, fake: jax.Array, key: jax.Array) -> jax.Array:
        ratio = jax.random.uniform(key, [len(real)] + [1] * (real.ndim - 1))  # [B, 1, ...]
        squared = _squared(critic, real + ratio * (fake - real))
        # The root has no derivative at zero; there the penalty is 1 and its gradient 0.
        norm = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
        return weight * ((norm - 1) ** 2).mean()

    return Regularizer("gradient_penalty", penalty, every)


def _squared(critic: Critic, examples: jax.Array) -> jax.Array:
    """||grad_x D(x)||^2 for each example, [B]."""
    gradient = jax.grad(lambda x: critic(x).sum())(examples)  # [B, *shape]
    return jnp.sum(gradient**2, axis=range(1, gradient.ndim))
