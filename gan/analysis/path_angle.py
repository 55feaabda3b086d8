"""The path angle: which way the vector field points along the line between two points of a run.

Berard et al., "A Closer Look at the Optimization Landscapes of Generative Adversarial Networks", ICLR
2020, section 4. On the line x(alpha) = w1 + alpha (w2 - w1), the cosine of the angle between the field
and the line. We give that of a descent, -F, with w2 - w1, which is what the authors' code draws:

- positive, a step goes on along the line, towards w2 if alpha < 1; negative, back;
- a point that attracts is passed with a switch from positive to negative, at alpha = 1 if it is w2;
- a point that the players circle shows as a bump: near it the field is along the line for once, and
  across it, cosine 0, farther away.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gan.analysis.spectrum import flat_field
from gan.dynamics.dynamics import params_of
from gan.games import Game
from gan.players import Pair, PlayerState, pairwise


class PathAngle(NamedTuple):
    """The field along the line through two points.

    Attributes:
      alpha: Places on the line `[P]`, 0 the first point and 1 the second.
      cosine: Of the angle between -F and the way from the first to the second `[P]`.
      norm: |F| `[P]`.
    """

    alpha: np.ndarray
    cosine: np.ndarray
    norm: np.ndarray


def path_angle(
    game: Game,
    first: Pair[PlayerState],
    second: Pair[PlayerState],
    batches: Any,
    keys: jax.Array,
    alpha: np.ndarray,
) -> PathAngle:
    """Computes the path angle between two points of a game.

    Variables in floating point lie on the line too; others are those of the second point.

    Args:
      game: The game.
      first: The first point.
      second: The second point, another one.
      batches: B of them, stacked: each leaf `[B, ...]`; the field is the mean over them.
      keys: The random key of each, `[B]`.
      alpha: Places on the line `[P]`.
    """

    def between(one: Any, other: Any, place: jax.Array) -> Any:
        def on_line(a: jax.Array, b: jax.Array) -> jax.Array:
            return (
                a + place.astype(a.dtype) * (b - a) if jnp.issubdtype(a.dtype, jnp.floating) else b
            )

        return jax.tree.map(on_line, one, other)

    @jax.jit
    def measure(place: jax.Array, batches: Any, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        params = between(params_of(first), params_of(second), place)
        players = pairwise(
            lambda one, other: one.replace(
                variables=between(one.variables, other.variables, place)
            ),
            first, second,
        )  # fmt: skip
        way = ravel_pytree(params_of(second))[0] - ravel_pytree(params_of(first))[0]
        fields = jax.lax.map(
            lambda drawn: flat_field(game, players, params, *drawn), (batches, keys)
        )
        field = fields.mean(0)
        norm = jnp.linalg.norm(field)
        return -field @ way / (norm * jnp.linalg.norm(way)), norm

    found = np.array([measure(jnp.asarray(place), batches, keys) for place in alpha], float)
    return PathAngle(np.asarray(alpha), found[:, 0], found[:, 1])
