"""GAN losses, as functions of the logits of real and of fake examples.

Each is a pair of functions: one that the discriminator minimises, and one that the generator
minimises. They work on logits l and not on probabilities: `log(sigmoid(l)) = -softplus(-l)` is
exact, which `log(sigmoid(l) + epsilon)` is not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
from jax.nn import relu, softplus

from gan.registry import Registry
from gan.schedules import SCHEDULES, of_run_step


@dataclass(frozen=True)
class Loss:
    """The losses of both players, each `(real_logits [B], fake_logits [B]) -> scalar`."""

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array, jax.Array], jax.Array]


LOSSES: Registry[Loss] = Registry("loss", Loss, lender=SCHEDULES, adapt=of_run_step)


@LOSSES.register("non_saturating")
def non_saturating() -> Loss:
    """Builds the non-saturating loss.

    D: E softplus(-D(x)) + E softplus(D(G(z))); G: E softplus(-D(G(z))).

    Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, end of section 3.
    """
    return Loss(
        discriminator=lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
        generator=lambda real, fake: softplus(-fake).mean(),
    )


@LOSSES.register("minimax")
def minimax() -> Loss:
    """Builds the saturating loss, an exact zero-sum game.

    D: as in `non_saturating`; G: -E softplus(D(G(z))). The generator's gradient vanishes where the
    discriminator is confident.

    Goodfellow et al., 2014, equation 1.
    """
    return Loss(
        discriminator=non_saturating().discriminator,
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
    )


@LOSSES.register("least_squares")
def least_squares() -> Loss:
    """Builds the least-squares loss.

    D: (E (D(x) - 1)^2 + E D(G(z))^2) / 2; G: E (D(G(z)) - 1)^2 / 2.

    Mao et al., "Least Squares GANs", ICCV 2017, equation 9.
    """
    return Loss(
        discriminator=lambda real, fake: ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2,
        generator=lambda real, fake: ((fake - 1) ** 2).mean() / 2,
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
    )
