"""Registries: the parts of each kind by name, built from specs.

The signature of the function or class that makes a part is the only place where its arguments,
defaults, types and bounds are written.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from absl import logging

from gan.annotations import hints_of, matches, type_name
from gan.argument_bounds import bounds_of, broken_bound
from gan.errors import UsageError, brief, first_line, nearest
from gan.specs import Spec, is_named_number, parse

ENTRY_POINTS = "flax_gan.parts"
"""The group under which installed packages announce modules that register parts."""

OURS = "flax-gan"
"""The origin of what this package registers itself."""

_MANY = 20  # a message does not list more names than this
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

REGISTRIES: dict[str, "Registry[Any]"] = {}
"""Every registry, by its kind; one is there when the module that defines it was imported."""


class Registry(Generic[T]):
    """The parts of one kind, by name.

    Attributes:
      kind: What a part is called in messages, such as `"loss"`.
      product: The type of a finished part; a link of another type can be an argument but not the
        part itself.
      context: Parameters that the program sets for every maker that has them; a spec cannot.
      chain: Joins the links of `a | b`; None refuses chains.
      lender: The registry of schedules, where this one's specs may have them as arguments: a name is
        looked up there that is not here.
      adapt: Changes each argument that a spec gives to a maker, besides parts of this kind; None leaves
        it as it is.
      needs: Attributes that a class must have beyond those of `product`, besides abstract methods.

    Raises:
      UsageError: where another file has a registry of this kind.
    """

    def __init__(
        self,
        kind: str,
        product: Any = object,
        *,
        context: Sequence[str] = (),
        chain: Callable[..., T] | None = None,
        lender: "Registry[Any] | None" = None,
        adapt: Callable[[Any], Any] | None = None,
        needs: Sequence[str] = (),
    ):
        self.kind = kind
        self.product = product
        self.context = tuple(context)
        self.chain = chain
        self.lender = lender
        self.adapt = adapt
        self.needs = tuple(needs)
        self._find: Callable[[str], Callable[..., Any]] | None = None
        self._makers: dict[str, Callable[..., Any]] = {}
        self._origins: dict[str, str] = {}
        self._home = _caller()
        if kind in REGISTRIES and REGISTRIES[kind]._home != self._home:
            raise UsageError(f"there is a registry of kind {kind!r} already")
        REGISTRIES[kind] = self

    def register(self, name: str) -> Callable[[F], F]:
        """Returns a decorator that adds the maker of `name`.

        Raises:
          UsageError: for a name that is taken or that no spec can have, and for a class that lacks
            what its kind needs.
        """
        origin = _caller()

        def add(maker: F) -> F:
            self._check(name, maker, origin)
            self._makers[name], self._origins[name] = maker, origin
            return maker

        return add

    def _check(self, name: str, maker: Callable[..., Any], origin: str) -> None:
        what = f"{self.kind} {name!r}"
        if not name.isidentifier():
            raise UsageError(f"{what}: a name has letters, digits and _ only")
        if (old := self._makers.get(name)) is not None:
            defined_again = self.origin(name) == origin and _name(old) == _name(maker)
            if not defined_again:  # a cell of a notebook may be
                raise UsageError(f"{what} is taken, by {self.origin(name)}; choose another name")
        if not inspect.isclass(maker):
            return
        if inspect.isclass(self.product) and not issubclass(maker, self.product):
            raise UsageError(f"{what}: {_name(maker)} must derive from {self.product.__name__}")
        same = [key for key in self.needs if inherits(maker, self.product, key)]
        if lacking := [*sorted(getattr(maker, "__abstractmethods__", ())), *same]:
            raise UsageError(f"{what}: {_name(maker)} lacks {', '.join(lacking)}")
        if maker.__hash__ is None:
            raise UsageError(f"{what}: {_name(maker)} must be frozen: @dataclass(frozen=True)")

    def origin(self, name: str) -> str:
        """Returns the file, or else the module, that registers a name; `OURS` for this package."""
        return self._origins.get(name, OURS)

    def fallback(self, find: F) -> F:
        """Sets what finds the maker of a name that is not registered; used as a decorator.

        Args:
          find: Takes such a name; returns its maker or raises UsageError.
        """
        self._find = find
        return find

    def __iter__(self) -> Iterator[str]:
        load_installed()
        return iter(sorted(self._makers))

    def __contains__(self, name: str) -> bool:
        load_installed()
        return name in self._makers

    def owner(self, name: str) -> "Registry[Any]":
        """Returns the registry in which our specs find a name: this one, or the lender."""
        if self.lender is not None and name not in self and name in self.lender:
            return self.lender
        return self

    def maker(self, name: str) -> Callable[..., Any]:
        """Returns the function or class behind `name`.

        Raises:
          UsageError: for an unknown name.
        """
        if name not in self and self._find is not None:
            return self._find(name)
        if name not in self:
            hint = nearest(name, [*self._makers, *(self.lender or ())])
            hint = self._elsewhere(name) or hint or self._names()
            raise UsageError(f"unknown {self.kind} {brief(name)}{hint}")
        return self._makers[name]

    def parameters(self, name: str) -> dict[str, inspect.Parameter]:
        """Returns the parameters that a spec of `name` may set."""
        parameters = inspect.signature(self.maker(name)).parameters
        flax_internal = ("parent", "name")  # of every linen module
        hidden = self.context + (flax_internal if "parent" in parameters else ())
        return {key: value for key, value in parameters.items() if key not in hidden}

    def usage(self, name: str) -> str:
        """Writes the signature as a user types it: `adam(learning_rate, b1=0.9, ...)`."""
        shown = []
        for parameter in self.parameters(name).values():
            default = parameter.default
            names = [key for key, maker in self._makers.items() if maker is type(default)]
            if names:  # a part of this registry: as a spec writes it
                shown.append(f"{parameter.name}={names[0]}")
                continue
            if isinstance(default, Callable):  # type: ignore[arg-type]
                default = getattr(default, "__name__", type(default).__name__)
            has_default = parameter.default is not inspect.Parameter.empty
            star = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else ""
            shown.append(star + parameter.name + (f"={default!r}" if has_default else ""))
        return f"{name}({', '.join(shown)})" if shown else name

    def bounds(self, name: str) -> str:
        """Says what the numbers of a spec of `name` must be: `steps at least 1, alpha in [0, 1]`."""
        hints = hints_of(self.maker(name))
        return ", ".join(
            f"{parameter} {bound}"
            for parameter in self.parameters(name)
            for bound in bounds_of(hints.get(parameter))
        )

    def build(self, text: str, **context: Any) -> T:
        """Makes the part that a spec asks for.

        Args:
          text: The spec.
          **context: Values of the `context` parameters.

        Raises:
          UsageError: for an unknown name or argument, a missing argument, or a value of the wrong
            type, out of bounds, or refused by the maker itself.
        """
        specs = parse(text)
        if len(specs) > 1 and self.chain is None:
            raise UsageError(f"{self.kind} is one name, without '|'")
        links = []
        for spec in specs:
            link = self._build(spec, context)
            if not isinstance(link, self.product):
                raise UsageError(
                    f"{spec.name} is no {self.kind} by itself, at most an argument of one: it makes "
                    f"{type(link).__name__}, not {self.product.__name__}"
                )
            links.append(link)
        return self.chain(*links) if self.chain and len(links) > 1 else links[0]

    def _build(self, spec: Spec, context: Mapping[str, Any]) -> Any:
        if (owner := self.owner(spec.name)) is not self:
            return owner._build(spec, {})
        maker = self.maker(spec.name)
        parameters = self.parameters(spec.name)
        usage = self.usage(spec.name)
        for name, _ in spec.kwargs:
            if name not in parameters:
                hint = nearest(name, parameters)
                raise UsageError(
                    f"{spec.name}: unknown argument {brief(name)}{hint or f'; it is {usage}'}"
                )
        signature = inspect.Signature(
            [
                # What only the context sets leaves no gap: the rest may then be given by position.
                parameter.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
                if parameter.kind is inspect.Parameter.POSITIONAL_ONLY
                else parameter
                for parameter in parameters.values()
            ]
        )
        try:
            bound = signature.bind(*spec.args, **dict(spec.kwargs))
        except TypeError as error:
            raise UsageError(f"{spec.name}: {error}; it is {usage}") from error

        hints = hints_of(maker)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = parameters[name].kind
            hint = hints.get(name, Any)
            if kind is inspect.Parameter.VAR_POSITIONAL:
                rest = [self._argument(spec, name, item, hint, context) for item in value]
                args, kwargs = [*kwargs.values(), *rest], {}
            else:
                kwargs[name] = self._argument(spec, name, value, hint, context)
        accepted = inspect.signature(maker).parameters
        kwargs |= {name: value for name, value in context.items() if name in accepted}
        try:
            return maker(*args, **kwargs)
        except (TypeError, ValueError, ArithmeticError, OSError) as error:
            raise UsageError(f"{spec.name}: {first_line(error)}") from error

    def _argument(
        self, spec: Spec, name: str, value: Any, hint: Any, context: Mapping[str, Any]
    ) -> Any:
        given = value
        if is_named_number(value):
            return value
        known = isinstance(value, Spec) and value.name in self.owner(value.name)
        if isinstance(value, Spec) and not known and matches("", hint):
            raise UsageError(f"{spec.name}: {name} must be in quotes: {name}={brief(value.name)}")
        value = self.resolve(value, context)
        if not matches(value, hint):
            shown = brief(_without_arguments(given))
            raise UsageError(f"{spec.name}: {name} must be {type_name(hint)}, given {shown}")
        is_schedule = isinstance(given, Spec) and self.owner(given.name) is not self
        first = _at_0(value) if is_schedule else value
        if (bound := broken_bound(first, hint)) is not None:
            where = ", its value at step 0" if is_schedule else ""
            raise UsageError(f"{spec.name}: {name} must be {bound}, given {brief(first)}{where}")
        own = isinstance(given, Spec) and isinstance(value, self.product)
        return value if self.adapt is None or own else self.adapt(value)

    def resolve(self, value: Any, context: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """Makes the part that an argument of a spec asks for; returns a literal as it is."""
        if isinstance(value, Spec):
            return self._build(value, context)
        if isinstance(value, tuple):
            return tuple(self.resolve(item, context) for item in value)
        return value

    def _elsewhere(self, name: str) -> str:
        """Says of which other kind a name is; `""` where of none."""
        kinds = [other.kind for other in REGISTRIES.values() if name in other._makers]
        return f"; it is of another kind: {' or '.join(kinds)}" if kinds else ""

    def _names(self) -> str:
        """Lists all names for a message, unless they are too many."""
        if len(self._makers) > _MANY:
            return f"; scripts/train.py --list prints all {len(self._makers)} of them"
        return f"; known: {', '.join(self)}"


@contextlib.contextmanager
def all_or_nothing() -> Iterator[None]:
    """Undoes what a block registers, besides our own parts, where it raises."""
    before = {
        kind: (dict(registry._makers), dict(registry._origins))
        for kind, registry in REGISTRIES.items()
    }
    try:
        yield
    except BaseException:
        for kind, registry in REGISTRIES.items():
            makers, origins = before.get(kind, ({}, {}))
            ours = {name for name in registry._makers if registry.origin(name) == OURS}
            kept = {name: maker for name, maker in registry._makers.items() if name in ours}
            registry._origins = origins | dict.fromkeys(ours, OURS)
            registry._makers = makers | kept
        raise


def forget(is_from: Callable[[str], bool]) -> None:
    """Removes all parts whose origin is one that a function accepts."""
    for registry in REGISTRIES.values():
        for name in [name for name in registry._makers if is_from(registry.origin(name))]:
            del registry._makers[name], registry._origins[name]


def installed_parts() -> importlib.metadata.EntryPoints:
    """Returns the modules with parts that installed packages announce."""
    return importlib.metadata.entry_points(group=ENTRY_POINTS)


@functools.cache
def load_installed() -> None:
    """Imports the modules by which installed packages announce parts; warns where one fails."""
    for entry in installed_parts():
        try:
            with all_or_nothing():
                entry.load()
        except Exception as error:  # noqa: BLE001 - whatever another's package may raise
            package = entry.dist.name if entry.dist else entry.value
            logging.warning(
                "the parts of the package %s are left out: %s: %s",
                package, type(error).__name__, error,
            )  # fmt: skip


def inherits(maker: type, base: Any, attribute: str) -> bool:
    """Returns whether a class has an attribute only from a base, or not at all."""
    return getattr(maker, attribute, None) is getattr(base, attribute, None)


def _at_0(schedule: Any) -> Any:
    """Returns a schedule's first number; None where it cannot be known yet."""
    try:
        return float(schedule(0))
    except Exception:  # noqa: BLE001 - whatever another's schedule may raise
        return None


def _without_arguments(value: Any) -> Any:
    """Returns an argument with the name alone of each spec in it, for a message."""
    if isinstance(value, tuple):
        return tuple(map(_without_arguments, value))
    return value.name if isinstance(value, Spec) else value


def _caller() -> str:
    """Returns the file, or else the module, of the code that called our caller."""
    names = sys._getframe(2).f_globals
    module = str(names.get("__name__"))
    return OURS if module.split(".")[0] == "gan" else str(names.get("__file__", module))


def _name(maker: Callable[..., Any]) -> str:
    return getattr(maker, "__qualname__", repr(maker))


def import_all(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, so that what each of them registers is known.

    Args:
      package: Its name.
      path: Its `__path__`.
    """
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
