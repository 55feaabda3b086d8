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
      reuse_fakes: The generator's step has no fresh latents: the new discriminator judges the fakes of
        its own last step again (same latents, labels, noise and augmentation). The generator makes one
        forward pass fewer, and learns from fakes that the discriminator has just been fitted to.

    Fresh latents are those of Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, Algorithm
    1; DCGAN's usual code reuses the fakes (github.com/pytorch/examples, `dcgan/main.py`).
    """

    discriminator_steps: Annotated[int, Within(1, 100)] = 1  # the batch of each is traced
    reuse_fakes: bool = False
    updates_in_sequence: ClassVar[bool] = True

    @property
    def num_batches(self) -> int:  # noqa: D102
        return self.discriminator_steps

    @property
    def gradients_per_step(self) -> int:  # noqa: D102
        return self.discriminator_steps + 1

    @property
    def reuses_fakes(self) -> bool:  # noqa: D102
        return self.reuse_fakes

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        keys = jax.random.split(key, self.discriminator_steps + 1)
        alone = self.discriminator_steps - self.reuse_fakes  # steps whose fakes serve once
        players, metrics = _discriminator_steps(
            game, optimizers.discriminator, players, batches[:alone], keys[:alone]
        )
        if self.reuse_fakes:
            gradient, of_generator = game.gradients_in_turn(players, batches[-1], keys[alone])
            moved = update(optimizers.discriminator, players.discriminator, gradient)
            players, metrics = players.put("discriminator", moved), gradient.metrics
            gradient = of_generator(moved)
        else:
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


def _discriminator_steps(
    game: Game,
    optimizer: optax.GradientTransformation,
    players: Pair[PlayerState],
    batches: Sequence[Any],
    keys: jax.Array,
) -> tuple[Pair[PlayerState], dict[str, jax.Array]]:
    """Makes a step of the discriminator on each batch; returns the new point and the last metrics."""

    def step(player: PlayerState, drawn: Any) -> tuple[PlayerState, dict[str, jax.Array]]:
        point = players.put("discriminator", player)
        gradient = game.gradient("discriminator", point, *drawn)
        return update(optimizer, player, gradient), gradient.metrics

    player = players.discriminator
    metrics: dict[str, jax.Array] = {}
    if len(batches) == 1:
        player, metrics = step(player, (batches[0], keys[0]))
    elif batches:  # a loop, and no copies of the step: it compiles in a part of the time
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *batches)
        player, every = jax.lax.scan(step, player, (stacked, keys))
        metrics = jax.tree.map(lambda values: values[-1], every)
    return players.put("discriminator", player), metrics
