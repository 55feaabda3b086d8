"""The two players of a game: the state of each, and how one of them takes a step."""

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import jax
import optax
from flax import struct

from gan import schedule_free

T = TypeVar("T")
R = TypeVar("R")

Role: TypeAlias = Literal["generator", "discriminator"]
Params: TypeAlias = Any  # a pytree of float arrays
Variables: TypeAlias = Any  # a pytree: Flax's collections other than "params"
ROLES: tuple[Role, Role] = ("generator", "discriminator")
TRAINING_STATE = "training_state"
"""The key, in a player's variables, of what is no part of its network: the states of regularizers."""


@struct.dataclass
class Pair(Generic[T]):
    """One value for each player."""

    generator: T
    discriminator: T

    def of(self, role: Role) -> T:
        """Returns the value of one player."""
        return self.generator if role == "generator" else self.discriminator

    def put(self, role: Role, value: T) -> "Pair[T]":
        """Returns the pair with another value for one player."""
        return self.replace(**{role: value})  # type: ignore[attr-defined]


@struct.dataclass
class PlayerState:
    """The state of one player.

    Attributes:
      params: The parameters that its optimizer moves, at which gradients are taken.
      variables: Arrays that gradients do not train: batch statistics, spectral-norm vectors; and the
        states of what is added to the player's loss.
      opt_state: The state of the player's own optimizer.
    """

    params: Params
    variables: Variables
    opt_state: optax.OptState

    def at(self, params: Params) -> "PlayerState":
        """Returns the player with other parameters."""
        return self.replace(params=params)  # type: ignore[attr-defined]

    @property
    def weights(self) -> Params:
        """The parameters to draw samples with: `params`, unless the optimizer says otherwise."""
        return schedule_free.weights(self.params, self.opt_state)


@struct.dataclass
class Gradient:
    """The gradient of one player's loss in its own parameters, at one point of the game.

    Attributes:
      value: The gradient, shaped like the player's parameters.
      loss: The player's loss at that point, a scalar.
      variables: The player's variables after the evaluation.
      metrics: Scalars to log, by name.
    """

    value: Params
    loss: jax.Array
    variables: Variables
    metrics: dict[str, jax.Array]


def network_variables(variables: Variables) -> Variables:
    """Returns a player's variables without what is no part of its network."""
    if not isinstance(variables, dict):
        return variables
    return {name: value for name, value in variables.items() if name != TRAINING_STATE}


def training_state(variables: Variables) -> dict[str, Any]:
    """Returns what a player's variables have besides those of its network, by name."""
    return variables.get(TRAINING_STATE, {}) if isinstance(variables, dict) else {}


def with_training_state(variables: Variables, state: dict[str, Any]) -> Variables:
    """Returns the network's variables together with a training state, which may be empty."""
    own = network_variables(variables)
    return {**own, TRAINING_STATE: state} if state else own


def pairwise(function: Callable[..., R], *pairs: Pair[Any]) -> Pair[R]:
    """Calls `function` for each player, with that player's value of every pair."""
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
    """Makes one optimizer step of one player.

    Args:
      optimizer: The player's own.
      player: The player, with the state of its optimizer.
      gradient: The gradient of its loss.
      start: The player whose parameters the step starts from; None is `player`.
    """
    origin = (start or player).params
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        gradient.value, player.opt_state, origin, value=gradient.loss
    )
    params = optax.apply_updates(origin, updates)
    return PlayerState(params=params, variables=gradient.variables, opt_state=opt_state)
