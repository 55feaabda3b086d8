"""The Dirac-GAN: the smallest GAN that does not converge by itself.

Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018, section 2.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gan.games.game import GAMES, Game
from gan.losses import LOSSES, Loss
from gan.players import Pair, Params, PlayerState, Role, Variables


@dataclass(frozen=True)
class DiracGame(Game):
    """The data are the point 0, the generator makes the point theta, and D(x) = psi x.

    The solution is (0, 0).

    Attributes:
      losses: A GAN's losses.
      r1: Weight gamma of the penalty (gamma / 2) psi^2, which is R1 for this discriminator.
    """

    losses: Loss
    r1: float = 0.0

    def init(self, key: jax.Array) -> Pair[tuple[Params, Variables]]:
        """Both players start at one."""
        return Pair(generator=(jnp.ones(1), {}), discriminator=(jnp.ones(1), {}))

    def loss(
        self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[Variables, dict[str, jax.Array]]]:
        """Each player's loss of the logits D(0) = 0 and D(theta) = psi theta."""
        theta, psi = players.generator.params, players.discriminator.params
        real, fake = 0 * psi, psi * theta  # [1], [1]
        if role == "generator":
            return self.losses.generator(real, fake), ({}, {})
        penalty = self.r1 / 2 * jnp.sum(psi**2)
        return self.losses.discriminator(real, fake) + penalty, ({}, {})


@GAMES.register("dirac")
def dirac(loss: str = "minimax", r1: float = 0.0) -> DiracGame:
    """The Dirac-GAN with one of the GAN losses (the paper's is `minimax`) and R1 of weight `r1`."""
    if r1 < 0:
        raise ValueError(f"r1 must be 0 or more, given {r1}")
    return DiracGame(LOSSES.build(loss), r1)
