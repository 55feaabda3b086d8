"""Schedules: each is a function of the run's own step, whatever the dynamics.

They are those of optax, and are accepted in the specs of optimizers, losses, regularizers and averages.

A schedule of optax counts the calls of the optimizer that it is in. A dynamics may call an optimizer
several times a step (the discriminator's under `alternating(5)`, both under `extragradient`), and an
optimizer that is put in at a resume starts to count anew. Within `counted_from` neither matters.
"""

import contextlib
import contextvars
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from gan.argument_bounds import AtLeast
from gan.optax_bounds import with_bounds
from gan.registry import Registry

Schedule: TypeAlias = Callable[[Any], Any]
"""Takes the number of generator updates before this one; returns a number."""

ScalarOrSchedule: TypeAlias = float | Schedule

SCHEDULES: Registry[Schedule] = Registry("schedule", Callable)

for _name, _maker in inspect.getmembers(optax, inspect.isfunction):
    if inspect.signature(_maker).return_annotation == optax.Schedule:
        SCHEDULES.register(_name)(with_bounds(_name, _maker, {}))


@SCHEDULES.register("cosine_schedule")
def cosine_schedule(
    init_value: float, end_value: float, transition_steps: Annotated[int, AtLeast(1)]
) -> Schedule:
    """Builds the schedule along half a cosine from one value to another, which may be larger.

    end_value + (init_value - end_value) (1 + cos(pi t / transition_steps)) / 2, and then `end_value`.
    R3GAN's rate, b2, weight of penalties and half-life of the average go by it
    (github.com/brownvc/R3GAN, training/training_loop.py: `cosine_decay_with_warmup`).
    """

    def schedule(count: Any) -> jax.Array:
        ratio = jnp.minimum(count / transition_steps, 1.0)
        return end_value + (init_value - end_value) * (1 + jnp.cos(jnp.pi * ratio)) / 2

    return schedule


_STEP: contextvars.ContextVar[jax.Array | None] = contextvars.ContextVar("step", default=None)


@contextlib.contextmanager
def counted_from(step: jax.Array | None) -> Iterator[None]:
    """Makes every schedule that is called (traced) within a function of this step.

    Args:
      step: Generator updates before this one, an int32 scalar; None leaves each to its own count.
    """
    token = _STEP.set(step)
    try:
        yield
    finally:
        _STEP.reset(token)


@dataclass(frozen=True)
class StepSchedule:
    """A schedule that takes the step of `counted_from` for the count that it is called with.

    Schedules inside it (of `join_schedules`) are called with the counts that it gives them.
    """

    schedule: Schedule

    def __call__(self, count: Any) -> Any:
        """Returns the value at the run's step."""
        step = _STEP.get()
        if step is None:
            return self.schedule(count)
        with counted_from(None):
            return self.schedule(step)


def of_run_step(argument: Any) -> Any:
    """Returns an argument of a spec, as a `StepSchedule` where it is a schedule."""
    return StepSchedule(argument) if callable(argument) else argument


def run_step(otherwise: jax.Array) -> jax.Array:
    """Returns the step of `counted_from`; outside of it, another number."""
    step = _STEP.get()
    return otherwise if step is None else step


def value_at(value: ScalarOrSchedule, step: Any) -> Any:
    """Returns a number, or a schedule's value at a step.

    Args:
      value: The number or schedule.
      step: Generator updates before this one, int32 scalar; of a `StepSchedule` within
        `counted_from`, that one counts instead.
    """
    return value(step) if callable(value) else value
