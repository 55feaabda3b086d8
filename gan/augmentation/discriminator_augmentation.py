"""Random changes of all that the discriminator sees: real and fake images alike.

The discriminator learns from T(x) and T(G(z)), and the generator through T. What T changes then does
not leak into the samples, as long as the distribution of T(x) tells that of x (Karras et al.,
"Training Generative Adversarial Networks with Limited Data", NeurIPS 2020, section 2.2).
"""

import abc
from dataclasses import dataclass
from typing import Any

import jax

from gan.argument_bounds import BoundedFields
from gan.registry import Registry
from gan.schedules import SCHEDULES, of_run_step


class DiscriminatorAugmentation(BoundedFields, abc.ABC):
    """A random, differentiable change of all images that the discriminator sees."""

    @property
    def reads_signs(self) -> bool:
        """Whether `update` needs logits that are above 0 for what is taken for real.

        Those of `wasserstein` and `relativistic` are not: only their differences mean something; and
        those of `least_squares` are halfway at 1/2.
        """
        return False

    def init(self) -> Any:
        """Returns the state before the first step: a pytree of scalars; `{}` is none."""
        return {}

    @abc.abstractmethod
    def __call__(self, images: jax.Array, state: Any, keys: jax.Array) -> jax.Array:
        """Changes images `[B, H, W, C]` in [-1, 1].

        Args:
          images: Real or fake images; the result has their shape and type, and may leave [-1, 1].
          state: The state, which no gradient changes.
          keys: `[B]`, one for each image: it alone decides what becomes of that image.
        """

    def update(self, state: Any, mean_sign: jax.Array, num_images: int) -> Any:
        """Returns the state after the discriminator has judged a batch of real images.

        Args:
          state: The state before.
          mean_sign: Mean sign of the logits of all real images of the batch, a scalar.
          num_images: Number of these images, over all devices.
        """
        return state

    def metrics(self, state: Any) -> dict[str, jax.Array]:
        """Returns scalars to log."""
        return {}

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError for examples of a shape that cannot be changed: of points, say."""
        if len(shape) != 3:
            raise ValueError(f"of images, and an example has shape {list(shape)}")


DISCRIMINATOR_AUGMENTATIONS: Registry[DiscriminatorAugmentation] = Registry(
    "discriminator augmentation", DiscriminatorAugmentation, lender=SCHEDULES, adapt=of_run_step
)


@DISCRIMINATOR_AUGMENTATIONS.register("none")
@dataclass(frozen=True)
class NoAugmentation(DiscriminatorAugmentation):
    """The images as they are."""

    def __call__(self, images: jax.Array, state: Any, keys: jax.Array) -> jax.Array:  # noqa: D102
        return images

    def check_shape(self, shape: tuple[int, ...]) -> None:  # noqa: D102
        pass
