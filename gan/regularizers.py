"""Penalties on the discriminator's gradient with respect to its inputs.

A penalty sees the discriminator as a `critic`, a function from examples `[B, *shape]` to logits
`[B]`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import jax
import jax.numpy as jnp

from gan.argument_bounds import AtLeast, BoundedFields
from gan.data.dataset import Batch
from gan.registry import Registry
from gan.schedules import SCHEDULES, of_run_step

Critic: TypeAlias = Callable[[jax.Array], jax.Array]
Every: TypeAlias = Annotated[int, AtLeast(1)]
Weight: TypeAlias = Annotated[float, AtLeast(0)]


@dataclass(frozen=True)
class Regularizer(BoundedFields):
    """A penalty applied at every n-th update of the discriminator, multiplied by n.

    Attributes:
      name: The name under which it is logged.
      penalty: `(critic, real [B, *shape], fake [B, *shape], key) -> scalar`.
      every: n; 1 applies it at every update, 16 is the lazy regularization of
        Karras et al., CVPR 2020.
    """

    name: str
    penalty: Callable[[Critic, jax.Array, jax.Array, jax.Array], jax.Array]
    every: Every = 1

    def __call__(self, critic: Critic, batch: Batch, fake: jax.Array, key: jax.Array) -> jax.Array:
        """Returns the penalty on one batch, a scalar; 0 at the updates in between."""
        fake = jax.lax.stop_gradient(fake)
        if self.every == 1:
            return self.penalty(critic, batch.examples, fake, key)
        return jax.lax.cond(
            batch.update % self.every == 0,
            lambda: self.every * self.penalty(critic, batch.examples, fake, key),
            lambda: jnp.zeros([]),
        )


REGULARIZERS: Registry[Regularizer] = Registry(
    "regularizer", Regularizer, lender=SCHEDULES, adapt=of_run_step
)


@REGULARIZERS.register("r1")
def r1(weight: Weight = 1.0, every: Every = 1) -> Regularizer:
    """Builds the penalty (weight / 2) E ||grad_x D(x)||^2 on real examples.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018,
    equation 9.
    """
    return Regularizer(
        "r1", lambda critic, real, fake, key: weight / 2 * _squared(critic, real).mean(), every
    )


@REGULARIZERS.register("r2")
def r2(weight: Weight = 1.0, every: Every = 1) -> Regularizer:
    """Builds the penalty (weight / 2) E ||grad_x D(x)||^2 on fake examples.

    Mescheder et al., 2018, equation 10.
    """
    return Regularizer(
        "r2", lambda critic, real, fake, key: weight / 2 * _squared(critic, fake).mean(), every
    )


@REGULARIZERS.register("gradient_penalty")
def gradient_penalty(weight: Weight = 10.0, every: Every = 1) -> Regularizer:
    """Builds the penalty weight * E (||grad_x D(x)||_2 - 1)^2 between real and fake examples.

    Each x lies on the line between a real and a fake example, at a random place of its own.

    Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, equation 3.
    """

    def penalty(critic: Critic, real: jax.Array, fake: jax.Array, key: jax.Array) -> jax.Array:
        ratio = jax.random.uniform(key, [len(real)] + [1] * (real.ndim - 1))  # [B, 1, ...]
        squared = _squared(critic, real + ratio * (fake - real))
        # The square root has no derivative at 0: there, the penalty is 1 and its gradient 0.
        norm = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
        return weight * ((norm - 1) ** 2).mean()

    return Regularizer("gradient_penalty", penalty, every)


def _squared(critic: Critic, examples: jax.Array) -> jax.Array:
    """Computes ||grad_x D(x)||^2 `[B]` for each example."""
    gradient = jax.grad(lambda x: critic(x).sum())(examples)  # [B, *shape]
    return jnp.sum(gradient**2, axis=range(1, gradient.ndim))
