"""Averages of the generator over training: samples of them are better than the last iterate's."""

import abc
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from gan.argument_bounds import AtLeast, BoundedFields, Within
from gan.players import PlayerState
from gan.registry import Registry
from gan.schedules import SCHEDULES, of_run_step


class Averaging(BoundedFields, abc.ABC):
    """An average of the generator's weights and variables.

    It is a pytree `{"params": ..., "variables": ...}` of the shapes of what it averages, and starts
    as a copy of that.
    """

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
    return {"params": generator.weights, "variables": generator.variables}


AVERAGING: Registry[Averaging] = Registry(
    "averaging", Averaging, lender=SCHEDULES, adapt=of_run_step
)


@AVERAGING.register("ema")
@dataclass(frozen=True)
class EMA(Averaging):
    """Exponential moving average: average <- decay average + (1 - decay) newest.

    Attributes:
      decay: Weight of the old average; 0.999 remembers about the last 1,000 steps.
      start_step: Until this step the average is the newest iterate itself.

    Yazici et al., "The Unusual Effectiveness of Averaging in GAN Training", ICLR 2019.
    """

    decay: Annotated[float, Within(0, 1, open_end=True)] = 0.999
    start_step: Annotated[int, AtLeast(0)] = 0

    def weight(self, step: jax.Array) -> jax.Array:  # noqa: D102
        return jnp.where(step <= self.start_step, 1.0, 1 - self.decay)


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
