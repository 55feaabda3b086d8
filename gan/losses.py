"""GAN losses, as functions of the logits of real and of fake examples.

Each is a pair of functions: one that the discriminator minimises, and one that the generator
minimises. They work on logits l and not on probabilities: `log(sigmoid(l)) = -softplus(-l)` is
exact, which `log(sigmoid(l) + epsilon)` is not.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.nn import relu, softplus

from gan.argument_bounds import AtLeast, Within
from gan.registry import Registry
from gan.schedules import SCHEDULES, Schedule, of_run_step, value_at


@dataclass(frozen=True)
class ClassLoss:
    """The loss of a discriminator that also says of which class an example is.

    Attributes:
      discriminator_weight: Its weight in the discriminator's loss.
      generator_weight: Its weight in the generator's.
      of_fake: Whether the discriminator learns from the fake examples too.
    """

    discriminator_weight: float
    generator_weight: float
    of_fake: bool

    def discriminator(self, real: jax.Array, fake: jax.Array, labels: jax.Array) -> jax.Array:
        """Computes the discriminator's loss from class logits `[B, classes]` and labels `[B]`."""
        loss = _cross_entropy(real, labels)
        return self.discriminator_weight * (loss + _cross_entropy(fake, labels) * self.of_fake)

    def generator(self, fake: jax.Array, labels: jax.Array) -> jax.Array:
        """Computes the generator's loss from class logits `[B, classes]` and labels `[B]`."""
        return self.generator_weight * _cross_entropy(fake, labels)

    def metrics(self, real: jax.Array, fake: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
        """Returns the discriminator's loss, and of how many examples the class is recognised."""
        accuracies = {
            f"class_accuracy/{name}": (logits.argmax(-1) == labels).mean(dtype=jnp.float32)
            for name, logits in {"real": real, "fake": fake}.items()
        }
        return accuracies | {"class_loss": self.discriminator(real, fake, labels)}


@dataclass(frozen=True)
class LabelNoise:
    """The real and the fake example of a pair change places in the discriminator's loss.

    Attributes:
      probability: That a pair does, or a schedule of it.
    """

    probability: Any

    def swap(
        self, real: jax.Array, fake: jax.Array, keys: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the logits `[B]` taken for real and for fake; `keys [B]` decide about each pair."""
        draws = jax.vmap(jax.random.uniform)(keys)  # [B]
        swapped = draws < value_at(self.probability, step)
        return jnp.where(swapped, fake, real), jnp.where(swapped, real, fake)


@dataclass(frozen=True)
class Loss:
    """The losses of both players.

    Attributes:
      discriminator: `(real_logits [B], fake_logits [B]) -> scalar`.
      generator: Likewise.
      classes: What is added for the classes of the examples, where the discriminator judges them.
      label_noise: Whether some of the discriminator's labels are wrong on purpose.
      over_batch: Whether the loss of a batch is other than the mean over its microbatches.
      confidence: From the same logits, numbers `[B]` that are above 0 where the discriminator takes
        the real example for real; None where logits alone do not tell.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array, jax.Array], jax.Array]
    classes: ClassLoss | None = None
    label_noise: LabelNoise | None = None
    over_batch: bool = False
    confidence: Callable[[jax.Array, jax.Array], jax.Array] | None = lambda real, fake: real


LOSSES: Registry[Loss] = Registry("loss", Loss, lender=SCHEDULES, adapt=of_run_step)
Probability: TypeAlias = Annotated[float, Within(0, 1)]
Fraction: TypeAlias = Annotated[float, Within(0, 1, open_start=True)]


@LOSSES.register("non_saturating")
def non_saturating(smoothing: Probability = 0.0) -> Loss:
    """Builds the non-saturating loss.

    D: E softplus(-D(x)) + E softplus(D(G(z))); G: E softplus(-D(G(z))). With one-sided label
    smoothing s, the first term is the cross-entropy with the label 1 - s of a real example:
    (1 - s) E softplus(-D(x)) + s E softplus(D(x)).

    Args:
      smoothing: s, as in Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016,
        section 3.4.

    Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, end of section 3.
    """

    def of_real(real: jax.Array) -> jax.Array:
        if not smoothing:
            return softplus(-real).mean()
        return (1 - smoothing) * softplus(-real).mean() + smoothing * softplus(real).mean()

    return Loss(
        discriminator=lambda real, fake: of_real(real) + softplus(fake).mean(),
        generator=lambda real, fake: softplus(-fake).mean(),
    )


@LOSSES.register("minimax")
def minimax(smoothing: Probability = 0.0) -> Loss:
    """Builds the saturating loss, an exact zero-sum game without smoothing.

    D: as in `non_saturating`, with its `smoothing`; G: -E softplus(D(G(z))). The generator's gradient vanishes where the
    discriminator is confident.

    Goodfellow et al., 2014, equation 1.
    """
    return Loss(
        discriminator=non_saturating(smoothing).discriminator,
        generator=lambda real, fake: -softplus(fake).mean(),
    )


@LOSSES.register("hinge")
def hinge() -> Loss:
    """Builds the hinge loss.

    D: E relu(1 - D(x)) + E relu(1 + D(G(z))); G: -E D(G(z)).

    Lim and Ye, "Geometric GAN", 2017; Miyato et al., "Spectral Normalization", ICLR 2018.
    """
    return Loss(
        discriminator=lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(),
        generator=lambda real, fake: -fake.mean(),
    )


@LOSSES.register("wasserstein")
def wasserstein() -> Loss:
    """Builds the Wasserstein loss.

    D: E D(G(z)) - E D(x); G: -E D(G(z)). It needs a discriminator that is kept Lipschitz, by the
    regularizer `gradient_penalty` or by `clip_weights` at the end of its optimizer.

    Arjovsky et al., "Wasserstein GAN", ICML 2017.
    """
    return Loss(
        discriminator=lambda real, fake: fake.mean() - real.mean(),
        generator=lambda real, fake: -fake.mean(),
        confidence=None,  # a constant can be added to all logits
    )


@LOSSES.register("least_squares")
def least_squares(smoothing: Probability = 0.0) -> Loss:
    """Builds the least-squares loss.

    D: (E (D(x) - 1 + s)^2 + E D(G(z))^2) / 2; G: E (D(G(z)) - 1)^2 / 2.

    Args:
      smoothing: s, one-sided label smoothing as in `non_saturating`.

    Mao et al., "Least Squares GANs", ICCV 2017, equation 9.
    """
    return Loss(
        discriminator=lambda real, fake: (
            ((real - (1 - smoothing)) ** 2).mean() / 2 + (fake**2).mean() / 2
        ),
        generator=lambda real, fake: ((fake - 1) ** 2).mean() / 2,
        confidence=lambda real, fake: real - (1 - smoothing) / 2,
    )


@LOSSES.register("relativistic")
def relativistic() -> Loss:
    """Builds the relativistic loss, over the pairs of real and fake examples of a batch.

    D: E softplus(D(G(z)) - D(x)); G: E softplus(D(x) - D(G(z))).

    Jolicoeur-Martineau, "The relativistic discriminator", ICLR 2019 (RpGAN); Huang et al., "The GAN
    is dead; long live the GAN!", NeurIPS 2024 (R3GAN).
    """
    return Loss(
        discriminator=lambda real, fake: softplus(fake - real).mean(),
        generator=lambda real, fake: softplus(real - fake).mean(),
        confidence=lambda real, fake: real - fake,
    )


@LOSSES.register("acgan")
def acgan(
    base: Loss | None = None,
    discriminator_weight: Annotated[float, AtLeast(0)] = 1.0,
    generator_weight: Annotated[float, AtLeast(0)] = 1.0,
    of_fake: bool = True,
) -> Loss:
    """Adds the loss of an auxiliary classifier to another loss.

    The discriminator also says of which class an example is. Both players minimise the cross-entropy
    of the classes: L_C = E -log P(c | x) + E -log P(c | G(z)). The generator must be conditional.

    Args:
      base: The loss of real and fake; None is `non_saturating`.
      discriminator_weight: Weight of L_C in the discriminator's loss.
      generator_weight: Weight of its second term in the generator's.
      of_fake: Whether the second term is in the discriminator's loss.

    Odena et al., "Conditional Image Synthesis with Auxiliary Classifier GANs", ICML 2017, equation 3.
    """
    classes = ClassLoss(discriminator_weight, generator_weight, of_fake)
    return replace(base or non_saturating(), classes=classes)


@LOSSES.register("label_noise")
def label_noise(base: Loss | None = None, probability: Probability | Schedule = 0.05) -> Loss:
    """Gives the discriminator wrong labels now and then: a real and a fake example change places.

    Args:
      base: The loss; None is `non_saturating`.
      probability: That a pair does, or a schedule of it.

    Chintala et al., "How to Train a GAN? Tips and tricks to make GANs work", 2016, tip 6.
    """
    return replace(base or non_saturating(), label_noise=LabelNoise(probability))


@LOSSES.register("top_k")
def top_k(base: Loss | None = None, fraction: Fraction | Schedule = 0.5) -> Loss:
    """Has the generator learn from those fake examples alone that the discriminator takes most for real.

    Of a batch of B these are the ceil(fraction B) with the largest logits. The paper lowers the
    fraction from 1 to 0.5, by a factor of 0.99 an epoch:
    `top_k(hinge, exponential_decay(1.0, EPOCH, 0.99, staircase=True, end_value=0.5))`.

    Args:
      base: The loss, whose generator's part is a mean over the examples; None is `non_saturating`.
      fraction: The fraction in (0, 1], or a schedule of it.

    Sinha et al., "Top-k Training of GANs", NeurIPS 2020, equation 3 and section 3.
    """
    base = base or non_saturating()
    of_examples = base.generator

    def generator(real: jax.Array, fake: jax.Array) -> jax.Array:
        each = jax.vmap(lambda x, y: of_examples(x[None], y[None]))(real, fake)  # [B]
        now = value_at(fraction, 0)  # of a schedule, the value at the run's step
        # Without the small number, rounding would make 0.7 of 10 eight.
        count = jnp.clip(jnp.ceil(now * len(fake) - 1e-4), 1, len(fake))
        rank = jnp.argsort(jnp.argsort(-fake))
        return jnp.sum(jnp.where(rank < count, each, 0.0)) / count

    return replace(base, generator=generator, over_batch=True)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
