"""Averages of the generator over training: what is sampled from, smoother than the last iterate."""

import abc
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gan.players import PlayerState
from gan.specs import Registry


class Averaging(abc.ABC):
    """An average of the generator's parameters and variables.

    The average has the shape of what it averages, `{"params": ..., "variables": ...}`, and starts
    as a copy of it.
    """

    def init(self, generator: PlayerState) -> Any:
        """The average before the first step."""
        return jax.tree.map(jnp.copy, _averaged(generator))

    def update(self, average: Any, generator: PlayerState, step: jax.Array) -> Any:
        """The average after the generator's update number `step` (the first is 1)."""
        weight = self.weight(step)

        def mix(old: jax.Array, new: jax.Array) -> jax.Array:
            if not jnp.issubdtype(new.dtype, jnp.floating):
                return new
            return (old + weight * (new - old)).astype(old.dtype)

        return jax.tree.map(mix, average, _averaged(generator))

    @abc.abstractmethod
    def weight(self, step: jax.Array) -> jax.Array:
        """The weight in [0, 1] of the newest iterate."""


def _averaged(generator: PlayerState) -> Any:
    return {"params": generator.params, "variables": generator.variables}


AVERAGING: Registry[Averaging] = Registry("averaging", Averaging)


@AVERAGING.register("none")
@dataclass(frozen=True)
class NoAveraging(Averaging):
    """The last iterate itself; nothing is kept."""

    def init(self, generator: PlayerState) -> Any:  # noqa: D102
        return None

    def update(self, average: Any, generator: PlayerState, step: jax.Array) -> Any:  # noqa: D102
        return None

    def weight(self, step: jax.Array) -> jax.Array:  # noqa: D102
        return jnp.ones([])


@AVERAGING.register("ema")
@dataclass(frozen=True)
class EMA(Averaging):
    """Exponential moving average: average <- decay average + (1 - decay) newest.

    Attributes:
      decay: In [0, 1); 0.999 remembers about the last 1,000 steps.
      start_step: Until this step the average is the newest iterate itself.

    Yazici et al., "The Unusual Effectiveness of Averaging in GAN Training", ICLR 2019.
    """

    decay: float = 0.999
    start_step: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), given {self.decay}")
        if self.start_step < 0:
            raise ValueError(f"start_step must be 0 or more, given {self.start_step}")

    def weight(self, step: jax.Array) -> jax.Array:  # noqa: D102
        return jnp.where(step <= self.start_step, 1.0, 1 - self.decay)
