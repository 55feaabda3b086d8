"""Consensus optimization: against the norm of the vector field."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import numpy as np
import optax

from gan.argument_bounds import AtLeast
from gan.dynamics.dynamics import (
    DYNAMICS,
    Dynamics,
    LinearMap,
    LinearOptimizer,
    StepOutput,
    differentiable_field,
    step_along,
)
from gan.games.game import Game
from gan.players import Pair, PlayerState


@DYNAMICS.register("consensus")
@dataclass(frozen=True)
class Consensus(Dynamics):
    """Simultaneous steps along F + gamma J^T F, the gradient of each loss plus that of |F|^2 / 2.

    Attributes:
      gamma: Weight of the second, 0 or more.

    Mescheder et al., "The Numerics of GANs", NeurIPS 2017, equation 10.
    """

    gamma: Annotated[float, AtLeast(0)] = 0.1
    updates_in_sequence: ClassVar[bool] = True

    @property
    def gradients_per_step(self) -> int:  # noqa: D102
        return 4  # of F and J^T F

    @property
    def needs_derivative(self) -> bool:  # noqa: D102
        return True

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        value, vjp, field = differentiable_field(game, players, batches[0], key)
        (transposed,) = vjp(value)  # J^T F
        direction = jax.tree.map(lambda f, jf: f + self.gamma * jf, value, transposed)
        return step_along(direction, field, optimizers, players, dynamics_state)

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns I - rate (J + gamma J^T J), for plain SGD."""
        if not optimizer.is_plain:
            return None
        direction = jacobian + self.gamma * jacobian.T @ jacobian
        return LinearMap(np.eye(len(jacobian)) - optimizer.rate * direction)
