"""Extragradient that looks ahead along the past gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan.dynamics.dynamics import (
    DYNAMICS,
    Dynamics,
    LinearMap,
    LinearOptimizer,
    StepOutput,
    metrics_of,
)
from gan.dynamics.simultaneous import Simultaneous
from gan.games.game import Game
from gan.players import Gradient, Pair, PlayerState, pairwise, update


@DYNAMICS.register("past_extragradient")
@dataclass(frozen=True)
class PastExtragradient(Dynamics):
    """Extragradient that looks ahead along the gradient of the last step: half the work.

    w_{t+1/2} = w_t - eta F(w_{t-1/2}),  w_{t+1} = w_t - eta F(w_{t+1/2}); the first look ahead stays
    where it is. With Adam this is PastExtraAdam.

    Popov, 1980; Gidel et al., ICLR 2019, equations 15 and 16.
    """

    @property
    def gradients_per_step(self) -> int:  # noqa: D102
        return 2

    def init(self, players: Pair[PlayerState]) -> Any:
        """Returns zeros in place of the gradient and loss at the last half step."""
        return pairwise(
            lambda player: (jax.tree.map(jnp.zeros_like, player.params), jnp.zeros([])), players
        )

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        past = pairwise(
            lambda player, past: Gradient(past[0], past[1], player.variables, {}),
            players,
            dynamics_state,
        )
        ahead = pairwise(update, optimizers, players, past)
        field = game.vector_field(ahead, batches[0], key)
        moved = pairwise(update, optimizers, ahead, field, players)
        dynamics_state = pairwise(lambda gradient: (gradient.value, gradient.loss), field)
        return StepOutput(moved, dynamics_state, metrics_of(field))

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns the map of the half steps, which for plain SGD are optimistic SGD."""
        if not optimizer.is_plain:
            return None
        optimistic = LinearOptimizer(optimizer.rate, strength=optimizer.rate)
        return Simultaneous().linear_map(jacobian, optimistic)
