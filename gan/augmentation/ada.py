"""ADA: many random changes, as often as keeps the discriminator from overfitting.

Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020; the numbers
are those of the authors' code (NVlabs/stylegan2-ada-pytorch).
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gan.argument_bounds import Above, AtLeast, Within
from gan.augmentation.ada_color import Colour, band_gains, cut_out, filter_bands, recolour
from gan.augmentation.ada_geometry import Geometry, resample
from gan.augmentation.discriminator_augmentation import (
    DISCRIMINATOR_AUGMENTATIONS,
    DiscriminatorAugmentation,
)
from gan.schedules import Schedule, run_step, value_at

Multiplier: TypeAlias = Annotated[float, Within(0, 1)]
Spread: TypeAlias = Annotated[float, AtLeast(0)]


class Draws(NamedTuple):
    """Random numbers of one image; a row for each of some changes.

    Attributes:
      chance: `[changes]`, uniform in [0, 1): below its probability a change is made.
      uniform: `[changes, 2]`, uniform in [0, 1).
      normal: `[changes, 2]`, standard normal.
    """

    chance: jax.Array
    uniform: jax.Array
    normal: jax.Array

    def chosen(self, change: Any, probability: Any, value: Any, neutral: float) -> jax.Array:
        """Returns a value with a probability, and otherwise the one that changes nothing."""
        return jnp.where(self.chance[change] < probability, value, neutral)


@DISCRIMINATOR_AUGMENTATIONS.register("ada")
@dataclass(frozen=True)
class ADA(DiscriminatorAugmentation):
    """Changes each image in each of many ways with probability p, which adapts itself.

    p starts at 0. After every `interval` batches of real images it moves by their number /
    (1000 kimg): up where the mean sign of the discriminator's logits for them is above `target`, and
    down, at most to 0, where it is below. While p is 0 the images stay as they are.

    Attributes:
      target: The mean sign of the logits of real images that is aimed at.
      interval: Batches from one move of p to the next.
      kimg: Thousands of real images in which p moves by 1.
      p: A probability that stays, or a schedule of it (R3GAN's rises along half a cosine); None adapts it.
      xflip: Multiplier of p for a flip from left to right; half of those chosen are flipped.
      rotate90: Multiplier for 0 to 3 quarter turns.
      xint: Multiplier for a move by whole pixels.
      scale: Multiplier for another size.
      rotate: Multiplier for a rotation, before or after `aniso`.
      aniso: Multiplier for a stretch in one direction.
      xfrac: Multiplier for a move by parts of pixels.
      brightness: Multiplier for adding a number.
      contrast: Multiplier for a factor of all colours.
      lumaflip: Multiplier for light to dark; half of those chosen are reversed.
      hue: Multiplier for a rotation of the hue.
      saturation: Multiplier for a factor of the saturation.
      filter: Multiplier for amplifying or damping each of four bands of frequencies.
      noise: Multiplier for normal noise.
      cutout: Multiplier for a rectangle of zeros.
      xint_max: The farthest move by whole pixels, a share of the image's size.
      scale_std: Standard deviation of the base-2 logarithm of the factor of the size.
      rotate_max: The largest rotation in either direction; 1 is half a turn.
      aniso_std: Standard deviation of the base-2 logarithm of the stretch.
      xfrac_std: Standard deviation of a move by parts of pixels, a share of the image's size.
      brightness_std: Standard deviation of what is added.
      contrast_std: Standard deviation of the base-2 logarithm of the contrast.
      hue_max: The largest rotation of the hue in either direction; 1 is half a turn.
      saturation_std: Standard deviation of the base-2 logarithm of the saturation.
      filter_std: Standard deviation of the base-2 logarithm of a band's amplification.
      noise_std: Standard deviation of the standard deviation of the noise.
      cutout_size: Height and width of the rectangle, shares of the image's.
    """

    target: Annotated[float, Within(-1, 1)] = 0.6
    interval: Annotated[int, AtLeast(1)] = 4
    kimg: Annotated[float, Above(0)] = 500.0
    p: Annotated[float, Within(0, 1)] | Schedule | None = None
    xflip: Multiplier = 1.0
    rotate90: Multiplier = 1.0
    xint: Multiplier = 1.0
    scale: Multiplier = 1.0
    rotate: Multiplier = 1.0
    aniso: Multiplier = 1.0
    xfrac: Multiplier = 1.0
    brightness: Multiplier = 1.0
    contrast: Multiplier = 1.0
    lumaflip: Multiplier = 1.0
    hue: Multiplier = 1.0
    saturation: Multiplier = 1.0
    filter: Multiplier = 0.0
    noise: Multiplier = 0.0
    cutout: Multiplier = 0.0
    xint_max: Annotated[float, Within(0, 1)] = 0.125
    scale_std: Spread = 0.2
    rotate_max: Annotated[float, Within(0, 1)] = 1.0
    aniso_std: Spread = 0.2
    xfrac_std: Spread = 0.125
    brightness_std: Spread = 0.2
    contrast_std: Spread = 0.5
    hue_max: Annotated[float, Within(0, 1)] = 1.0
    saturation_std: Spread = 1.0
    filter_std: Spread = 1.0
    noise_std: Spread = 0.1
    cutout_size: Annotated[float, Within(0, 1)] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        adapts = (self.target, self.interval, self.kimg) != (ADA.target, ADA.interval, ADA.kimg)
        if self.p is not None and adapts:
            raise ValueError("p stays as it is given: target, interval and kimg are of no use")

    @property
    def reads_signs(self) -> bool:  # noqa: D102
        return self.p is None

    def check_shape(self, shape: tuple[int, ...]) -> None:  # noqa: D102
        super().check_shape(shape)
        if shape[2] not in (1, 3):
            raise ValueError(f"of images with 1 or 3 channels, and an example has {shape[2]}")
        if min(shape[:2]) < 2:
            raise ValueError(f"of images of 2 x 2 pixels or more, and an example has shape {shape}")

    def init(self) -> dict[str, jax.Array]:
        """Returns p as `strength`; the last batch's mean sign; and what is known of this interval."""
        if self.p is not None:
            return {}
        numbers = {name: jnp.zeros([]) for name in ("strength", "sign", "sum_of_signs")}
        return numbers | {"batches": jnp.zeros([], jnp.int32)}

    def update(self, state: Any, mean_sign: jax.Array, num_images: int) -> Any:  # noqa: D102
        if self.p is not None:
            return state
        batches, total = state["batches"] + 1, state["sum_of_signs"] + mean_sign
        direction = jnp.sign(total / self.interval - self.target)
        step = num_images * self.interval / (1_000 * self.kimg)
        moved = jnp.maximum(state["strength"] + direction * step, 0.0)
        ends = batches == self.interval
        return {
            "strength": jnp.where(ends, moved, state["strength"]),
            "sign": mean_sign,
            "sum_of_signs": jnp.where(ends, 0.0, total),
            "batches": jnp.where(ends, 0, batches),
        }

    def metrics(self, state: Any) -> dict[str, jax.Array]:
        """Returns p, where it does not stay, and where it adapts the mean sign of the last batch."""
        metrics = {"augmentation/sign": state["sign"]} if self.p is None else {}
        stays = isinstance(self.p, int | float)
        return metrics if stays else metrics | {"augmentation/strength": self._strength(state)}

    def _strength(self, state: Any) -> jax.Array:
        """Returns p: that of the state, or the given one; a schedule's at the run's step."""
        if self.p is None:
            return state["strength"]
        return jnp.float32(value_at(self.p, run_step(jnp.int32(0))))

    def __call__(self, images: jax.Array, state: Any, keys: jax.Array) -> jax.Array:  # noqa: D102
        p = self._strength(state)
        changed = jax.lax.cond(p > 0, self._change, lambda images, p, keys: images, images, p, keys)
        return changed.astype(images.dtype)

    def _change(self, images: jax.Array, p: jax.Array, keys: jax.Array) -> jax.Array:
        dtype, (height, width) = images.dtype, images.shape[1:3]
        images, size = images.astype(jnp.float32), (height, width)
        geometry, colour, bands, noise, hole = _draws(keys, 8, 5, 4, 1, 1)
        blits = self.xflip, self.rotate90, self.xint
        if any([*blits, self.scale, self.rotate, self.aniso, self.xfrac]):
            inverses = jax.vmap(lambda draws: self._geometry(draws, p, size).inverse())(geometry)
            images = resample(images, inverses)
        if any([self.brightness, self.contrast, self.lumaflip, self.hue, self.saturation]):
            affine = jax.vmap(lambda draws: self._colour(draws, p).affine())(colour)
            images = recolour(images, *affine)
        if self.filter:
            images = filter_bands(images, jax.vmap(lambda draws: self._gains(draws, p))(bands))
        if self.noise:
            images = jax.vmap(self._with_noise, (0, 0, 0, None))(images, keys, noise, p)
        if self.cutout:
            images = jax.vmap(self._without, (0, 0, None))(images, hole, p)
        return images.astype(dtype)

    def _geometry(self, draws: Draws, p: jax.Array, size: tuple[int, int]) -> Geometry:
        """Returns what is done to an image of size (H, W)."""
        chosen, unit, normal = draws.chosen, draws.uniform, draws.normal
        sides = jnp.array([size[1], size[0]], jnp.float32)
        once = 1 - jnp.sqrt(1 - jnp.minimum(self.rotate * p, 1.0))  # P(before or after) = rotate p
        shift = jnp.round((2 * unit[2] - 1) * self.xint_max * sides)
        angles = (2 * unit[:, 0] - 1) * math.pi * self.rotate_max
        return Geometry(
            flip=chosen(0, self.xflip * p, jnp.floor(2 * unit[0, 0]), 0.0),
            turns=chosen(1, self.rotate90 * p, jnp.floor(4 * unit[1, 0]), 0.0),
            shift=chosen(2, self.xint * p, shift, 0.0),
            scale=chosen(3, self.scale * p, jnp.exp2(normal[3, 0] * self.scale_std), 1.0),
            rotation=chosen(4, once, angles[4], 0.0),
            stretch=chosen(5, self.aniso * p, jnp.exp2(normal[5, 0] * self.aniso_std), 1.0),
            rotation_after=chosen(6, once, angles[6], 0.0),
            move=chosen(7, self.xfrac * p, normal[7] * self.xfrac_std * sides, 0.0),
        )

    def _colour(self, draws: Draws, p: jax.Array) -> Colour:
        """Returns what is done to the colours of an image."""
        chosen, unit, normal = draws.chosen, draws.uniform, draws.normal
        contrast, saturation = normal[1, 0] * self.contrast_std, normal[4, 0] * self.saturation_std
        hue = (2 * unit[3, 0] - 1) * math.pi * self.hue_max
        return Colour(
            brightness=chosen(0, self.brightness * p, normal[0, 0] * self.brightness_std, 0.0),
            contrast=chosen(1, self.contrast * p, jnp.exp2(contrast), 1.0),
            flip=chosen(2, self.lumaflip * p, jnp.floor(2 * unit[2, 0]), 0.0),
            hue=chosen(3, self.hue * p, hue, 0.0),
            saturation=chosen(4, self.saturation * p, jnp.exp2(saturation), 1.0),
        )

    def _gains(self, draws: Draws, p: jax.Array) -> jax.Array:
        """Returns the gain `[4]` of each band of frequencies of an image."""
        factors = jnp.exp2(draws.normal[:, 0] * self.filter_std)
        return band_gains(draws.chosen(slice(None), self.filter * p, factors, 1.0))

    def _with_noise(
        self, image: jax.Array, key: jax.Array, draws: Draws, p: jax.Array
    ) -> jax.Array:
        """Adds noise to an image `[H, W, C]`."""
        deviation = jnp.abs(draws.normal[0, 0]) * self.noise_std
        noise = jax.random.normal(jax.random.fold_in(key, 1), image.shape)
        return image + draws.chosen(0, self.noise * p, deviation, 0.0) * noise

    def _without(self, image: jax.Array, draws: Draws, p: jax.Array) -> jax.Array:
        """Cuts a rectangle out of an image `[H, W, C]`."""
        size = draws.chosen(0, self.cutout * p, self.cutout_size, 0.0)
        return cut_out(image, draws.uniform[0], size)


def _draws(keys: jax.Array, *groups: int) -> list[Draws]:
    """Draws for images with keys `[B]` what each group of so many changes needs, `[B, ...]`.

    All is from one call: another one would take longer to compile than most of the changes.
    """
    shape = [sum(groups), 5]
    numbers = jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)  # [B, changes, 5]
    signed = jnp.maximum(2 * numbers[:, :, 3:] - 1, -1 + 2.0**-23)  # erf_inv(-1) is infinite
    draws = Draws(
        chance=numbers[:, :, 0],
        uniform=numbers[:, :, 1:3],
        normal=math.sqrt(2) * jax.lax.erf_inv(signed),
    )
    ends = np.cumsum(groups)
    return [
        jax.tree.map(lambda rows, end=end, size=size: rows[:, end - size : end], draws)
        for end, size in zip(ends, groups, strict=True)
    ]
