"""The adversarial game of a generator and a discriminator (Goodfellow et al., 2014)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan.augmentation import DiscriminatorAugmentation, NoAugmentation
from gan.data.dataset import Batch
from gan.games.draw import Draw, draw
from gan.games.game import Game, with_metrics
from gan.games.in_turn import check_reuse, evaluate_in_turn
from gan.games.logits import Logits, logit_metrics, loss_of_logits, split_output
from gan.games.microbatches import Evaluate, Evaluation, over_microbatches
from gan.games.networks import (
    apply_generator,
    apply_network,
    check_shape,
    draw_examples,
    split_generator,
)
from gan.games.penalties import Penalties, apply_penalties, update_number
from gan.losses import Loss
from gan.players import (
    Gradient,
    Pair,
    Params,
    PlayerState,
    Role,
    Variables,
    network_variables,
    training_state,
    with_training_state,
)
from gan.regularizers import PenaltyInputs, Regularizer

_LEAST_DIVISOR = 1e-12  # a smaller derivative cannot be divided by
Metrics = dict[str, jax.Array]
AUGMENTATION = "augmentation"
"""The name of the augmentation's state in the discriminator's training state, beside the regularizers'."""


@dataclass(frozen=True)
class AdversarialGame(Game):
    """A GAN.

    Attributes:
      generator: A module, `(latents [B, Z], labels [B] or None, train=) -> [B, *shape]`. If it has a
        true attribute `stochastic`, it takes `keys [B]` besides.
      discriminator: A module, `(examples [B, *shape], labels [B] or None, train=) -> logits [B]`, or
        these and the logits of the classes `[B, classes]`, where the loss asks for them. If it has a
        true attribute `per_sample`, no sample's logit may depend on the others.
      losses: Both players' losses, as functions of the real and the fake logits.
      latent_dim: Z; latents are standard normal.
      shape: Shape of one example.
      regularizers: Penalties that are added to the players' losses, by name.
      augmentation: What is done to all that the discriminator sees.
      microbatches: How many parts of a batch gradients are taken of, one after the other.
      generator_batch_size: Fake examples in the generator's own loss; None is as many as real ones.
    """

    generator: nn.Module
    discriminator: nn.Module
    losses: Loss
    latent_dim: int
    shape: tuple[int, ...]
    regularizers: Mapping[str, Regularizer] = field(default_factory=dict)
    augmentation: DiscriminatorAugmentation = field(default_factory=NoAugmentation)
    microbatches: int = 1
    generator_batch_size: int | None = None

    def init(self, key: jax.Array, size: int = 1) -> Pair[tuple[Params, Variables]]:
        """Initialises both networks, on `size` examples in training mode, and what else is remembered."""
        generator_key, discriminator_key = jax.random.split(key)
        labels = jnp.zeros([size], jnp.int32)
        latents = jnp.zeros([size, self.latent_dim])
        examples = jnp.zeros([size, *self.shape])
        made = Pair(
            generator=dict(self.generator.init(generator_key, latents, labels, train=True)),
            discriminator=dict(
                self.discriminator.init(discriminator_key, examples, labels, train=True)
            ),
        )

        def player(role: Role) -> tuple[Params, Variables]:
            params = made.of(role).pop("params")
            return params, with_training_state(made.of(role), self.init_training_state(role))

        return Pair(generator=player("generator"), discriminator=player("discriminator"))

    def init_training_state(self, role: Role) -> dict[str, Any]:
        """Returns the states of a player's regularizers and augmentation, by name, before step 1."""
        states = {
            name: regularizer.init()
            for name, regularizer in self.regularizers.items()
            if role in regularizer.roles
        }
        if role == "discriminator":
            states[AUGMENTATION] = self.augmentation.init()
        return {name: state for name, state in states.items() if jax.tree.leaves(state)}

    def loss(
        self, role: Role, players: Pair[PlayerState], batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, tuple[Variables, Metrics]]:
        """Computes one player's loss, with a fake example of the same label for each real one."""
        drawn = self._draw(role, batch, key)
        loss, (variables, metrics, means) = self._loss(role, players, drawn)
        return loss, (self._remember(role, players, variables, means, drawn), metrics)

    def value(self, players: Pair[PlayerState], batch: Batch, key: jax.Array) -> jax.Array:
        """Computes minus the discriminator's loss of real and fake, without penalties and classes."""
        drawn, discriminator = self._draw("discriminator", batch, key), players.discriminator
        logits, _ = self._judge(discriminator, drawn, self._generate(players.generator, drawn)[0])
        return -loss_of_logits("discriminator", replace(self.losses, classes=None), logits, drawn)

    def gradient(
        self, role: Role, players: Pair[PlayerState], batch: Batch, key: jax.Array
    ) -> Gradient:
        """Computes the gradient of one player's own loss in its own parameters."""

        def evaluate(players: Pair[PlayerState], drawn: Draw) -> dict[Role, Evaluation]:
            def own_loss(params: Params) -> tuple[jax.Array, Any]:
                return self._loss(role, players.put(role, players.of(role).at(params)), drawn)

            (loss, aux), value = jax.value_and_grad(own_loss, has_aux=True)(players.of(role).params)
            return {role: Evaluation(value, loss, *aux)}

        return self._gradients(evaluate, players, self._draw(role, batch, key))[role]

    def vector_field(
        self, players: Pair[PlayerState], batch: Batch, key: jax.Array
    ) -> Pair[Gradient]:
        """Computes both gradients, with one backward pass through the discriminator where possible."""
        per_sample = getattr(self.discriminator, "per_sample", False)
        same_size = self.generator_batch_size in (None, len(batch.labels))
        if not per_sample or not same_size or self.losses.classes is not None:
            return super().vector_field(players, batch, key)
        drawn = self._draw("discriminator", batch, key)
        return Pair(**self._gradients(self._in_one_pass, players, drawn))

    def gradients_in_turn(
        self, players: Pair[PlayerState], batch: Batch, key: jax.Array
    ) -> tuple[Gradient, Callable[[PlayerState], Gradient]]:
        """Computes both gradients of the same fake examples, with one forward pass of the generator.

        The generator's loss has the whole draw of the discriminator's: latents, labels, and the keys of
        all that is random, so that the augmentation does the same to each example for both. What the
        moved discriminator says of the fakes goes back through the pass that made them.

        Raises:
          UsageError: for microbatches, or a batch of the generator's own size.
        """
        self.check_reuse(len(batch.labels))
        drawn = self._draw("discriminator", batch, key)
        generate = partial(self._generate, drawn=drawn)
        found, then = evaluate_in_turn(generate, partial(self._loss_of_fake, drawn=drawn), players)

        def of_generator(moved: PlayerState) -> Gradient:
            point = players.put("discriminator", moved)
            return self._finished("generator", point, then(point), drawn)

        return self._finished("discriminator", players, found, drawn), of_generator

    def check_reuse(self, batch_size: int) -> None:
        """Raises UsageError where the generator's step cannot take the discriminator's fakes again."""
        check_reuse(self.microbatches, self.generator_batch_size, batch_size)

    def _in_one_pass(self, players: Pair[PlayerState], drawn: Draw) -> dict[Role, Evaluation]:
        """Evaluates both players at once.

        If no sample's logit depends on the other samples, then the derivative of a loss with
        respect to a fake example is the derivative of its logit, times the loss's derivative in
        that logit. The two players' losses differ in this factor alone, so the generator's
        derivative is the discriminator's, rescaled. Where the discriminator's factor is zero (hinge
        beyond its margin), there is nothing to rescale and a second pass is made.
        """

        def generate(params: Params) -> tuple[Any, Any]:
            point = players.put("generator", players.generator.at(params))
            fake, variables = self._generate(point.generator, drawn)
            penalties = self._penalties("generator", point, drawn, fake)
            return (fake, penalties.value), (variables, penalties.metrics, penalties.means)

        def judge(params: Params, judged: jax.Array) -> tuple[Any, Any]:
            point = players.put("discriminator", players.discriminator.at(params))
            logits, variables = self._judge(point.discriminator, drawn, judged)
            # Of `fake`, not of `judged`: what is derived here in the examples is a logit's alone.
            penalties = self._penalties("discriminator", point, drawn, fake, logits)
            return (logits, penalties.value), (variables, penalties)

        def discriminator_loss(logits: Logits) -> tuple[jax.Array, Penalties]:
            penalties = self._penalties(
                "discriminator", players, drawn, fake, logits, of_logits=True
            )
            loss = loss_of_logits("discriminator", self.losses, logits, drawn)
            return loss + penalties.value, penalties

        (fake, generator_penalty), generator_vjp, of_generator = jax.vjp(
            generate, players.generator.params, has_aux=True
        )
        (logits, penalty), discriminator_vjp, (variables, penalties) = jax.vjp(
            judge, players.discriminator.params, fake, has_aux=True
        )
        # A slope is the derivative of a loss with respect to each logit, [B].
        (loss, of_logits), slope = jax.value_and_grad(discriminator_loss, has_aux=True)(logits)
        generator_loss, generator_slope = jax.value_and_grad(self.losses.generator, 1)(
            logits.real, logits.fake
        )
        value, through_fake = discriminator_vjp((slope, jnp.ones([])))

        def rescaled() -> jax.Array:
            ratio = generator_slope / jnp.where(slope.fake == 0, 1, slope.fake)
            ratio = jnp.where(generator_slope == 0, 0, ratio)
            return through_fake * ratio.reshape(-1, *(1 for _ in self.shape))

        def second_pass() -> jax.Array:
            slopes = Logits(jnp.zeros_like(slope.real), generator_slope)
            return discriminator_vjp((slopes, jnp.zeros([])))[1]

        cannot_rescale = (jnp.abs(slope.fake) < _LEAST_DIVISOR) & (generator_slope != 0)
        wrt_fake = jax.lax.cond(jnp.any(cannot_rescale), second_pass, rescaled)  # [B, *shape]
        (generator_value,) = generator_vjp((wrt_fake, jnp.ones([])))
        metrics, means = self._observed(logits, drawn, penalties.plus(of_logits))
        return {
            "generator": Evaluation(
                generator_value, generator_loss + generator_penalty, *of_generator
            ),
            "discriminator": Evaluation(value, loss + penalty, variables, metrics, means),
        }

    def _loss(
        self, role: Role, players: Pair[PlayerState], drawn: Draw
    ) -> tuple[jax.Array, tuple[Variables, Metrics, Any]]:
        """Computes one player's loss; its variables, metrics, and means for its training state."""
        fake, variables = self._generate(players.generator, drawn)
        loss, (after_judging, metrics, means) = self._loss_of_fake(role, players, fake, drawn)
        return loss, (variables if role == "generator" else after_judging, metrics, means)

    def _loss_of_fake(
        self, role: Role, players: Pair[PlayerState], fake: jax.Array, drawn: Draw
    ) -> tuple[jax.Array, tuple[Variables, Metrics, Any]]:
        """Computes one player's loss of what the generator has made; the variables are the judge's."""
        logits, variables = self._judge(players.discriminator, drawn, fake)
        loss = loss_of_logits(role, self.losses, logits, drawn)
        if role == "generator":
            penalties = self._penalties(role, players, drawn, fake)
            return loss + penalties.value, (variables, penalties.metrics, penalties.means)
        penalties = self._penalties(role, players, drawn, fake, logits)
        penalties = penalties.plus(
            self._penalties(role, players, drawn, fake, logits, of_logits=True)
        )
        return loss + penalties.value, (variables, *self._observed(logits, drawn, penalties))

    def _draw(self, role: Role, batch: Batch, key: jax.Array) -> Draw:
        """Returns the samples of a player's loss."""
        size = self.generator_batch_size if role == "generator" else None
        return draw(batch, self.latent_dim, key, size)

    def _gradients(
        self, evaluate: Evaluate, players: Pair[PlayerState], drawn: Draw
    ) -> dict[Role, Gradient]:
        """Evaluates a batch, and has each player remember what it needs to."""
        found = over_microbatches(evaluate, players, drawn, self.microbatches)
        return {role: self._finished(role, players, own, drawn) for role, own in found.items()}

    def _finished(
        self, role: Role, players: Pair[PlayerState], found: Evaluation, drawn: Draw
    ) -> Gradient:
        """Returns the gradient of a player that remembers what it needs to."""
        variables = self._remember(role, players, found.variables, found.means, drawn)
        metrics = found.metrics
        if role == "discriminator":
            states = training_state(variables)
            metrics = metrics | self.augmentation.metrics(states.get(AUGMENTATION, {}))
        return with_metrics(role, found.value, found.loss, variables, metrics)

    def _remember(
        self, role: Role, players: Pair[PlayerState], variables: Variables, means: Any, drawn: Draw
    ) -> Variables:
        """Returns a player's variables with its training state after an update."""
        states = dict(training_state(players.of(role).variables))
        for name, state in states.items():
            if name == AUGMENTATION:
                states[name] = self.augmentation.update(state, means[name], len(drawn.labels))
                continue
            regularizer = self.regularizers[name]
            due = regularizer.due(update_number(role, drawn))
            new = regularizer.update(state, means[name])
            states[name] = jax.tree.map(partial(jnp.where, due), new, state)
        return with_training_state(variables, states)

    def _generate(self, generator: PlayerState, drawn: Draw) -> tuple[jax.Array, Variables]:
        """Returns a fake example `[B, *shape]` for each real one, and the new variables."""
        own = (drawn.latents, drawn.labels, drawn.keys["generator"])
        fake, variables = apply_generator(self.generator, generator, *own)
        check_shape("generator", fake, drawn.examples.shape)
        return fake, variables

    def _judge(
        self, discriminator: PlayerState, drawn: Draw, fake: jax.Array
    ) -> tuple[Logits, Variables]:
        """Returns the logits of the real and the fake examples, and the new variables."""
        fake = self._augmented(discriminator, fake, drawn.keys["fake"])
        real = self._augmented(discriminator, drawn.examples, drawn.keys["real"])
        of_fake, after_fake = apply_network(self.discriminator, discriminator, fake, drawn.labels)
        # Two calls keep the batch statistics of real and fake examples apart.
        then = discriminator.replace(variables=after_fake)  # type: ignore[attr-defined]
        of_real, variables = apply_network(self.discriminator, then, real, drawn.labels)
        real_logits, real_classes = split_output(self.losses, of_real, drawn)
        fake_logits, fake_classes = split_output(self.losses, of_fake, drawn)
        return Logits(real_logits, fake_logits, real_classes, fake_classes), variables

    def _augmented(
        self, discriminator: PlayerState, examples: jax.Array, keys: jax.Array
    ) -> jax.Array:
        state = training_state(discriminator.variables).get(AUGMENTATION, {})
        return self.augmentation(examples, state, keys)

    def _observed(
        self, logits: Logits, drawn: Draw, penalties: Penalties
    ) -> tuple[Metrics, dict[str, Any]]:
        """Returns what is logged of the discriminator, and means that its training state needs."""
        metrics, means = logit_metrics(self.losses, logits, drawn), dict(penalties.means)
        if self.losses.confidence is not None:
            confidence = self.losses.confidence(logits.real, logits.fake)
            means[AUGMENTATION] = jnp.sign(confidence).mean()
        return metrics | penalties.metrics, means

    def _penalties(
        self,
        role: Role,
        players: Pair[PlayerState],
        drawn: Draw,
        fake: jax.Array,
        logits: Logits | None = None,
        *,
        of_logits: bool = False,
    ) -> Penalties:
        """Returns a player's penalties at a point: those that depend on logits alone, or the others."""
        discriminator, generator = players.discriminator, players.generator

        def critic(examples: jax.Array) -> jax.Array:
            """Returns the logits `[B]`, as a function of the examples alone."""
            examples = self._augmented(discriminator, examples, drawn.keys["real"])
            output, _ = apply_network(self.discriminator, discriminator, examples, drawn.labels)
            return split_output(self.losses, output, drawn)[0]

        def generate(latents: jax.Array) -> jax.Array:
            own = (latents, drawn.labels, drawn.keys["generator"])
            return apply_generator(self.generator, generator, *own)[0]

        def split(rows: slice) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
            own = (x[rows] for x in (drawn.latents, drawn.labels, drawn.keys["generator"]))
            return split_generator(self.generator, generator, *own)

        # A network without variables judges the same examples the same, whatever it has seen since.
        known = of_logits or not network_variables(discriminator.variables)
        inputs = PenaltyInputs(
            role, drawn.examples, fake, drawn.latents, drawn.labels, drawn.keys["penalty"], critic,
            generate, split, drawn.step,
            real_logits=logits.real if logits is not None and known else None,
            fake_logits=logits.fake if logits is not None and of_logits else None,
        )  # fmt: skip
        states = training_state(players.of(role).variables)
        return apply_penalties(self.regularizers, inputs, states, drawn)

    def sample(
        self,
        params: Params,
        variables: Variables,
        latents: jax.Array,
        labels: jax.Array | None,
        truncation: Any = None,
    ) -> jax.Array:
        """Generates examples `[B, *shape]` from latents `[B, Z]`, in evaluation mode.

        Args:
          params: The generator's.
          variables: Its own.
          latents: `[B, Z]`.
          labels: `[B]`.
          truncation: Factor of each w's distance from the mean of w (Karras et al., CVPR 2019, section
            B), a number; None for a generator without a mapping network.
        """
        return draw_examples(self.generator, params, variables, latents, labels, truncation)
