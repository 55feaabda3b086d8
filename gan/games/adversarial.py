"""The adversarial game of a generator and a discriminator (Goodfellow et al., 2014)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.data.dataset import Batch
from gan.games.game import Game
from gan.losses import Loss
from gan.players import Pair, Params, PlayerState, Role, Variables
from gan.regularizers import Regularizer
from gan.sharding import split_batch


@dataclass(frozen=True)
class AdversarialGame(Game):
    """A GAN.

    Attributes:
      generator: A module, `(latents [B, Z], labels [B] or None, train=) -> [B, *shape]`.
      discriminator: A module, `(examples [B, *shape], labels [B] or None, train=) -> logits [B]`.
      losses: Each player's loss of the real and the fake logits.
      latent_dim: Z; latents are standard normal.
      shape: Of one example.
      regularizers: Penalties added to the discriminator's loss.
    """

    generator: nn.Module
    discriminator: nn.Module
    losses: Loss
    latent_dim: int
    shape: tuple[int, ...]
    regularizers: tuple[Regularizer, ...] = ()

    def init(self, key: jax.Array) -> Pair[tuple[Params, Variables]]:
        """Initialises both networks."""
        generator_key, discriminator_key = jax.random.split(key)
        labels = jnp.zeros([1], jnp.int32)
        latents = jnp.zeros([1, self.latent_dim])
        examples = jnp.zeros([1, *self.shape])
        return Pair(
            generator=_split(self.generator.init(generator_key, latents, labels, train=True)),
            discriminator=_split(
                self.discriminator.init(discriminator_key, examples, labels, train=True)
            ),
        )

    def loss(
        self, role: Role, players: Pair[PlayerState], batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, tuple[Variables, dict[str, jax.Array]]]:
        """One player's loss on a batch, with one fake for each real example, of the same label."""
        latents_key, penalty_key = jax.random.split(key)
        latents = jax.random.normal(latents_key, [len(batch.examples), self.latent_dim])
        latents = split_batch(latents)  # [B, Z]
        fake, generator_variables = _apply(
            self.generator, players.generator, latents, batch.labels
        )  # [B, *shape]
        fake_logits, after_fake = _apply(
            self.discriminator, players.discriminator, fake, batch.labels
        )  # [B]
        # Batch statistics of real and fake examples are kept apart: two calls.
        real_logits, discriminator_variables = _apply(
            self.discriminator,
            players.discriminator.replace(variables=after_fake),  # type: ignore[attr-defined]
            batch.examples,
            batch.labels,
        )  # [B]
        if role == "generator":
            loss = self.losses.generator(real_logits, fake_logits)
            return loss, (generator_variables, {})

        def critic(examples: jax.Array) -> jax.Array:
            """Logits [B] as a function of the examples alone."""
            return _apply(self.discriminator, players.discriminator, examples, batch.labels)[0]

        metrics = {"logits/real": real_logits.mean(), "logits/fake": fake_logits.mean()}
        loss = self.losses.discriminator(real_logits, fake_logits)
        for regularizer in self.regularizers:
            penalty = regularizer(critic, batch, fake, penalty_key)
            loss += penalty
            metrics[f"penalty/{regularizer.name}"] = penalty
        return loss, (discriminator_variables, metrics)

    def sample(
        self, params: Params, variables: Variables, latents: jax.Array, labels: jax.Array | None
    ) -> jax.Array:
        """Examples `[B, *shape]` from latents `[B, Z]`, with running statistics."""
        return self.generator.apply(  # type: ignore[return-value]
            {"params": params, **variables}, latents, labels, train=False
        )


def _split(variables: Any) -> tuple[Params, Variables]:
    """Flax's variables as parameters and the rest."""
    rest = dict(variables)
    return rest.pop("params"), rest


def _apply(
    module: nn.Module, player: PlayerState, inputs: jax.Array, labels: jax.Array | None
) -> tuple[jax.Array, Variables]:
    """A network's output in training, and its variables after it."""
    output, variables = module.apply(
        {"params": player.params, **player.variables},
        inputs,
        labels,
        train=True,
        mutable=list(player.variables),
    )
    return output, variables
