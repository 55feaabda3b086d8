"""Schedules of numbers that optimizers take as constants, such as Adam's b1 and b2.

The optimizer is made anew at each update, with the numbers at the run's step: its state is that of the
constants. So Adam's correction for its start, m / (1 - b1^t) and v / (1 - b2^t), has the current b1 and
b2, as that of PyTorch has where `betas` of a parameter group are set between steps. R3GAN's training
code does so: its b2 goes from 0.9 to 0.99 (github.com/brownvc/R3GAN, training/training_loop.py).
"""

import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan.annotations import hints_of
from gan.schedules import Schedule, value_at


class ScheduledState(NamedTuple):
    """The state of an optimizer with scheduled numbers.

    Attributes:
      num_updates: The updates so far, an int32 scalar: what schedules count outside a run.
      inner_state: The optimizer's own.
    """

    num_updates: jax.Array
    inner_state: optax.OptState


def takes_schedules(
    maker: Callable[..., optax.GradientTransformation], names: Sequence[str]
) -> Callable[..., optax.GradientTransformation]:
    """Returns a maker of an optimizer that accepts schedules for some of its numbers.

    Args:
      maker: The maker; the state of what it makes must not depend on these numbers.
      names: Names of its parameters.
    """
    signature = inspect.signature(maker)

    @functools.wraps(maker)
    def make(*args: Any, **kwargs: Any) -> optax.GradientTransformation:
        given = signature.bind(*args, **kwargs).arguments
        schedules = {name: given[name] for name in names if callable(given.get(name))}
        if not schedules:
            return maker(*args, **kwargs)

        def optimizer_at(count: Any) -> optax.GradientTransformationExtraArgs:
            now = {name: value_at(schedule, count) for name, schedule in schedules.items()}
            bound = inspect.BoundArguments(signature, given | now)
            return optax.with_extra_args_support(maker(*bound.args, **bound.kwargs))

        def init(params: optax.Params) -> ScheduledState:
            return ScheduledState(jnp.zeros([], jnp.int32), optimizer_at(0).init(params))

        def update(
            updates: optax.Updates,
            state: ScheduledState,
            params: optax.Params | None = None,
            **extra_args: Any,
        ) -> tuple[optax.Updates, ScheduledState]:
            count, inner = state
            updates, inner = optimizer_at(count).update(updates, inner, params, **extra_args)
            return updates, ScheduledState(optax.safe_increment(count), inner)

        return optax.GradientTransformationExtraArgs(init, update)

    return make


def with_scheduled_moments(
    maker: Callable[..., optax.GradientTransformation],
) -> Callable[..., optax.GradientTransformation]:
    """Returns a maker of optax that accepts schedules for b1 and b2, where it has these."""
    hints = hints_of(maker)
    names = [name for name in ("b1", "b2") if name in hints]
    if not names:
        return maker
    make = takes_schedules(maker, names)
    make.__annotations__ = hints | {name: _or_schedule(hints[name]) for name in names}
    return make


def _or_schedule(hint: Any) -> Any:
    """Returns the annotation that admits schedules too, with the bounds that it has."""
    if typing.get_origin(hint) is not Annotated:
        return hint | Schedule
    inner, *bounds = typing.get_args(hint)
    return Annotated[(inner | Schedule, *bounds)]
