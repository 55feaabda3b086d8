"""The penalties of the adversarial game: all regularizers of a player, applied and weighted."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gan.games.draw import Draw
from gan.players import Role
from gan.regularizers import PenaltyInputs, Regularizer
from gan.schedules import value_at


class Penalties(NamedTuple):
    """The sum of a player's penalties.

    Attributes:
      value: The sum, a scalar.
      metrics: Each of them, by the name of its metric.
      means: What each updates its state from, by name.
    """

    value: jax.Array
    metrics: dict[str, jax.Array]
    means: dict[str, Any]

    def plus(self, other: "Penalties") -> "Penalties":
        """Returns the sum of both."""
        return Penalties(
            self.value + other.value, self.metrics | other.metrics, self.means | other.means
        )


def apply_penalties(
    regularizers: Mapping[str, Regularizer],
    inputs: PenaltyInputs,
    states: Mapping[str, Any],
    drawn: Draw,
) -> Penalties:
    """Applies those regularizers that are a penalty on the player of `inputs`.

    Args:
      regularizers: By name.
      inputs: The point; with `fake_logits`, those that are `of_logits` are applied, else the others.
      states: Those of the regularizers that have one, by name.
      drawn: Says which update it is.
    """
    of_logits = inputs.fake_logits is not None
    total = Penalties(jnp.zeros([]), {}, {})
    for name, regularizer in regularizers.items():
        if inputs.role not in regularizer.roles or regularizer.of_logits != of_logits:
            continue
        weight = value_at(regularizer.weight_of(inputs.role), drawn.step)
        update = update_number(inputs.role, drawn)
        value, means = regularizer.apply(inputs, states.get(name, {}), update, weight)
        metrics = {metric_name(name, inputs.role): value}
        total = total.plus(Penalties(value, metrics, {name: means}))
    return total


def update_number(role: Role, drawn: Draw) -> jax.Array:
    """Returns the number of a player's update, from 0: the discriminator may make several a step."""
    return drawn.update if role == "discriminator" else drawn.step


def metric_name(name: str, role: Role) -> str:
    """Returns the name under which a penalty on a player is logged."""
    return f"penalty/{name}" if role == "discriminator" else f"penalty/{name}/{role}"
