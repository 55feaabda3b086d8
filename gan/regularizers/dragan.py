"""DRAGAN: the discriminator's gradient close to the real examples."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax

from gan.argument_bounds import AtLeast
from gan.regularizers.gradient_penalties import gradients, norms
from gan.regularizers.regularizer import REGULARIZERS, PenaltyInputs, Regularizer, Weight


@REGULARIZERS.register("dragan")
@dataclass(frozen=True)
class DRAGAN(Regularizer):
    """The penalty weight * E (||grad_x D(x)||_2 - 1)^2 close to real examples.

    Each x is a real example + a * scale * s * u: s is the standard deviation of all values of the
    batch, a is uniform on [0, 1), one for an example, and u likewise, one for each of its values.

    Attributes:
      weight: Factor of the penalty, or a schedule of it.
      every: Applied at every n-th update, times n.
      scale: Size of the neighbourhood, in standard deviations.

    Kodali et al., "On Convergence and Stability of GANs", arXiv 1705.07215, equation 1. It has normal
    noise in place of a * scale * s * u. This is the noise of the authors' code
    (github.com/kodalinaveen3/DRAGAN), which takes its size from the data; so are the defaults.
    """

    weight: Weight = 10.0
    scale: Annotated[float, AtLeast(0)] = 0.5

    over_batch: ClassVar[bool] = True

    def penalty(self, inputs: PenaltyInputs, state: Any) -> tuple[jax.Array, Any]:  # noqa: D102
        real = inputs.real

        def draw(key: jax.Array) -> jax.Array:
            ratio_key, noise_key = jax.random.split(key)
            return jax.random.uniform(ratio_key) * jax.random.uniform(noise_key, real.shape[1:])

        near = real + self.scale * real.std() * jax.vmap(draw)(inputs.keys)
        return ((norms(gradients(inputs.critic, near)) - 1) ** 2).mean(), {}
