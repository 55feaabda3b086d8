"""Quadratic games: linear vector fields whose eigenvalues are set, so that every rate is known."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gan.games.game import GAMES, Game
from gan.players import Pair, Params, PlayerState, Role, Variables


@GAMES.register("quadratic")
@dataclass(frozen=True)
class QuadraticGame(Game):
    """min over x, max over y of sum_i (mu_i / 2) x_i^2 + sigma_i x_i y_i - (mu_i / 2) y_i^2.

    The solution is 0. In plane i the vector field has the eigenvalues mu_i +- i sigma_i: `mu` pulls
    the players in, `sigma` turns them round. Convex-concave for mu >= 0.

    Attributes:
      mu: Real parts.
      sigma: Imaginary parts, as many.
    """

    mu: tuple[float, ...] = (0.1,)
    sigma: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if len(self.mu) != len(self.sigma) or not self.mu:
            raise ValueError(f"mu and sigma must be as many, given {self.mu} and {self.sigma}")

    def init(self, key: jax.Array) -> Pair[tuple[Params, Variables]]:
        """Both players start at ones."""
        start = jnp.ones(len(self.sigma))
        return Pair(generator=(start, {}), discriminator=(start, {}))

    def loss(
        self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[Variables, dict[str, jax.Array]]]:
        """The value for the generator x, its negative for the discriminator y."""
        x, y = players.generator.params, players.discriminator.params
        mu, sigma = jnp.asarray(self.mu, x.dtype), jnp.asarray(self.sigma, x.dtype)
        value = jnp.sum(mu / 2 * (x**2 - y**2) + sigma * x * y)
        return (value if role == "generator" else -value), ({}, {})


@GAMES.register("bilinear")
def bilinear(singular_values: tuple[float, ...] = (1.0,)) -> QuadraticGame:
    """Min over x, max over y of x^T A y: the saddle round which plain gradient descent circles.

    A rotation of either player's parameters changes no distance, so A is taken as diagonal.

    Args:
      singular_values: Of A; each is a plane of its own.
    """
    return QuadraticGame(mu=(0.0,) * len(singular_values), sigma=tuple(singular_values))
