"""A game of one's own: two loss functions, and where the players start."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from gan.games.game import Game
from gan.players import Pair, Params, PlayerState, Role, Variables, pairwise

LossFunction: TypeAlias = Callable[[Params, Params, Any, jax.Array], jax.Array]


@dataclass(frozen=True)
class CustomGame(Game):
    """A game whose losses are functions of both players' parameters, a batch and a key.

    Attributes:
      losses: Each `(generator_params, discriminator_params, batch, key) -> scalar`.
      start: The first parameters of each player, any pytree.
    """

    losses: Pair[LossFunction]
    start: Pair[Params]

    def init(self, key: jax.Array) -> Pair[tuple[Params, Variables]]:
        """Returns the first parameters, whatever the key."""
        return pairwise(lambda start: (jax.tree.map(jnp.asarray, start), {}), self.start)

    def loss(
        self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[Variables, dict[str, jax.Array]]]:
        """Computes a player's own loss."""
        own, other = players.generator.params, players.discriminator.params
        return self.losses.of(role)(own, other, batch, key), ({}, {})


def make_game(
    generator_loss: LossFunction,
    discriminator_loss: LossFunction,
    generator_params: Params,
    discriminator_params: Params,
) -> Game:
    """Makes a game of two loss functions, for any dynamics and optimizers.

    Args:
      generator_loss: What the generator minimises, `(generator_params, discriminator_params, batch,
        key) -> scalar`.
      discriminator_loss: What the discriminator minimises, a function of the same arguments.
      generator_params: Where the generator starts, any pytree.
      discriminator_params: Where the discriminator starts.
    """
    return CustomGame(
        Pair(generator=generator_loss, discriminator=discriminator_loss),
        Pair(generator=generator_params, discriminator=discriminator_params),
    )
