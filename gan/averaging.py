"""Averages of the generator over training: samples of them are better than the last iterate's."""

import abc
import math
from dataclasses import dataclass, field
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from gan.argument_bounds import Above, AtLeast, BoundedFields, Within
from gan.players import PlayerState, network_variables
from gan.registry import Registry
from gan.schedules import SCHEDULES, Schedule, of_run_step, value_at


@dataclass(frozen=True)
class Averaging(BoundedFields, abc.ABC):
    """An average of the generator's weights and variables.

    It is a pytree `{"params": ..., "variables": ...}` of the shapes of what it averages, and starts
    as a copy of that.

    Attributes:
      recalibrate_batch_norm: Samples are drawn with statistics of batch normalisation over so many
        batches of latents (see `gan.recalibration`); with 0, with the averaged statistics.
    """

    recalibrate_batch_norm: Annotated[int, Within(0, 10_000)] = field(default=0, kw_only=True)

    def init(self, generator: PlayerState) -> Any:
        """Returns the average before the first step."""
        return jax.tree.map(jnp.copy, _averaged(generator))

    def update(self, average: Any, generator: PlayerState, step: jax.Array) -> Any:
        """Returns the average after the generator's update number `step` (the first is 1)."""
        weight = self.weight(step)

        def mix(old: jax.Array, new: jax.Array) -> jax.Array:
            if not jnp.issubdtype(new.dtype, jnp.floating):
                return new
            return (old + weight * (new - old)).astype(old.dtype)

        return jax.tree.map(mix, average, _averaged(generator))

    @abc.abstractmethod
    def weight(self, step: jax.Array) -> jax.Array:
        """Returns the weight in [0, 1] of the newest iterate."""

    def check_late_start(self, step: int) -> None:
        """Raises ValueError where the average cannot start after `step` steps without it."""


def _averaged(generator: PlayerState) -> Any:
    return {"params": generator.weights, "variables": network_variables(generator.variables)}


AVERAGING: Registry[Averaging] = Registry(
    "averaging", Averaging, context=("batch_size",), lender=SCHEDULES, adapt=of_run_step
)


@AVERAGING.register("ema")
@dataclass(frozen=True)
class EMA(Averaging):
    """Exponential moving average: average <- decay average + (1 - decay) newest.

    Attributes:
      decay: Weight of the old average, or a schedule of it; 0.999 remembers about the last 1,000
        steps.
      start_step: Until this step the average is the newest iterate itself.

    Yazici et al., "The Unusual Effectiveness of Averaging in GAN Training", ICLR 2019.
    """

    decay: Annotated[float, Within(0, 1, open_end=True)] | Schedule = 0.999
    start_step: Annotated[int, AtLeast(0)] = 0

    def weight(self, step: jax.Array) -> jax.Array:  # noqa: D102
        return jnp.where(step <= self.start_step, 1.0, 1 - value_at(self.decay, step - 1))


@AVERAGING.register("ema_images")
@dataclass(frozen=True)
class EMAImages(Averaging):
    """Exponential moving average with a half-life in images: those of `batch_size` at each step.

    decay = 0.5^(batch_size / half_life); with a ramp-up, half_life is at most `ramp_up` times the images
    before the step, so that the first average is the newest iterate.

    Attributes:
      half_life: Images after which the weight of an iterate is halved, or a schedule of it.
      ramp_up: See above; None is no ramp-up.
      batch_size: The config's; a spec cannot set it.

    Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020;
    github.com/NVlabs/stylegan2-ada-pytorch, training/training_loop.py: `ema_kimg`, `ema_rampup`.
    R3GAN's half-life is a schedule from 0, without a ramp-up.
    """

    half_life: Annotated[float, AtLeast(0)] | Schedule = 10_000
    ramp_up: Annotated[float, Above(0)] | None = 0.05
    batch_size: int = field(kw_only=True)

    def weight(self, step: jax.Array) -> jax.Array:  # noqa: D102
        half_life = value_at(self.half_life, step - 1)
        if self.ramp_up is not None:
            images = (step - 1).astype(jnp.float32) * self.batch_size  # int32 may not hold them
            half_life = jnp.minimum(half_life, self.ramp_up * images)
        # 1 - decay, also where that is less than the precision of decay
        return -jnp.expm1(-math.log(2) * self.batch_size / jnp.maximum(half_life, 1e-8))


@AVERAGING.register("uniform")
@dataclass(frozen=True)
class Uniform(Averaging):
    """Mean of all iterates after `start_step` (Polyak averaging).

    Attributes:
      start_step: Until this step the average is the newest iterate itself.

    Polyak and Juditsky, 1992; for games Gidel et al., ICLR 2019, section 3.1.
    """

    start_step: Annotated[int, AtLeast(0)] = 0

    def weight(self, step: jax.Array) -> jax.Array:  # noqa: D102
        return 1 / jnp.maximum(step - self.start_step, 1).astype(jnp.float32)

    def check_late_start(self, step: int) -> None:  # noqa: D102
        if self.start_step < step:
            raise ValueError(
                f"the iterates before step {step} are not there; uniform(start_step={step}) is the "
                f"mean from then on"
            )
