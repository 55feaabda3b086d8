"""Anchored gradient descent: both players are drawn back to where they were."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan.argument_bounds import AtLeast, Within
from gan.dynamics.dynamics import (
    DYNAMICS,
    Dynamics,
    LinearMap,
    LinearOptimizer,
    StepOutput,
    metrics_of,
    params_of,
)
from gan.games.game import Game
from gan.players import Pair, Params, PlayerState, pairwise, update

_LONGEST = 100_000  # a longer product of matrices is not made


class AnchoredState(NamedTuple):
    """The `dynamics_state` of `Anchored`.

    Attributes:
      anchor: Both players' parameters to which they are drawn back.
      step: Steps since the anchor was set, an int32 scalar.
    """

    anchor: Pair[Params]
    step: jax.Array


@DYNAMICS.register("anchored")
@dataclass(frozen=True)
class Anchored(Dynamics):
    """Both players step at once, and are drawn back to an anchor a, where they started.

    w_{k+1} = w_k - eta F(w_k) + b_k (a - w_k),  b_k = strength / (k + 1)^decay,  w_0 = a

    The pull is no part of the gradient: momenta and Adam's moments do not see it, and it does not
    shrink with the learning rate. With a fixed anchor and decay 1 this is the paper's SimGD-A,
    strength = (1 - p) gamma, if the learning rate falls as (1 - p) / (k + 1)^p, p in (1/2, 1): with
    gamma of 2 or more, |F|^2 then falls as k^(2p - 2) in convex-concave games. With a constant learning
    rate it does not converge in general: once b_k is small, what is left is `simultaneous`. With an
    anchor that is set anew it can: on the bilinear game with eta sigma = 0.1, strength 0.1, decay 0 and
    refresh 10 do (0.995 a step), and refresh 3 is too soon (1.003).

    Attributes:
      strength: The pull at k = 0, as a part of the way to the anchor.
      decay: How it falls; 0 keeps it constant, 1 is the paper's.
      refresh: After how many steps the anchor is set to the players' parameters, and k to 0; with 0
        it stays where it is.

    Ryu, Yuan and Yin, "ODE Analysis of Stochastic Gradient Methods with Optimism and Anchoring for
    Minimax Problems", arXiv 1905.10899, Theorem 3 and, for noisy gradients (decay slightly below 1),
    Theorem 4. Their Anchored Adam (Appendix G) has a constant pull, the learning rate times 1, and
    sets the anchor anew every 10,000 steps: `anchored(strength=1e-4, decay=0.0, refresh=10_000)`.
    """

    strength: Annotated[float, Within(0, 1)] = 1.0
    decay: Annotated[float, Within(0, 1)] = 1.0
    refresh: Annotated[int, AtLeast(0)] = 0

    @property
    def gradients_per_step(self) -> int:  # noqa: D102
        return 2

    @property
    def period(self) -> int:  # noqa: D102
        return self.refresh or 1

    def init(self, players: Pair[PlayerState]) -> AnchoredState:
        """Sets the anchor to a copy of the parameters, since the state may be donated."""
        return AnchoredState(jax.tree.map(jnp.copy, params_of(players)), jnp.zeros([], jnp.int32))

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        anchor, step = dynamics_state
        pull = self.strength / (step + 1) ** self.decay

        def draw_back(player: PlayerState, anchor: Params) -> PlayerState:
            def towards(w: jax.Array, a: jax.Array) -> jax.Array:
                return w + pull.astype(w.dtype) * (a - w)

            return player.at(jax.tree.map(towards, player.params, anchor))

        field = game.vector_field(players, batches[0], key)
        # The update is the last thing: an optimizer that keeps weights in bounds still does so.
        drawn = pairwise(draw_back, players, anchor)
        moved = pairwise(update, optimizers, players, field, drawn)

        step = step + 1
        if self.refresh:
            anew = step >= self.refresh  # or more: a run may go on with a smaller one
            anchor = jax.tree.map(lambda a, w: jnp.where(anew, w, a), anchor, params_of(moved))
            step = jnp.where(anew, 0, step)
        return StepOutput(moved, AnchoredState(anchor, step), metrics_of(field))

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns the map of the steps from one anchor to the next, for plain SGD."""
        if not 0 < self.refresh <= _LONGEST or not optimizer.is_plain:
            return None
        matrix = identity = np.eye(len(jacobian))  # of the anchor, where the steps start
        for step in range(self.refresh):
            pull = self.strength / (step + 1) ** self.decay
            matrix = matrix - optimizer.rate * jacobian @ matrix + pull * (identity - matrix)
        return LinearMap(matrix, self.refresh)
