"""The adversarial game of a generator and a discriminator (Goodfellow et al., 2014)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.data.dataset import Batch
from gan.errors import UsageError
from gan.games.game import Game, with_metrics
from gan.losses import Loss
from gan.players import Gradient, Pair, Params, PlayerState, Role, Variables
from gan.precision import at_least_float32
from gan.regularizers import Regularizer
from gan.sharding import split_batch

_LEAST_DIVISOR = 1e-12  # a smaller derivative cannot be divided by


@dataclass(frozen=True)
class AdversarialGame(Game):
    """A GAN.

    Attributes:
      generator: A module, `(latents [B, Z], labels [B] or None, train=) -> [B, *shape]`.
      discriminator: A module, `(examples [B, *shape], labels [B] or None, train=) -> logits [B]`.
        If it has a true attribute `per_sample`, no sample's logit may depend on the others.
      losses: Both players' losses, as functions of the real and the fake logits.
      latent_dim: Z; latents are standard normal.
      shape: Shape of one example.
      regularizers: Penalties added to the discriminator's loss.
    """

    generator: nn.Module
    discriminator: nn.Module
    losses: Loss
    latent_dim: int
    shape: tuple[int, ...]
    regularizers: tuple[Regularizer, ...] = ()

    def init(self, key: jax.Array) -> Pair[tuple[Params, Variables]]:
        """Initialises both networks, in training mode."""
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
        """Computes one player's loss, with a fake example of the same label for each real one."""
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
        """Computes both gradients, with one backward pass through the discriminator where possible.

        If no sample's logit depends on the other samples, then the derivative of a loss with
        respect to a fake example is the derivative of its logit, times the loss's derivative in
        that logit. The two players' losses differ in this factor alone, so the generator's
        derivative is the discriminator's, rescaled. Where the discriminator's factor is zero (hinge
        beyond its margin), there is nothing to rescale and a second pass is made.
        """
        if not getattr(self.discriminator, "per_sample", False):
            return super().vector_field(players, batch, key)

        def generate(params: Params) -> tuple[jax.Array, Variables]:
            return self._generate(_at(players.generator, params), batch, key)

        def judge(params: Params, fake: jax.Array) -> tuple[Any, Any]:
            point = _at(players.discriminator, params)
            logits, variables = self._judge(point, batch, fake)
            penalties = self._penalties(point, batch, fake, key)
            return (*logits, sum(penalties.values(), jnp.zeros([]))), (variables, penalties)

        fake, generator_vjp, generator_variables = jax.vjp(
            generate, players.generator.params, has_aux=True
        )
        (real_logits, fake_logits, penalty), discriminator_vjp, (variables, penalties) = jax.vjp(
            judge, players.discriminator.params, fake, has_aux=True
        )
        # A slope is the derivative of a loss with respect to each logit, [B].
        loss, (real_slope, fake_slope) = jax.value_and_grad(self.losses.discriminator, (0, 1))(
            real_logits, fake_logits
        )
        generator_loss, generator_slope = jax.value_and_grad(self.losses.generator, 1)(
            real_logits, fake_logits
        )
        value, through_fake = discriminator_vjp((real_slope, fake_slope, jnp.ones([])))

        def rescaled() -> jax.Array:
            ratio = generator_slope / jnp.where(fake_slope == 0, 1, fake_slope)
            ratio = jnp.where(generator_slope == 0, 0, ratio)
            return through_fake * ratio.reshape(-1, *(1 for _ in self.shape))

        def second_pass() -> jax.Array:
            slopes = (jnp.zeros_like(real_slope), generator_slope, jnp.zeros([]))
            return discriminator_vjp(slopes)[1]

        cannot_rescale = (jnp.abs(fake_slope) < _LEAST_DIVISOR) & (generator_slope != 0)
        wrt_fake = jax.lax.cond(jnp.any(cannot_rescale), second_pass, rescaled)  # [B, *shape]
        (generator_value,) = generator_vjp(wrt_fake)
        metrics = _means(real_logits, fake_logits) | penalties
        return Pair(
            generator=with_metrics(
                "generator", generator_value, generator_loss, generator_variables, {}
            ),
            discriminator=with_metrics("discriminator", value, loss + penalty, variables, metrics),
        )

    def _generate(
        self, generator: PlayerState, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Variables]:
        """Returns a fake example `[B, *shape]` for each real one, and the new variables."""
        latents = jax.random.normal(
            jax.random.split(key)[0], [len(batch.examples), self.latent_dim]
        )
        fake, variables = _apply(self.generator, generator, split_batch(latents), batch.labels)
        _check_shape("generator", fake, batch.examples.shape)
        return fake, variables

    def _judge(
        self, discriminator: PlayerState, batch: Batch, fake: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], Variables]:
        """Returns logits `[B]` of the real and the fake examples, and the new variables."""
        fake_logits, after_fake = _apply(self.discriminator, discriminator, fake, batch.labels)
        # Two calls keep the batch statistics of real and fake examples apart.
        then = discriminator.replace(variables=after_fake)  # type: ignore[attr-defined]
        real_logits, variables = _apply(self.discriminator, then, batch.examples, batch.labels)
        _check_shape("discriminator", real_logits, batch.labels.shape)
        return (real_logits, fake_logits), variables

    def _penalties(
        self, discriminator: PlayerState, batch: Batch, fake: jax.Array, key: jax.Array
    ) -> dict[str, jax.Array]:
        """Returns each regularizer's penalty, by the name of its metric."""

        def critic(examples: jax.Array) -> jax.Array:
            """Returns the logits `[B]`, as a function of the examples alone."""
            return _apply(self.discriminator, discriminator, examples, batch.labels)[0]

        penalty_key = jax.random.split(key)[1]
        return {
            f"penalty/{regularizer.name}": regularizer(critic, batch, fake, penalty_key)
            for regularizer in self.regularizers
        }

    def sample(
        self, params: Params, variables: Variables, latents: jax.Array, labels: jax.Array | None
    ) -> jax.Array:
        """Generates examples `[B, *shape]` from latents `[B, Z]`, in evaluation mode."""
        examples = self.generator.apply(
            {"params": params, **variables}, latents, labels, train=False
        )
        return at_least_float32(examples)  # type: ignore[arg-type]


def _check_shape(role: Role, output: jax.Array, shape: tuple[int, ...]) -> None:
    """Raises UsageError for a network whose output has another shape: a loss might broadcast it."""
    if output.shape != shape:
        raise UsageError(
            f"the {role} must return {list(shape)} for a batch of {shape[0]}, and returns "
            f"{list(output.shape)}"
        )


def _at(player: PlayerState, params: Params) -> PlayerState:
    return player.replace(params=params)  # type: ignore[attr-defined]


def _means(real_logits: jax.Array, fake_logits: jax.Array) -> dict[str, jax.Array]:
    return {"logits/real": real_logits.mean(), "logits/fake": fake_logits.mean()}


def _split(variables: Any) -> tuple[Params, Variables]:
    """Splits Flax's variables into parameters and the other collections."""
    rest = dict(variables)
    return rest.pop("params"), rest


def _apply(
    module: nn.Module, player: PlayerState, inputs: jax.Array, labels: jax.Array | None
) -> tuple[jax.Array, Variables]:
    """Returns a network's output in training mode, in at least float32, and its new variables."""
    output, variables = module.apply(
        {"params": player.params, **player.variables},
        inputs,
        labels,
        train=True,
        mutable=list(player.variables),
    )
    return at_least_float32(output), variables
