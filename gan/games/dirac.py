"""The Dirac-GAN: the smallest GAN on which simultaneous gradient descent does not converge.

Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018, section 2.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from gan.argument_bounds import AtLeast
from gan.games.game import GAMES, Game
from gan.losses import LOSSES, Loss
from gan.players import Pair, Params, PlayerState, Role, Variables


@dataclass(frozen=True)
class DiracGame(Game):
    """The data are the point 0, the generator makes the point theta, and D(x) = psi x.

    The solution is theta = psi = 0.

    Attributes:
      losses: The losses of a GAN.
      r1: Weight gamma of the penalty (gamma / 2) psi^2, which is R1 for this discriminator.
    """

    losses: Loss
    r1: float = 0.0

    def init(self, key: jax.Array) -> Pair[tuple[Params, Variables]]:
        """Returns 1, `[1]`, for both players."""
        return Pair(generator=(jnp.ones(1), {}), discriminator=(jnp.ones(1), {}))

    def loss(
        self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[Variables, dict[str, jax.Array]]]:
        """Computes a player's loss from the logits D(0) = 0 and D(theta) = psi theta."""
        theta, psi = players.generator.params, players.discriminator.params
        real, fake = 0 * psi, psi * theta  # [1], [1]
        if role == "generator":
            return self.losses.generator(real, fake), ({}, {})
        penalty = self.r1 / 2 * jnp.sum(psi**2)
        return self.losses.discriminator(real, fake) + penalty, ({}, {})


@GAMES.register("dirac")
def dirac(loss: str = "minimax", r1: Annotated[float, AtLeast(0)] = 0.0) -> DiracGame:
    """Builds the Dirac-GAN.

    Args:
      loss: Spec of a GAN loss; the paper's is `minimax`.
      r1: Weight of R1.

    Raises:
      ValueError: for a loss that is more than a function of the logits.
    """
    losses = LOSSES.build(loss)
    if losses.classes is not None or losses.label_noise is not None:
        raise ValueError(f"loss = {loss!r}: there are no classes here, and no noise")
    return DiracGame(losses, r1)
