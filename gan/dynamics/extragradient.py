"""Extragradient: a look ahead, then the step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

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
    extrapolate,
    metrics_of,
)
from gan.games.game import Game
from gan.players import Pair, PlayerState, pairwise, update


@DYNAMICS.register("extragradient")
@dataclass(frozen=True)
class Extragradient(Dynamics):
    """Both players look one step ahead, then step from where they were along the gradient there.

    w_{t+1/2} = w_t - ratio eta F(w_t),  w_{t+1} = w_t - eta F(w_{t+1/2}), each F on a fresh batch.
    With Adam this is ExtraAdam: one pair of moments, updated at both half steps.

    Attributes:
      step_ratio: How many times as far the look ahead goes as the optimizer's own step, at least 1.
        The learning rate is that of the step itself. A constant ratio leaves the players in a
        neighbourhood of the solution if gradients are noisy; Hsieh et al. let it grow without bound.
      same_batch: Both half steps see the same batch and the same key: latents, labels, noise and
        augmentation are those of the look ahead.

    Korpelevich, 1976; Gidel et al., "A Variational Inequality Perspective on GANs", ICLR 2019,
    Algorithms 3 and 4. The ratio: Hsieh et al., "Explore Aggressively, Update Conservatively",
    NeurIPS 2020. The same batch: Mishchenko et al., "Revisiting Stochastic Extragradient",
    AISTATS 2020.
    """

    step_ratio: Annotated[float, AtLeast(1)] = 1.0
    same_batch: bool = False

    @property
    def num_batches(self) -> int:  # noqa: D102
        return 1 if self.same_batch else 2

    @property
    def batches_per_update(self) -> int:  # noqa: D102
        return self.num_batches

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
        ahead_key, key = (key, key) if self.same_batch else jax.random.split(key)
        field = game.vector_field(players, batches[0], ahead_key)
        ahead = pairwise(update, optimizers, players, field)
        ahead = pairwise(self._explore, players, ahead)
        field = game.vector_field(ahead, batches[-1], key)
        moved = pairwise(update, optimizers, ahead, field, players)
        return StepOutput(moved, dynamics_state, metrics_of(field))

    def _explore(self, player: PlayerState, ahead: PlayerState) -> PlayerState:
        return ahead.at(extrapolate(player.params, ahead.params, self.step_ratio))

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns I - rate J (I - ratio rate J), for plain SGD."""
        if not optimizer.is_plain:
            return None
        identity = np.eye(len(jacobian))
        ahead = identity - self.step_ratio * optimizer.rate * jacobian
        return LinearMap(identity - optimizer.rate * jacobian @ ahead)
