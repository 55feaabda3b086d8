"""Consistency: a discriminator that says the same of an example and of one much like it."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp

from gan.argument_bounds import AtLeast
from gan.players import Role
from gan.regularizers.regularizer import REGULARIZERS, PenaltyInputs, Regularizer, Weight

_REACH = 8  # a shift is by up to 1/8 of the side


@REGULARIZERS.register("bcr")
@dataclass(frozen=True)
class BalancedConsistency(Regularizer):
    """The penalty weight * (E (D(x) - D(T(x)))^2 + fake_ratio * E (D(G(z)) - D(T(G(z))))^2).

    T flips an image or not, and shifts it by up to an eighth of its side, in whole pixels, each way;
    what comes in at the edge is the mirror image.

    Attributes:
      weight: Factor of the penalty, or a schedule of it.
      every: Applied at every n-th update, times n.
      fake_ratio: Weight of the fake examples' part, where that of the real ones is 1; 0 is the earlier
        CR-GAN, and generators learn T from it (section 4.1).
      flip: Whether T flips; not for images that a mirror makes another thing, such as digits.

    Zhao et al., "Improved Consistency Regularization for GANs", AAAI 2021, algorithm 1; with 0 for
    fake_ratio, Zhang et al., "Consistency Regularization for GANs", ICLR 2020, equation 3. The
    numbers of T are those of PyTorch-StudioGAN (`src/utils/cr.py`).
    """

    weight: Weight = 10.0
    fake_ratio: Annotated[float, AtLeast(0)] = 1.0
    flip: bool = True

    def penalty(self, inputs: PenaltyInputs, state: Any) -> tuple[jax.Array, Any]:  # noqa: D102
        keys = jax.vmap(jax.random.split)(inputs.keys)  # [B, 2]

        def distance(examples: jax.Array, logits: jax.Array, keys: jax.Array) -> jax.Array:
            changed = jax.vmap(self._change)(examples, keys)
            return ((inputs.critic(changed) - logits) ** 2).mean()

        value = distance(inputs.real, inputs.logits_of_real(), keys[:, 0])
        if self.fake_ratio:
            fake = distance(inputs.fake, inputs.critic(inputs.fake), keys[:, 1])
            value += self.fake_ratio * fake
        return value, {}

    def _change(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Returns T of one image `[H, W, C]`."""
        flip_key, *keys = jax.random.split(key, 3)
        if self.flip:
            image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
        for axis, axis_key in enumerate(keys):
            side = image.shape[axis]
            shift = jax.random.randint(axis_key, [], -(side // _REACH), side // _REACH + 1)
            places = jnp.abs(jnp.arange(side) + shift)
            image = jnp.take(image, side - 1 - jnp.abs(side - 1 - places), axis=axis)
        return image

    def check_networks(self, generator: Any, discriminator: Any) -> None:  # noqa: D102
        shape = getattr(generator, "shape", (0, 0, 0))
        if len(shape) != 3:
            raise ValueError(f"shifts images, and an example has shape {list(shape)}")


@REGULARIZERS.register("zcr")
@dataclass(frozen=True)
class LatentConsistency(Regularizer):
    """Latents close to one another: the same to the discriminator, and different to the generator.

    With z' = z + sigma e, e standard normal, D: weight * E (D(G(z)) - D(G(z')))^2, in which G is a
    constant; G: -generator_weight * E ||G(z) - G(z')||^2 / N, for examples of N values. The
    latter has no lower bound where nothing bounds the examples: the adversarial loss has to.

    Attributes:
      weight: Factor of the discriminator's penalty, or a schedule of it.
      every: Applied at every n-th update, times n.
      generator_weight: Factor of the generator's, or a schedule of it.
      sigma: Standard deviation of the latents' change.

    Zhao et al., "Improved Consistency Regularization for GANs", AAAI 2021, algorithm 2.
    PyTorch-StudioGAN has (20, generator_weight=0.5, sigma=0.05) for BigGAN on CIFAR-10.
    """

    weight: Weight = 5.0
    generator_weight: Weight = 0.5
    sigma: Annotated[float, AtLeast(0)] = 0.03

    roles: ClassVar[tuple[Role, ...]] = ("discriminator", "generator")

    def weight_of(self, role: Role) -> Any:  # noqa: D102
        return self.weight if role == "discriminator" else self.generator_weight

    def penalty(self, inputs: PenaltyInputs, state: Any) -> tuple[jax.Array, Any]:  # noqa: D102
        latents = inputs.latents
        noise = jax.vmap(lambda key: jax.random.normal(key, latents.shape[1:]))(inputs.keys)
        close = inputs.generate(latents + self.sigma * noise)  # [B, *shape]
        if inputs.role == "generator":
            return -((inputs.fake - close) ** 2).mean(), {}
        return ((inputs.critic(inputs.fake) - inputs.critic(close)) ** 2).mean(), {}
