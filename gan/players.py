"""The two players of a game: what each owns, and how one of them takes a step."""

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import jax
import optax
from flax import struct

T = TypeVar("T")
R = TypeVar("R")

Role: TypeAlias = Literal["generator", "discriminator"]
Params: TypeAlias = Any  # a pytree of float arrays
Variables: TypeAlias = Any  # a pytree: Flax's collections other than "params"
ROLES: tuple[Role, Role] = ("generator", "discriminator")


@struct.dataclass
class Pair(Generic[T]):
    """One value for each player."""

    generator: T
    discriminator: T

    def of(self, role: Role) -> T:
        """The value of one player."""
        return self.generator if role == "generator" else self.discriminator

    def put(self, role: Role, value: T) -> "Pair[T]":
        """The pair with another value for one player."""
        return self.replace(**{role: value})  # type: ignore[attr-defined]


@struct.dataclass
class PlayerState:
    """What one player owns.

    Attributes:
      params: What its gradient moves.
      variables: What is not trained by gradients: batch statistics, spectral-norm vectors.
      opt_state: The state of its own optimizer.
    """

    params: Params
    variables: Variables
    opt_state: optax.OptState


@struct.dataclass
class Gradient:
    """The gradient of one player's loss in its own parameters, at one point of the game.

    Attributes:
      value: The gradient, shaped like the player's parameters.
      loss: The player's loss there, a scalar.
      variables: The player's variables after the evaluation.
      metrics: Scalars to log, by name.
    """

    value: Params
    loss: jax.Array
    variables: Variables
    metrics: dict[str, jax.Array]


def pairwise(function: Callable[..., R], *pairs: Pair[Any]) -> Pair[R]:
    """Calls `function` once for each player, with that player's value of every pair."""
    return Pair(
        generator=function(*(pair.generator for pair in pairs)),
        discriminator=function(*(pair.discriminator for pair in pairs)),
    )


def update(
    optimizer: optax.GradientTransformation,
    player: PlayerState,
    gradient: Gradient,
    start: PlayerState | None = None,
) -> PlayerState:
    """One optimizer step of one player, from the parameters of `start` where given."""
    origin = (start or player).params
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        gradient.value, player.opt_state, origin, value=gradient.loss
    )
    params = optax.apply_updates(origin, updates)
    return PlayerState(params=params, variables=gradient.variables, opt_state=opt_state)
