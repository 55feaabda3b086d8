"""Penalties on the discriminator's gradient with respect to its inputs."""

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from gan.argument_bounds import Above
from gan.regularizers.regularizer import REGULARIZERS, Critic, PenaltyInputs, Regularizer, Weight

_LEAST_SIGMA = 0.01  # in bfloat16


@dataclass(frozen=True)
class _SquaredNorm(Regularizer):
    """The penalty ||grad_x D(x)||^2 / 2, exactly or by finite differences."""

    approximate: bool = False
    sigma: Annotated[float, Above(0)] = 0.01

    def caution(self, precision: str) -> str:
        if precision == "float32" or not self.approximate or self.sigma >= _LEAST_SIGMA:
            return ""
        least = f"a difference over less than {_LEAST_SIGMA} is mostly rounding"
        return f"sigma = {self.sigma}: in {precision} {least}"

    def _mean(self, inputs: PenaltyInputs, examples: jax.Array, logits: Any) -> jax.Array:
        if not self.approximate:
            return squared_norms(gradients(inputs.critic, examples)).mean() / 2
        noise = jax.vmap(lambda key: jax.random.normal(key, examples.shape[1:]))(inputs.keys)
        moved = inputs.critic(examples + self.sigma * noise)  # [B]
        return (((moved - logits()) / self.sigma) ** 2).mean() / 2


@REGULARIZERS.register("r1")
@dataclass(frozen=True)
class R1(_SquaredNorm):
    """The penalty (weight / 2) E ||grad_x D(x)||^2 on real examples.

    Attributes:
      weight: Factor of the penalty, or a schedule of it.
      every: Applied at every n-th update, times n.
      approximate: Whether the norm is that of finite differences, (D(x + sigma e) - D(x))^2 / sigma^2
        with e standard normal, one e for an example: one more pass in place of a derivative of a
        derivative. Its mean over e is the norm, up to a term of the order of sigma^2; a single e
        scatters by sqrt(2) times the norm.
      sigma: Size of these differences. Too small a one drowns in rounding, in bfloat16 below about
        0.01; the more so where the logits are large and the gradients small.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018, equation 9.
    The approximation: Lin et al., "Diffusion Adversarial Post-Training for One-Step Video Generation",
    ICML 2025, section 3.4; they do not divide by sigma^2, and their 100 at sigma = 0.01 is the weight
    0.02 here. Lin et al., "Adversarial Flow Models", arXiv 2511.22475, do; the 0.25 of their code is
    the weight 0.5 here.
    """

    def penalty(self, inputs: PenaltyInputs, state: Any) -> tuple[jax.Array, Any]:  # noqa: D102
        return self._mean(inputs, inputs.real, inputs.logits_of_real), {}


@REGULARIZERS.register("r2")
@dataclass(frozen=True)
class R2(_SquaredNorm):
    """The penalty (weight / 2) E ||grad_x D(x)||^2 on fake examples; attributes as those of `r1`.

    Mescheder et al., 2018, equation 10.
    """

    def penalty(self, inputs: PenaltyInputs, state: Any) -> tuple[jax.Array, Any]:  # noqa: D102
        return self._mean(inputs, inputs.fake, lambda: inputs.critic(inputs.fake)), {}


@REGULARIZERS.register("gradient_penalty")
@dataclass(frozen=True)
class GradientPenalty(Regularizer):
    """The penalty weight * E (||grad_x D(x)||_2 - 1)^2 between real and fake examples.

    Each x lies on the line between a real and a fake example, at a random place of its own.

    Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, equation 3.
    """

    weight: Weight = 10.0

    def penalty(self, inputs: PenaltyInputs, state: Any) -> tuple[jax.Array, Any]:  # noqa: D102
        ratio = jax.vmap(jax.random.uniform)(inputs.keys)  # [B]
        ratio = ratio.reshape(-1, *(1 for _ in inputs.real.shape[1:]))
        between = inputs.real + ratio * (inputs.fake - inputs.real)
        return ((norms(gradients(inputs.critic, between)) - 1) ** 2).mean(), {}


def gradients(critic: Critic, examples: jax.Array) -> jax.Array:
    """Computes grad_x D(x) `[B, *shape]` for each example."""
    return jax.grad(lambda x: critic(x).sum())(examples)


def squared_norms(vectors: jax.Array) -> jax.Array:
    """Computes ||v||^2 `[B]` of `[B, ...]`."""
    return jnp.sum(vectors**2, axis=range(1, vectors.ndim))


def norms(vectors: jax.Array) -> jax.Array:
    """Computes ||v||_2 `[B]` of `[B, ...]`; its derivative is 0 where it is 0, as it has none there."""
    squared = squared_norms(vectors)
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
