"""Annotations of arguments and config keys, read at run time: does a value fit, and in words."""

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar


def hints_of(maker: Callable[..., Any]) -> dict[str, Any]:
    """Returns the annotations of a maker's parameters; of a class, those of its fields."""
    target = maker.__init__ if inspect.isclass(maker) else maker
    try:
        return typing.get_type_hints(target, include_extras=True)
    except NameError:  # a forward reference that only a type checker can follow
        return {}


def matches(value: Any, hint: Any) -> bool:
    """Returns whether a value fits an annotation, as far as a spec or a config key can tell."""
    if hint is Any or isinstance(hint, TypeVar | str):
        return True
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(matches(value, arg) for arg in args)
    if origin is typing.Literal:
        return value in args
    if origin is typing.Annotated:
        return matches(value, args[0])
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is None or hint is type(None):
        return value is None
    if origin is tuple or (inspect.isclass(origin) and issubclass(origin, Sequence)):
        if not isinstance(value, tuple | list):
            return False
        if origin is tuple and args and args[-1] is not Ellipsis:
            return len(value) == len(args) and all(map(matches, value, args))
        return all(matches(item, args[0]) for item in value) if args else True
    if origin is dict:
        return isinstance(value, dict) and all(
            matches(key, args[0]) and matches(inner, args[1]) for key, inner in value.items()
        )
    if hint is typing.Callable or (inspect.isclass(origin) and issubclass(origin, Callable)):  # type: ignore[arg-type]
        return callable(value)
    checked = origin or hint
    return isinstance(value, checked) if inspect.isclass(checked) else True


def fields_match(value: Any) -> bool:
    """Returns whether each field of a dataclass, read from a file, fits its annotation."""
    return all(
        matches(getattr(value, name), hint)
        for name, hint in hints_of(type(value)).items()
        if name != "return"
    )


def type_name(hint: Any) -> str:
    """Describes an annotation in words, for messages."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        names = [type_name(arg) for arg in args]
        if "complex" in names:  # JAX's ArrayLike
            others = [name for name in names if name.rpartition(".")[2] not in _NUMBERS]
            names = ["float", *others]
        return " or ".join(dict.fromkeys(names))
    if origin is typing.Annotated:
        return type_name(args[0])
    if origin is typing.Literal:
        return " or ".join(map(repr, args))
    if origin is tuple or (inspect.isclass(origin) and issubclass(origin, Sequence)):
        kinds = dict.fromkeys(type_name(arg) for arg in args if arg is not Ellipsis)
        return "a tuple of " + " and ".join(kinds) if args else "a tuple"
    if hint is typing.Callable or (inspect.isclass(origin) and issubclass(origin, Callable)):  # type: ignore[arg-type]
        return "a schedule"
    if hint is type(None):
        return "None"
    return getattr(hint, "__name__", str(hint))


_NUMBERS = ("Array", "ndarray", "bool", "number", "int", "float", "complex", "TypedNdArray")
