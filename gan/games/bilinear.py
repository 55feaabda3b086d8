"""The bilinear saddle: the smallest game in which plain gradient descent circles for ever."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gan.games.game import Game
from gan.players import Pair, Params, PlayerState, Role, Variables


@dataclass(frozen=True)
class BilinearGame(Game):
    """min over x, max over y of x^T A y, with the singular values of A given; the solution is 0.

    A rotation of either player's parameters changes no distance, so A is taken as diagonal.

    Attributes:
      singular_values: Of A; each is a plane of its own in which the players circle.
    """

    singular_values: tuple[float, ...] = (1.0,)

    def init(self, key: jax.Array) -> Pair[tuple[Params, Variables]]:
        """Both players start at ones."""
        start = jnp.ones(len(self.singular_values))
        return Pair(generator=(start, {}), discriminator=(start, {}))

    def loss(
        self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[Variables, dict[str, jax.Array]]]:
        """x^T A y for the generator x, its negative for the discriminator y."""
        x, y = players.generator.params, players.discriminator.params
        value = jnp.sum(x * jnp.asarray(self.singular_values, x.dtype) * y)
        return (value if role == "generator" else -value), ({}, {})
