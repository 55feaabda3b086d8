"""The players step one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan.argument_bounds import Within
from gan.dynamics.dynamics import DYNAMICS, Dynamics, LinearMap, LinearOptimizer, StepOutput
from gan.games.game import Game
from gan.players import Pair, PlayerState, update


@DYNAMICS.register("alternating")
@dataclass(frozen=True)
class Alternating(Dynamics):
    """The discriminator steps first, then the generator against the new discriminator.

    Attributes:
      discriminator_steps: How many steps the discriminator takes, each on a fresh batch, for one of
        the generator; the generator's own step sees the last of those batches and fresh latents.
    """

    discriminator_steps: Annotated[int, Within(1, 100)] = 1  # the batch of each is traced
    updates_in_sequence: ClassVar[bool] = True

    @property
    def num_batches(self) -> int:  # noqa: D102
        return self.discriminator_steps

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        def discriminator_step(player: PlayerState, drawn: Any) -> tuple[PlayerState, Any]:
            point = players.put("discriminator", player)
            gradient = game.gradient("discriminator", point, *drawn)
            return update(optimizers.discriminator, player, gradient), gradient.metrics

        keys = jax.random.split(key, self.discriminator_steps + 1)
        if self.discriminator_steps == 1:
            moved, metrics = discriminator_step(players.discriminator, (batches[0], keys[0]))
        else:  # a loop, and no copies of the step: it compiles in a part of the time
            stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *batches)
            moved, every = jax.lax.scan(
                discriminator_step, players.discriminator, (stacked, keys[:-1])
            )
            metrics = jax.tree.map(lambda values: values[-1], every)
        players = players.put("discriminator", moved)
        gradient = game.gradient("generator", players, batches[-1], keys[-1])
        moved = update(optimizers.generator, players.generator, gradient)
        return StepOutput(
            players.put("generator", moved), dynamics_state, metrics | gradient.metrics
        )

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns the discriminator's steps and then the generator's, of w and both momenta m."""
        if optimizer.strength:
            return None
        size = len(jacobian)

        def player_step(own: slice) -> np.ndarray:  # m <- F(w) + momentum m, w <- w - rate m
            matrix = np.eye(2 * size)
            momenta = slice(own.start + size, own.stop + size)
            matrix[momenta] = np.hstack([jacobian, optimizer.momentum * np.eye(size)])[own]
            matrix[own] -= optimizer.rate * matrix[momenta]
            return matrix

        generator = player_step(slice(0, size // 2))
        discriminator = player_step(slice(size // 2, size))
        discriminators = np.linalg.matrix_power(discriminator, self.discriminator_steps)
        return LinearMap(generator @ discriminators)
