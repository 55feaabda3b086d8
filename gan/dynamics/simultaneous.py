"""Both players step at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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


@DYNAMICS.register("simultaneous")
@dataclass(frozen=True)
class Simultaneous(Dynamics):
    """Both players step at once, each along its gradient at the same point."""

    updates_in_sequence: ClassVar[bool] = True

    @property
    def gradients_per_step(self) -> int:  # noqa: D102
        return 2

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        field = game.vector_field(players, batches[0], key)
        moved = pairwise(update, optimizers, players, field)
        return StepOutput(moved, dynamics_state, metrics_of(field))

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns I - rate J, or with optimism the map of (w_t, w_{t-1})."""
        if optimizer.momentum:
            return None
        identity = np.eye(len(jacobian))
        ahead, back = optimizer.rate + optimizer.strength, optimizer.strength
        if not back:
            return LinearMap(identity - ahead * jacobian)
        zeros = np.zeros_like(jacobian)
        return LinearMap(
            np.block([[identity - ahead * jacobian, back * jacobian], [identity, zeros]])
        )
