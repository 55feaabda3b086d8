"""Quadratic games: linear vector fields with chosen eigenvalues, so that every rate is known."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gan.games.game import GAMES, Game
from gan.players import Pair, Params, PlayerState, Role, Variables


@GAMES.register("quadratic")
@dataclass(frozen=True)
class QuadraticGame(Game):
    """min over x, max over y of sum_k (mu_k / 2) x_k^2 + sigma_k x_k y_k - (mu_k / 2) y_k^2.

    The solution is 0. In the plane of x_k and y_k the vector field has the eigenvalues
    mu_k +- i sigma_k: `mu` pulls the players in, `sigma` rotates them about the solution. The game
    is convex-concave for mu >= 0.

    Attributes:
      mu: Real parts of the eigenvalues, D of them.
      sigma: Imaginary parts, as many.
    """

    mu: tuple[float, ...] = (0.1,)
    sigma: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if len(self.mu) != len(self.sigma) or not self.mu:
            given = f"given {self.mu} and {self.sigma}"
            raise ValueError(f"mu and sigma must have the same length, at least 1, {given}")

    def init(self, key: jax.Array) -> Pair[tuple[Params, Variables]]:
        """Returns ones, `[D]`, for both players."""
        start = jnp.ones(len(self.sigma))
        return Pair(generator=(start, {}), discriminator=(start, {}))

    def loss(
        self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[Variables, dict[str, jax.Array]]]:
        """Computes the value for the generator x, its negative for the discriminator y."""
        x, y = players.generator.params, players.discriminator.params
        mu, sigma = jnp.asarray(self.mu, x.dtype), jnp.asarray(self.sigma, x.dtype)
        value = jnp.sum(mu / 2 * (x**2 - y**2) + sigma * x * y)
        return (value if role == "generator" else -value), ({}, {})


@GAMES.register("bilinear")
def bilinear(singular_values: tuple[float, ...] = (1.0,)) -> QuadraticGame:
    """Builds the bilinear game: min over x, max over y of x^T A y, a saddle at 0.

    Rotating either player's parameters changes no distance, so A is taken as diagonal.

    Args:
      singular_values: The singular values of A; each belongs to a plane of its own.
    """
    return QuadraticGame(mu=(0.0,) * len(singular_values), sigma=tuple(singular_values))
