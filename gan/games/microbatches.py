"""Gradients of a batch, taken of one part of it after the other: less memory, the same result."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gan.games.draw import Draw
from gan.players import (
    Pair,
    Params,
    PlayerState,
    Role,
    Variables,
    training_state,
    with_training_state,
)
from gan.sharding import split_batch


class Evaluation(NamedTuple):
    """A player's loss and gradient of one microbatch.

    Attributes:
      value: The gradient, shaped like the player's parameters.
      loss: The loss, a scalar.
      variables: The network's variables after it; the next microbatch starts from them.
      metrics: Scalars to log, by name, each a mean over the samples.
      means: Means over the samples from which the player's training state is updated.
    """

    value: Params
    loss: jax.Array
    variables: Variables
    metrics: dict[str, jax.Array]
    means: Any


Evaluate = Callable[[Pair[PlayerState], Draw], dict[Role, Evaluation]]


def over_microbatches(
    evaluate: Evaluate, players: Pair[PlayerState], drawn: Draw, count: int
) -> dict[Role, Evaluation]:
    """Evaluates a batch in `count` parts, and returns the means over them.

    It is what `evaluate` gives for the whole batch, to rounding, where losses are means over the samples.
    """
    if count == 1:
        return evaluate(players, drawn)
    parts = drawn.parts(count)
    shapes = jax.eval_shape(evaluate, players, jax.tree.map(lambda x: x[0], parts))
    summed = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), _without_variables(shapes))

    def add(carry: Any, part: Draw) -> tuple[Any, None]:
        players, summed = carry
        part = jax.tree.map(lambda x: split_batch(x) if x.ndim else x, part)
        found = evaluate(players, part)
        summed = jax.tree.map(jnp.add, summed, _without_variables(found))
        for role, evaluation in found.items():
            player = players.of(role)
            variables = with_training_state(evaluation.variables, training_state(player.variables))
            players = players.put(role, player.replace(variables=variables))
        return (players, summed), None

    (players, summed), _ = jax.lax.scan(add, (players, summed), parts)
    means = jax.tree.map(lambda x: x / count, summed)
    return {
        role: mean._replace(variables=players.of(role).variables) for role, mean in means.items()
    }


def _without_variables(found: dict[Role, Evaluation]) -> dict[Role, Evaluation]:
    return {role: evaluation._replace(variables=()) for role, evaluation in found.items()}
