"""Extragradient: a look ahead, then the step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
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
from gan.games.game import Game
from gan.players import Pair, PlayerState, pairwise, update


@DYNAMICS.register("extragradient")
@dataclass(frozen=True)
class Extragradient(Dynamics):
    """Both players look one step ahead, then step from where they were along the gradient there.

    w_{t+1/2} = w_t - eta F(w_t),  w_{t+1} = w_t - eta F(w_{t+1/2}), each F on a fresh batch. With
    Adam this is ExtraAdam: one pair of moments, updated at both half steps.

    Korpelevich, 1976; Gidel et al., "A Variational Inequality Perspective on GANs", ICLR 2019,
    Algorithms 3 and 4.
    """

    @property
    def num_batches(self) -> int:  # noqa: D102
        return 2

    @property
    def batches_per_update(self) -> int:  # noqa: D102
        return 2

    @property
    def gradients_per_step(self) -> int:  # noqa: D102
        return 4

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        ahead_key, key = jax.random.split(key)
        field = game.vector_field(players, batches[0], ahead_key)
        ahead = pairwise(update, optimizers, players, field)
        field = game.vector_field(ahead, batches[1], key)
        moved = pairwise(update, optimizers, ahead, field, players)
        return StepOutput(moved, dynamics_state, metrics_of(field))

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns I - rate J (I - rate J), for plain SGD."""
        if not optimizer.is_plain:
            return None
        identity = np.eye(len(jacobian))
        ahead = identity - optimizer.rate * jacobian
        return LinearMap(identity - optimizer.rate * jacobian @ ahead)
