"""The rate at which the players approach the solution of a game, predicted by linearization.

Close to the solution 0 the vector field is F(w) = J w, and a step of a dynamics is a linear map of
the parameters and of what is remembered of the past. The distance to the solution shrinks, or
grows, by the spectral radius of that map. For bilinear games the tests hold it to the closed forms
of the papers.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gan.dynamics import Dynamics, LinearOptimizer
from gan.games import Game
from gan.players import Pair, PlayerState
from gan.specs import parse


def jacobian(game: Game) -> np.ndarray:
    """Computes the Jacobian J `[2 D, 2 D]` of the vector field at 0, the generator's rows first.

    Args:
      game: A game whose players have one vector of D parameters each, with the solution 0.
    """
    size = game.init(jax.random.key(0)).generator[0].size

    def field(point: jax.Array) -> jax.Array:
        players = Pair(
            generator=PlayerState(point[:size], {}, ()),
            discriminator=PlayerState(point[size:], {}, ()),
        )
        gradients = game.vector_field(players, None, jax.random.key(0))
        return jnp.concatenate([gradients.generator.value, gradients.discriminator.value])

    return np.asarray(jax.jit(jax.jacobian(field))(jnp.zeros(2 * size)))


def predicted_contraction(dynamics: Dynamics, optimizer: str, jacobian: np.ndarray) -> float | None:
    """Computes the factor by which a step multiplies the distance to 0, in the long run.

    Args:
      dynamics: How the players move.
      optimizer: Spec of both players' optimizer.
      jacobian: J `[2 D, 2 D]`, see `jacobian`.

    Returns:
      A number below 1 where the players converge; None where the steps are not linear, or where the
      dynamics does not know its map with this optimizer.
    """
    if (linear := linear_optimizer(optimizer)) is None:
        return None
    if (step := dynamics.linear_map(jacobian, linear)) is None:
        return None
    radius = np.abs(np.linalg.eigvals(step.matrix)).max()
    return float(radius ** (1 / step.num_steps))


def linear_optimizer(optimizer: str) -> LinearOptimizer | None:
    """Returns the numbers of an optimizer's spec; None if its updates are not known as linear."""
    spec, *rest = parse(optimizer)
    values = (*spec.args, *dict(spec.kwargs).values())
    if rest or spec.name not in _LINEAR or not all(isinstance(x, int | float) for x in values):
        return None
    try:
        return _LINEAR[spec.name](*spec.args, **dict(spec.kwargs))
    except TypeError:  # it has arguments that make it another method, such as `nesterov`
        return None


def _sgd(learning_rate: float, momentum: float = 0.0) -> LinearOptimizer:
    return LinearOptimizer(learning_rate, momentum=momentum)


def _optimistic_sgd(learning_rate: float, strength: float | None = None) -> LinearOptimizer:
    return LinearOptimizer(learning_rate, strength=learning_rate if strength is None else strength)


_LINEAR = {"sgd": _sgd, "optimistic_sgd": _optimistic_sgd}
