"""How the two players move. A dynamics knows games and optimizers, and nothing of images."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import optax

from gan.games.game import Game
from gan.players import Pair, PlayerState, pairwise, update
from gan.specs import Registry


class Moved(NamedTuple):
    """What one step of a dynamics gives.

    Attributes:
      players: The new point.
      memory: The new memory.
      metrics: Scalars to log, by name.
    """

    players: Pair[PlayerState]
    memory: Any
    metrics: dict[str, jax.Array]


class Dynamics(abc.ABC):
    """A rule by which both players move once."""

    @property
    def num_batches(self) -> int:
        """How many batches one step draws."""
        return 1

    def init(self, players: Pair[PlayerState]) -> Any:
        """The first memory: what the dynamics must know of the past, a pytree."""
        return ()

    @abc.abstractmethod
    def step(
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        memory: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> Moved:
        """Moves both players once.

        Args:
          game: The game that is played.
          optimizers: Each player's own.
          players: The point to start from.
          memory: What `init` or the last step gave.
          batches: `num_batches` of them.
          key: For this step alone.
        """


DYNAMICS: Registry[Dynamics] = Registry("dynamics", Dynamics)


@DYNAMICS.register("simultaneous")
@dataclass(frozen=True)
class Simultaneous(Dynamics):
    """Both players step at once, each along its gradient at the same point."""

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        memory: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> Moved:
        field = game.vector_field(players, batches[0], key)
        moved = pairwise(update, optimizers, players, field)
        return Moved(moved, memory, field.generator.metrics | field.discriminator.metrics)


@DYNAMICS.register("alternating")
@dataclass(frozen=True)
class Alternating(Dynamics):
    """The discriminator steps first, then the generator against the new discriminator.

    Attributes:
      discriminator_steps: How many steps the discriminator takes, each on a fresh batch, for one of
        the generator; the generator's own step sees the last of those batches and fresh latents.
    """

    discriminator_steps: int = 1

    def __post_init__(self) -> None:
        if self.discriminator_steps < 1:
            raise ValueError(
                f"discriminator_steps must be at least 1, given {self.discriminator_steps}"
            )

    @property
    def num_batches(self) -> int:  # noqa: D102
        return self.discriminator_steps

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        memory: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> Moved:
        *keys, generator_key = jax.random.split(key, self.discriminator_steps + 1)
        for batch, discriminator_key in zip(batches, keys, strict=True):
            gradient = game.gradient("discriminator", players, batch, discriminator_key)
            moved = update(optimizers.discriminator, players.discriminator, gradient)
            players = players.put("discriminator", moved)
        metrics = gradient.metrics
        gradient = game.gradient("generator", players, batches[-1], generator_key)
        moved = update(optimizers.generator, players.generator, gradient)
        return Moved(players.put("generator", moved), memory, metrics | gradient.metrics)
