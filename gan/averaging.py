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


@AVERAGING.register("uniform")
@dataclass(frozen=True)
class Uniform(Averaging):
    """Mean of all iterates after `start_step` (Polyak averaging).

    Attributes:
      start_step: Until this step the average is the newest iterate itself.

    Polyak and Juditsky, 1992; for games Gidel et al., ICLR 2019, section 3.1.
    """

    start_step: int = 0

    def __post_init__(self) -> None:
        if self.start_step < 0:
            raise ValueError(f"start_step must be 0 or more, given {self.start_step}")

    def weight(self, step: jax.Array) -> jax.Array:  # noqa: D102
        return 1 / jnp.maximum(step - self.start_step, 1).astype(jnp.float32)
