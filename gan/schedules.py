"""Schedules of optimizers: each is a function of the run's own step, whatever the dynamics.

A schedule of optax counts the calls of the optimizer that it is in. A dynamics may call an optimizer
several times a step (the discriminator's under `alternating(5)`, both under `extragradient`), and an
optimizer that is put in at a resume starts to count anew. Within `counted_from` neither matters.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

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

    schedule: Callable[[Any], Any]

    def __call__(self, count: Any) -> Any:
        """Returns the value at the run's step."""
        step = _STEP.get()
        if step is None:
            return self.schedule(count)
        with counted_from(None):
            return self.schedule(step)


def of_run_step(argument: Any) -> Any:
    """Returns an optimizer's argument, as a `StepSchedule` where it is a schedule."""
    return StepSchedule(argument) if callable(argument) else argument


def run_step(otherwise: jax.Array) -> jax.Array:
    """Returns the step of `counted_from`; outside of it, another number."""
    step = _STEP.get()
    return otherwise if step is None else step


def value_at(number: Any, step: Any) -> Any:
    """Returns a number, or the value of a schedule at a step."""
    return number(step) if callable(number) else number
