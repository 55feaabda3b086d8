"""The interface of a differentiable two-player game."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import optax

from gan.players import Gradient, Pair, Params, PlayerState, Role, Variables
from gan.registry import Registry


class Game(abc.ABC):
    """Two players, each with a loss that depends on the parameters of both.

    A game is evaluated at a point, `players`, of which it reads parameters and variables, never the
    states of optimizers.
    """

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Pair[tuple[Params, Variables]]:
        """Returns the initial parameters and variables of each player."""

    @abc.abstractmethod
    def loss(
        self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[Variables, dict[str, jax.Array]]]:
        """Computes one player's loss.

        Args:
          role: The player.
          players: The point.
          batch: Real examples, for games that have them.
          key: Random key of the latents and of all else that is random; it determines the loss.

        Returns:
          The scalar loss, the player's own variables after the evaluation, and metrics by name.
        """

    def value(self, players: Pair[PlayerState], batch: Any, key: jax.Array) -> jax.Array:
        """Computes what the generator is to make small and the discriminator large, a scalar.

        It is minus the discriminator's loss, without what is added to it: see
        `gan.metrics.duality_gap`.
        """
        return -self.loss("discriminator", players, batch, key)[0]

    def gradient(
        self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> Gradient:
        """Computes the gradient of one player's own loss in its own parameters."""

        def own_loss(params: Params) -> tuple[jax.Array, Any]:
            point = players.put(role, players.of(role).at(params))
            return self.loss(role, point, batch, key)

        (loss, (variables, metrics)), gradient = jax.value_and_grad(own_loss, has_aux=True)(
            players.of(role).params
        )
        return with_metrics(role, gradient, loss, variables, metrics)

    def vector_field(
        self, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> Pair[Gradient]:
        """Computes both players' gradients at the same point, from the same batch and key.

        A game may have a faster way than one player after the other, with the same result up to
        rounding.
        """
        return Pair(
            generator=self.gradient("generator", players, batch, key),
            discriminator=self.gradient("discriminator", players, batch, key),
        )

    def gradients_in_turn(
        self, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> tuple[Gradient, Callable[[PlayerState], Gradient]]:
        """Computes the discriminator's gradient, and then the generator's from the same batch and key.

        A game whose generator makes something for the discriminator can have it made once for both.

        Returns:
          The discriminator's gradient, and the function from the discriminator that has moved to the
          generator's gradient against it, to be called once in the same trace.
        """

        def of_generator(moved: PlayerState) -> Gradient:
            return self.gradient("generator", players.put("discriminator", moved), batch, key)

        return self.gradient("discriminator", players, batch, key), of_generator


def with_metrics(
    role: Role,
    value: Params,
    loss: jax.Array,
    variables: Variables,
    metrics: dict[str, jax.Array],
) -> Gradient:
    """Returns a player's gradient, with its norm and the loss added to the metrics.

    Args:
      role: The player.
      value: The gradient, shaped like its parameters.
      loss: Its loss, a scalar.
      variables: Its variables after the evaluation.
      metrics: Other metrics, by name.
    """
    metrics = metrics | {f"loss/{role}": loss, f"grad_norm/{role}": optax.global_norm(value)}
    return Gradient(value=value, loss=loss, variables=variables, metrics=metrics)


GAMES: Registry[Game] = Registry("game", Game)
"""Games without data and networks, by name."""
