"""Bounds of numbers, as annotations: the spec parser checks them and `--list` shows them.

For instance `steps: Annotated[int, AtLeast(1)] = 5`.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from gan.errors import brief


class Bound:
    """A condition on a number; its text completes the sentence "x must be ..."."""

    def admits(self, value: float) -> bool:
        """Returns whether a number meets the condition; NaN never does."""
        raise NotImplementedError


@dataclass(frozen=True)
class AtLeast(Bound):
    """`value >= least`."""

    least: float

    def admits(self, value: float) -> bool:  # noqa: D102
        return value >= self.least

    def __str__(self) -> str:
        return f"at least {self.least}"


@dataclass(frozen=True)
class Above(Bound):
    """`value > limit`."""

    limit: float

    def admits(self, value: float) -> bool:  # noqa: D102
        return value > self.limit

    def __str__(self) -> str:
        return f"above {self.limit}"


@dataclass(frozen=True)
class Within(Bound):
    """`least <= value <= most`, without an end that is open."""

    least: float
    most: float
    open_end: bool = False
    open_start: bool = False

    def admits(self, value: float) -> bool:  # noqa: D102
        above = self.least < value if self.open_start else self.least <= value
        return above and (value < self.most if self.open_end else value <= self.most)

    def __str__(self) -> str:
        start, end = "(" if self.open_start else "[", ")" if self.open_end else "]"
        return f"in {start}{self.least}, {self.most}{end}"


NUMBERS_END = 2**31
"""Numbers of steps, examples and the like are below it: on the devices they are int32."""

Count: TypeAlias = Annotated[int, Within(1, NUMBERS_END, open_end=True)]
"""Of a config key; in a spec no integer is larger."""


def bounds_of(hint: Any) -> tuple[Bound, ...]:
    """Returns all bounds in an annotation, also within unions and tuples."""
    nested = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Annotated:
        inner, *extras = nested
        return (*bounds_of(inner), *(extra for extra in extras if isinstance(extra, Bound)))
    return tuple(bound for arg in nested for bound in bounds_of(arg))


def broken_bound(value: Any, hint: Any) -> Bound | None:
    """Returns the first bound of an annotation that a value breaks, or None.

    Args:
      value: Of a type that the annotation admits.
      hint: The annotation.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        number = isinstance(value, int | float)
        for bound in bounds_of(hint) if number else ():
            if not bound.admits(value):
                return bound
        return None if number else broken_bound(value, args[0])
    if origin in (typing.Union, types.UnionType):
        broken = [broken_bound(value, arg) for arg in args]
        return next((bound for bound in broken if bound is not None), None)
    if isinstance(value, tuple | list) and args:
        broken = [broken_bound(item, args[0]) for item in value]
        return next((bound for bound in broken if bound is not None), None)
    return None


def check_fields(instance: Any) -> None:
    """Raises ValueError for the first field of a dataclass that breaks a bound of its annotation."""
    hints = typing.get_type_hints(type(instance), include_extras=True)
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if (bound := broken_bound(value, hints[field.name])) is not None:
            raise ValueError(f"{field.name} must be {bound}, given {brief(value)}")


class BoundedFields:
    """A base for dataclasses whose fields are checked against the bounds of their annotations."""

    def __post_init__(self) -> None:
        check_fields(self)
