"""How fast the players approach the solution of a game, from its linearization.

Close to the solution the vector field is F(w) = J w, and each rule below is a linear recurrence in the
points (and what it remembers): the distance to the solution shrinks, or grows, by the spectral radius
of the recurrence's matrix. For bilinear games the tests hold these to the closed forms of the papers.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gan.dynamics import (
    SGA,
    Alternating,
    Consensus,
    Dynamics,
    Extragradient,
    Lookahead,
    PastExtragradient,
    Simultaneous,
)
from gan.games import Game
from gan.players import Pair, PlayerState
from gan.specs import parse


def jacobian(game: Game) -> np.ndarray:
    """J `[2 D, 2 D]` of the vector field at 0, the generator's parameters first.

    Args:
      game: With one vector of D parameters a player, and the solution 0.
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


def contraction(dynamics: Dynamics, optimizer: str, jacobian: np.ndarray) -> float | None:
    """The factor by which one step multiplies the distance to the solution, in the long run.

    Args:
      dynamics: How the players move.
      optimizer: Spec of both players' optimizer.
      jacobian: J, see above.

    Returns:
      Below 1 where the players converge; None where the rule is not linear, or not known here.
    """
    spec, *rest = parse(optimizer)
    second = {"sgd": "momentum", "optimistic_sgd": "strength"}.get(spec.name)
    if second is None or rest:
        return None
    arguments = dict(zip(("learning_rate", second), spec.args, strict=False)) | dict(spec.kwargs)
    if not set(arguments) <= {"learning_rate", second} or not all(
        isinstance(value, int | float) for value in arguments.values()
    ):
        return None
    rate = arguments["learning_rate"]
    steps = 1
    if isinstance(dynamics, PastExtragradient) and arguments.keys() == {"learning_rate"}:
        matrix = _optimistic(rate, rate, jacobian)  # its half steps are those of optimistic SGD
    elif spec.name == "optimistic_sgd" and isinstance(dynamics, Simultaneous):
        matrix = _optimistic(rate, arguments.get("strength", rate), jacobian)
    elif spec.name == "sgd" and isinstance(dynamics, Alternating):
        momentum = arguments.get("momentum", 0.0)
        matrix = _alternating(dynamics.discriminator_steps, rate, momentum, jacobian)
    elif spec.name == "sgd" and arguments.keys() == {"learning_rate"}:
        one_step = _memoryless(dynamics, rate, jacobian)
        if one_step is None:
            return None
        matrix = one_step
        steps = dynamics.steps if isinstance(dynamics, Lookahead) else 1
    else:
        return None
    return float(np.abs(np.linalg.eigvals(matrix)).max() ** (1 / steps))


def _memoryless(dynamics: Dynamics, rate: float, j: np.ndarray) -> np.ndarray | None:
    """The matrix of one step of SGD; of lookahead, of the inner steps between two returns."""
    one = np.eye(len(j))
    if isinstance(dynamics, Simultaneous):
        return one - rate * j
    if isinstance(dynamics, Extragradient):
        return one - rate * j @ (one - rate * j)
    if isinstance(dynamics, Consensus):
        return one - rate * (j + dynamics.gamma * j.T @ j)
    if isinstance(dynamics, SGA):  # near the solution the aligned sign is that of +0.1
        return one - rate * (j + dynamics.weight * ((j - j.T) / 2).T @ j)
    if isinstance(dynamics, Lookahead) and not isinstance(dynamics.inner, Lookahead):
        inner = _memoryless(dynamics.inner, rate, j)
        if inner is not None:
            fast = np.linalg.matrix_power(inner, dynamics.steps)
            return (1 - dynamics.alpha) * one + dynamics.alpha * fast
    return None


def _optimistic(rate: float, strength: float, j: np.ndarray) -> np.ndarray:
    """w_{t+1} = w_t - (rate + strength) F(w_t) + strength F(w_{t-1}), of (w_t, w_{t-1})."""
    one, none = np.eye(len(j)), np.zeros_like(j)
    return np.block([[one - (rate + strength) * j, strength * j], [one, none]])


def _alternating(
    discriminator_steps: int, rate: float, momentum: float, j: np.ndarray
) -> np.ndarray:
    """The discriminator's steps, then the generator's; of w and the momentum m of both."""
    size = len(j)

    def half(rows: slice) -> np.ndarray:
        """One player's m <- F + momentum m, w <- w - rate m."""
        matrix = np.eye(2 * size)
        m = slice(rows.start + size, rows.stop + size)
        matrix[m] = np.hstack([j[rows], momentum * np.eye(size)[rows]])
        matrix[rows] -= rate * matrix[m]
        return matrix

    generator, discriminator = half(slice(0, size // 2)), half(slice(size // 2, size))
    return generator @ np.linalg.matrix_power(discriminator, discriminator_steps)
