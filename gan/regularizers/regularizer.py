"""The interface of a regularizer: a penalty that is added to the loss of a player."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp

from gan.argument_bounds import AtLeast, BoundedFields
from gan.players import Role
from gan.registry import Registry
from gan.schedules import SCHEDULES, Schedule, of_run_step

Critic: TypeAlias = Callable[[jax.Array], jax.Array]
Every: TypeAlias = Annotated[int, AtLeast(1)]
Weight: TypeAlias = Annotated[float, AtLeast(0)] | Schedule


@dataclass(frozen=True)
class PenaltyInputs:
    """What a penalty sees of the game at one point, for B samples.

    Attributes:
      role: The player whose loss the penalty is added to; gradients are taken in its parameters.
      real: Real examples `[B, *shape]`.
      fake: Fake examples `[B, *shape]`; they depend on the generator's parameters alone.
      latents: Those of the fake examples, `[B, Z]`.
      labels: int32 `[B]`.
      keys: A random key for each sample, `[B]`.
      critic: The discriminator in training mode, from examples `[B, *shape]` to logits `[B]`; where
        it is augmented, of the augmented examples.
      generate: The generator in training mode, from other latents `[B, Z]` of the samples, with their
        labels, to examples `[B, *shape]`.
      split: The same in two halves: for some rows of the batch, what the mapping network makes of their
        latents, w `[N, L, W]`, and the function from there to examples `[N, *shape]`. Where the generator
        has no mapping network, w is the latents `[N, Z]`.
      step: Generator updates before this one, an int32 scalar.
      real_logits: `critic(real)` `[B]` where the loss has it; see `logits_of_real`.
      fake_logits: The loss's own logits `[B]` of the fake examples, for penalties that are `of_logits`.
    """

    role: Role
    real: jax.Array
    fake: jax.Array
    latents: jax.Array
    labels: jax.Array
    keys: jax.Array
    critic: Critic
    generate: Callable[[jax.Array], jax.Array]
    split: Callable[[slice], tuple[jax.Array, Callable[[jax.Array], jax.Array]]]
    step: jax.Array
    real_logits: jax.Array | None = None
    fake_logits: jax.Array | None = None

    def logits_of_real(self) -> jax.Array:
        """Returns `critic(real)`, from the loss's own pass where that is the same."""
        return self.critic(self.real) if self.real_logits is None else self.real_logits


@dataclass(frozen=True)
class Regularizer(BoundedFields, abc.ABC):
    """A penalty on a player, applied at every n-th update of it and then multiplied by n.

    A penalty that remembers something has a state: `penalty` returns means over the samples, which
    `update` adds to the state once an update, over all microbatches and devices.

    Attributes:
      weight: Factor of the penalty, or a schedule of it.
      every: n; 1 applies it at every update, 16 is the lazy regularization of Karras et al.,
        CVPR 2020, appendix B.
      roles: The players that it is a penalty on.
      of_logits: Whether the penalty depends on `real_logits` and `fake_logits` alone.
      over_batch: Whether the penalty of a batch is other than the mean over its microbatches.
    """

    weight: Weight = 1.0
    every: Every = 1

    roles: ClassVar[tuple[Role, ...]] = ("discriminator",)
    of_logits: ClassVar[bool] = False
    over_batch: ClassVar[bool] = False

    def weight_of(self, role: Role) -> Any:
        """Returns the factor of the penalty on a player, or a schedule of it."""
        return self.weight

    def init(self) -> Any:
        """Returns the state before the first step, a pytree of arrays; {} is none."""
        return {}

    @abc.abstractmethod
    def penalty(self, inputs: PenaltyInputs, state: Any) -> tuple[jax.Array, Any]:
        """Computes the penalty before its weight, a scalar, and what `update` needs of the samples.

        Returns:
          The penalty, a mean over the samples; and means over the samples, a pytree.
        """

    def update(self, state: Any, means: Any) -> Any:
        """Returns the state after an update at which the penalty was applied."""
        return state

    def due(self, update: jax.Array) -> jax.Array:
        """Returns whether the penalty is applied at an update, counted from 0."""
        return update % self.every == 0

    def apply(
        self, inputs: PenaltyInputs, state: Any, update: jax.Array, weight: Any
    ) -> tuple[jax.Array, Any]:
        """Computes the penalty with its weight, times n; zeros at the updates in between."""
        if self.every == 1:
            value, means = self.penalty(inputs, state)
            return weight * value, means

        def lazily() -> tuple[jax.Array, Any]:
            value, means = self.penalty(inputs, state)
            return self.every * (weight * value), means

        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(lazily))
        return jax.lax.cond(self.due(update), lazily, lambda: zeros)

    def caution(self, precision: str) -> str:
        """Returns what a run in this precision should know of the penalty; `""` is nothing."""
        return ""

    def check_networks(self, generator: Any, discriminator: Any) -> None:
        """Raises ValueError where the networks cannot serve the penalty."""


REGULARIZERS: Registry[Regularizer] = Registry(
    "regularizer", Regularizer, lender=SCHEDULES, adapt=of_run_step
)
