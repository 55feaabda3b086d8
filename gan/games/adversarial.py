"""The adversarial game of a generator and a discriminator (Goodfellow et al., 2014)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.data.dataset import Batch
from gan.games.game import Game, measured
from gan.losses import Loss
from gan.players import Gradient, Pair, Params, PlayerState, Role, Variables
from gan.regularizers import Regularizer
from gan.sharding import split_batch

_LEAST = 1e-12  # of a derivative that can be divided by


@dataclass(frozen=True)
class AdversarialGame(Game):
    """A GAN.

    Attributes:
      generator: A module, `(latents [B, Z], labels [B] or None, train=) -> [B, *shape]`.
      discriminator: A module, `(examples [B, *shape], labels [B] or None, train=) -> logits [B]`. If
        it has a true attribute `samplewise`, no sample's logit may depend on the others.
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
        fake, generator_variables = self._generate(players.generator, batch, key)
        (real_logits, fake_logits), variables = self._judge(players.discriminator, batch, fake)
        if role == "generator":
            loss = self.losses.generator(real_logits, fake_logits)
            return loss, (generator_variables, {})
        penalties = self._penalties(players.discriminator, batch, fake, key)
        loss = self.losses.discriminator(real_logits, fake_logits) + sum(penalties.values())
        return loss, (variables, _means(real_logits, fake_logits) | penalties)

    def vector_field(
        self, players: Pair[PlayerState], batch: Batch, key: jax.Array
    ) -> Pair[Gradient]:
        """Both players' gradients, with one pass back through the discriminator.

        Where it treats each sample by itself, the derivative of any loss of its logits in a sample is
        that sample's derivative of its logit, times a number: the generator's is the discriminator's,
        scaled. Where the latter is zero (hinge beyond its margin), a second pass is made.
        """
        if not getattr(self.discriminator, "samplewise", False):
            return super().vector_field(players, batch, key)

        def generate(params: Params) -> tuple[jax.Array, Variables]:
            return self._generate(_at(players.generator, params), batch, key)

        def judge(params: Params, fake: jax.Array) -> tuple[Any, Any]:
            point = _at(players.discriminator, params)
            logits, variables = self._judge(point, batch, fake)
            penalties = self._penalties(point, batch, fake, key)
            return (*logits, sum(penalties.values(), jnp.zeros([]))), (variables, penalties)

        fake, back_to_latents, generator_variables = jax.vjp(
            generate, players.generator.params, has_aux=True
        )
        (real_logits, fake_logits, penalty), back_to_fake, (variables, penalties) = jax.vjp(
            judge, players.discriminator.params, fake, has_aux=True
        )
        loss, (of_real, of_fake) = jax.value_and_grad(self.losses.discriminator, (0, 1))(
            real_logits, fake_logits
        )
        generator_loss, wanted = jax.value_and_grad(self.losses.generator, 1)(
            real_logits, fake_logits
        )  # [B]
        value, to_fake = back_to_fake((of_real, of_fake, jnp.ones([])))  # [B, *shape]

        def again() -> jax.Array:
            return back_to_fake((jnp.zeros_like(of_real), wanted, jnp.zeros([])))[1]

        def scaled() -> jax.Array:
            scale = jnp.where(wanted == 0, 0, wanted / jnp.where(of_fake == 0, 1, of_fake))
            return to_fake * scale.reshape(-1, *(1 for _ in self.shape))

        lost = (jnp.abs(of_fake) < _LEAST) & (wanted != 0)
        (generator_value,) = back_to_latents(jax.lax.cond(jnp.any(lost), again, scaled))
        metrics = _means(real_logits, fake_logits) | penalties
        return Pair(
            generator=measured(
                "generator", generator_value, generator_loss, generator_variables, {}
            ),
            discriminator=measured("discriminator", value, loss + penalty, variables, metrics),
        )

    def _generate(
        self, generator: PlayerState, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Variables]:
        """A fake for each real example `[B, *shape]`, and the generator's variables after it."""
        latents = jax.random.normal(
            jax.random.split(key)[0], [len(batch.examples), self.latent_dim]
        )
        return _apply(self.generator, generator, split_batch(latents), batch.labels)

    def _judge(
        self, discriminator: PlayerState, batch: Batch, fake: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], Variables]:
        """Logits `[B]` of the real and of the fake examples, and the variables after them."""
        fake_logits, after_fake = _apply(self.discriminator, discriminator, fake, batch.labels)
        # Batch statistics of real and fake examples are kept apart: two calls.
        then = discriminator.replace(variables=after_fake)  # type: ignore[attr-defined]
        real_logits, variables = _apply(self.discriminator, then, batch.examples, batch.labels)
        return (real_logits, fake_logits), variables

    def _penalties(
        self, discriminator: PlayerState, batch: Batch, fake: jax.Array, key: jax.Array
    ) -> dict[str, jax.Array]:
        """Each regularizer's penalty, by its metric's name."""

        def critic(examples: jax.Array) -> jax.Array:
            """Logits [B] as a function of the examples alone."""
            return _apply(self.discriminator, discriminator, examples, batch.labels)[0]

        penalty_key = jax.random.split(key)[1]
        return {
            f"penalty/{regularizer.name}": regularizer(critic, batch, fake, penalty_key)
            for regularizer in self.regularizers
        }

    def sample(
        self, params: Params, variables: Variables, latents: jax.Array, labels: jax.Array | None
    ) -> jax.Array:
        """Examples `[B, *shape]` from latents `[B, Z]`, with running statistics."""
        return self.generator.apply(  # type: ignore[return-value]
            {"params": params, **variables}, latents, labels, train=False
        )


def _at(player: PlayerState, params: Params) -> PlayerState:
    return player.replace(params=params)  # type: ignore[attr-defined]


def _means(real_logits: jax.Array, fake_logits: jax.Array) -> dict[str, jax.Array]:
    return {"logits/real": real_logits.mean(), "logits/fake": fake_logits.mean()}


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
