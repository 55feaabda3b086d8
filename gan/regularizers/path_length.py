"""Path length: a generator that moves its examples equally far wherever w, or the latents, move."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp

from gan.argument_bounds import AtLeast, Within
from gan.errors import UsageError
from gan.players import Role
from gan.regularizers.gradient_penalties import norms
from gan.regularizers.regularizer import REGULARIZERS, Every, PenaltyInputs, Regularizer, Weight


@REGULARIZERS.register("path_length")
@dataclass(frozen=True)
class PathLength(Regularizer):
    """The penalty weight * E (l - a)^2 on the generator, where l = ||J^T y||_2 and a averages l.

    J is the derivative of the examples in w, the latents after the mapping network, or in the latents
    themselves where there is none; with a w for each of L layers, the squared norm is the mean over
    them. y is normal, of variance 1 / (H W) (1 for points). a is a moving average which already
    contains the batch's own mean, and passes its gradient.

    Attributes:
      weight: Factor of the penalty, or a schedule of it.
      every: Applied at every n-th update of the generator, times n.
      decay: Weight of the newest mean of l in a.
      batch_shrink: n; the penalty is of every n-th fake example.

    Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 3.2,
    equation 4, and appendix B. The details and defaults are those of
    github.com/NVlabs/stylegan2-ada-pytorch, `training/loss.py`.
    """

    weight: Weight = 2.0
    every: Every = 4
    decay: Annotated[float, Within(0, 1)] = 0.01
    batch_shrink: Annotated[int, AtLeast(1)] = 2

    roles: ClassVar[tuple[Role, ...]] = ("generator",)
    over_batch: ClassVar[bool] = True

    def init(self) -> Any:
        """Returns the average of l before the first step, which is 0 as in the reference."""
        return {"length": jnp.zeros([])}

    def penalty(self, inputs: PenaltyInputs, state: Any) -> tuple[jax.Array, Any]:  # noqa: D102
        size = len(inputs.latents)
        if size % self.batch_shrink:
            raise UsageError(
                f"path_length(batch_shrink={self.batch_shrink}): it does not divide the {size} "
                f"examples of the generator's batch, or of a part of it"
            )
        # Every n-th, not the first ones: those of a batch that is split stay where they are.
        rows = slice(None, None, self.batch_shrink)
        keys = inputs.keys[rows]
        w, synthesize = inputs.split(rows)
        examples, pull_back = jax.vjp(synthesize, w)
        noise = jax.vmap(lambda key: jax.random.normal(key, examples.shape[1:]))(keys)
        pixels = math.prod(examples.shape[1:-1])
        (slopes,) = pull_back((noise / math.sqrt(pixels)).astype(examples.dtype))  # as w
        lengths = norms(slopes) / math.sqrt(math.prod(w.shape[1:-1]))  # [N]
        means = {"length": lengths.mean()}
        return ((lengths - self.update(state, means)["length"]) ** 2).mean(), means

    def update(self, state: Any, means: Any) -> Any:  # noqa: D102
        old = state["length"]
        return {"length": old + self.decay * (means["length"] - old)}

    def check_networks(self, generator: Any, discriminator: Any) -> None:  # noqa: D102
        if not getattr(generator, "per_sample", False):
            raise ValueError(
                "needs a generator each of whose examples depends on its own latents alone, without "
                "batch normalisation: dcgan(batch_norm=False), say"
            )
