"""GAN losses, as functions of the logits of real and of fake examples.

Each is a pair: what the discriminator minimises and what the generator minimises. They work on
logits, never on probabilities: `log(sigmoid(l)) = -softplus(-l)` is exact where a sum with a small
epsilon is not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
from jax.nn import relu, softplus

from gan.specs import Registry


@dataclass(frozen=True)
class Loss:
    """Both players' losses, each `(real_logits [B], fake_logits [B]) -> scalar`."""

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array, jax.Array], jax.Array]


LOSSES: Registry[Loss] = Registry("loss", Loss)


@LOSSES.register("non_saturating")
def non_saturating() -> Loss:
    """D: E softplus(-D(x)) + E softplus(D(G(z))); G: E softplus(-D(G(z))).

    Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, end of section 3.
    """
    return Loss(
        discriminator=lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
        generator=lambda real, fake: softplus(-fake).mean(),
    )


@LOSSES.register("minimax")
def minimax() -> Loss:
    """D as in `non_saturating`; G: -E softplus(D(G(z))), the exact zero-sum game.

    Goodfellow et al., 2014, equation 1. The generator's gradient vanishes where the discriminator
    is sure of itself.
    """
    return Loss(
        discriminator=non_saturating().discriminator,
        generator=lambda real, fake: -softplus(fake).mean(),
    )


@LOSSES.register("hinge")
def hinge() -> Loss:
    """D: E relu(1 - D(x)) + E relu(1 + D(G(z))); G: -E D(G(z)).

    Lim and Ye, "Geometric GAN", 2017; Miyato et al., "Spectral Normalization", ICLR 2018.
    """
    return Loss(
        discriminator=lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(),
        generator=lambda real, fake: -fake.mean(),
    )


@LOSSES.register("wasserstein")
def wasserstein() -> Loss:
    """D: E D(G(z)) - E D(x); G: -E D(G(z)).

    Arjovsky et al., "Wasserstein GAN", ICML 2017. It needs a discriminator that is kept Lipschitz:
    the regularizer `gradient_penalty`, or `clip_weights` at the end of its optimizer.
    """
    return Loss(
        discriminator=lambda real, fake: fake.mean() - real.mean(),
        generator=lambda real, fake: -fake.mean(),
    )


@LOSSES.register("least_squares")
def least_squares() -> Loss:
    """D: (E (D(x) - 1)^2 + E D(G(z))^2) / 2; G: E (D(G(z)) - 1)^2 / 2.

    Mao et al., "Least Squares GANs", ICCV 2017, equation 9.
    """
    return Loss(
        discriminator=lambda real, fake: ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2,
        generator=lambda real, fake: ((fake - 1) ** 2).mean() / 2,
    )


@LOSSES.register("relativistic")
def relativistic() -> Loss:
    """D: E softplus(D(G(z)) - D(x)); G: E softplus(D(x) - D(G(z))), over pairs of one batch.

    Jolicoeur-Martineau, "The relativistic discriminator", ICLR 2019 (RpGAN); Huang et al., "The GAN
    is dead; long live the GAN!", NeurIPS 2024 (R3GAN).
    """
    return Loss(
        discriminator=lambda real, fake: softplus(fake - real).mean(),
        generator=lambda real, fake: softplus(real - fake).mean(),
    )
