"""What a differentiable two-player game is, whatever is played."""

import abc
from typing import Any

import jax
import optax

from gan.players import Gradient, Pair, Params, PlayerState, Role, Variables
from gan.specs import Registry


class Game(abc.ABC):
    """Two players, each with a loss that depends on the parameters of both.

    A game is played at a point, `players`; it reads their parameters and variables, never their
    optimizer states.
    """

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Pair[tuple[Params, Variables]]:
        """Each player's first parameters and variables."""

    @abc.abstractmethod
    def loss(
        self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[Variables, dict[str, jax.Array]]]:
        """One player's loss.

        Args:
          role: Whose loss.
          players: The point.
          batch: Real examples, for the games that have them.
          key: For latents and all else that is random; the same key is the same loss.

        Returns:
          The scalar loss, the player's own variables after the evaluation, and metrics.
        """

    def gradient(
        self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> Gradient:
        """The gradient of one player's own loss in its own parameters."""

        def own_loss(params: Params) -> tuple[jax.Array, Any]:
            point = players.put(role, players.of(role).replace(params=params))  # type: ignore[attr-defined]
            return self.loss(role, point, batch, key)

        (loss, (variables, metrics)), gradient = jax.value_and_grad(own_loss, has_aux=True)(
            players.of(role).params
        )
        return measured(role, gradient, loss, variables, metrics)

    def vector_field(
        self, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> Pair[Gradient]:
        """Both players' gradients at the same point, from the same batch and key.

        A game may do this faster than one player after the other, if the result is the same to
        rounding.
        """
        return Pair(
            generator=self.gradient("generator", players, batch, key),
            discriminator=self.gradient("discriminator", players, batch, key),
        )


def measured(
    role: Role,
    value: Params,
    loss: jax.Array,
    variables: Variables,
    metrics: dict[str, jax.Array],
) -> Gradient:
    """A player's gradient, with its loss and its norm among the metrics."""
    metrics = metrics | {f"loss/{role}": loss, f"grad_norm/{role}": optax.global_norm(value)}
    return Gradient(value=value, loss=loss, variables=variables, metrics=metrics)


GAMES: Registry[Game] = Registry("game", Game)
"""The games that need no data and no networks, by name."""
