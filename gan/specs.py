"""Specs: every part of a run that has a name is chosen by one line of text.

A spec is `name`, `name(arguments)` or a chain `name(...) | name(...)`; arguments are Python literals
or specs themselves:

    optimistic_adam(2e-4, b1=0.5)
    clip_by_global_norm(1.0) | adam(cosine_decay_schedule(2e-4, 50_000))

The text is parsed, never evaluated. A `Registry` maps names to the functions or classes that make
the parts; their signatures are the only place where arguments, defaults, types and bounds are
written.
"""

import ast
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from gan.argument_bounds import bounds_of, broken_bound
from gan.errors import UsageError, nearest

_MANY = 20  # a message does not list more names than this
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Spec:
    """One name with its arguments, each a literal or a `Spec`."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()


def parse(text: str) -> tuple[Spec, ...]:
    """Parses a spec into its chain: one `Spec`, or one for each link between `|`.

    >>> parse("sgd(0.1, momentum=-0.5)")
    (Spec(name='sgd', args=(0.1,), kwargs=(('momentum', -0.5),)),)

    Raises:
      UsageError: where the text is not a spec.
    """
    if text.strip().isidentifier():
        return (Spec(text.strip()),)  # `raise` is a name here, though not to Python
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        message = "'name' or 'name(arguments)' is accepted"
        raise UsageError(f"{text!r} is not a spec: {message}") from error
    links: list[ast.expr] = []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        links.append(tree.right)
        tree = tree.left
    return tuple(_spec(link, text) for link in (tree, *reversed(links)))


def _spec(node: ast.expr, text: str) -> Spec:
    if isinstance(node, ast.Name):
        return Spec(node.id)
    match node:
        case ast.BinOp(ast.Name(id=dataset), ast.Div(), right):  # `emnist/letters`
            spec = _spec(right, text)
            return replace(spec, name=f"{dataset}/{spec.name}")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        keywords = [(keyword.arg, _value(keyword.value, text)) for keyword in node.keywords]
        names = [name for name, _ in keywords]
        if None not in names:
            for name in names:
                if names.count(name) > 1:
                    raise UsageError(f"{text!r}: argument {name!r} is given twice")
            args = tuple(_value(arg, text) for arg in node.args)
            return Spec(node.func.id, args, tuple((str(name), value) for name, value in keywords))
    part = ast.unparse(node)
    raise UsageError(f"{text!r}: {part!r} is not 'name' or 'name(arguments)'")


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name | ast.Call):
        return _spec(node, text)
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(element, text) for element in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        part = ast.unparse(node)
        raise UsageError(f"{text!r}: {part!r} is not a literal or a spec") from error


REGISTRIES: dict[str, "Registry[Any]"] = {}
"""Every registry, by its kind; one is there when the module that defines it was imported."""


class Registry(Generic[T]):
    """The parts of one kind, by name.

    Attributes:
      kind: What a part is called in messages, such as `"loss"`.
      product: The type of a finished part; a link of another type (a schedule among the optimizers)
        can be an argument but not the part itself.
      context: Parameters that the program sets for every maker that has them; a spec cannot.
      chain: Joins the links of `a | b`; None refuses chains.
    """

    def __init__(
        self,
        kind: str,
        product: Any = object,
        *,
        context: Sequence[str] = (),
        chain: Callable[..., T] | None = None,
    ):
        self.kind = kind
        self.product = product
        self.context = tuple(context)
        self.chain = chain
        self._find: Callable[[str], Callable[..., Any]] | None = None
        self._makers: dict[str, Callable[..., Any]] = {}
        REGISTRIES[kind] = self

    def register(self, name: str) -> Callable[[F], F]:
        """Returns a decorator that adds the maker of `name`."""

        def add(maker: F) -> F:
            self._makers[name] = maker
            return maker

        return add

    def fallback(self, find: F) -> F:
        """Sets what finds the maker of a name that is not registered; used as a decorator.

        Args:
          find: Takes such a name; returns its maker or raises UsageError.
        """
        self._find = find
        return find

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._makers))

    def __contains__(self, name: str) -> bool:
        return name in self._makers

    def maker(self, name: str) -> Callable[..., Any]:
        """Returns the function or class behind `name`.

        Raises:
          UsageError: for an unknown name.
        """
        if name not in self._makers and self._find is not None:
            return self._find(name)
        if name not in self._makers:
            hint = nearest(name, self._makers)
            raise UsageError(f"unknown {self.kind} {name!r}{hint or self._names()}")
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
        hints = _hints(self.maker(name))
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
                raise UsageError(f"{spec.name} is an argument of {self.kind}s, not one by itself")
            links.append(link)
        return self.chain(*links) if self.chain and len(links) > 1 else links[0]

    def _build(self, spec: Spec, context: Mapping[str, Any]) -> Any:
        maker = self.maker(spec.name)
        parameters = self.parameters(spec.name)
        usage = self.usage(spec.name)
        for name, _ in spec.kwargs:
            if name not in parameters:
                hint = nearest(name, parameters)
                raise UsageError(
                    f"{spec.name}: unknown argument {name!r}{hint or f'; it is {usage}'}"
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

        hints = _hints(maker)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = parameters[name].kind
            hint = hints.get(name, Any)
            if kind is inspect.Parameter.VAR_POSITIONAL:
                args += [self._argument(spec, name, item, hint, context) for item in value]
            else:
                kwargs[name] = self._argument(spec, name, value, hint, context)
        accepted = inspect.signature(maker).parameters
        kwargs |= {name: value for name, value in context.items() if name in accepted}
        try:
            return maker(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{spec.name}: {error}") from error

    def _argument(
        self, spec: Spec, name: str, value: Any, hint: Any, context: Mapping[str, Any]
    ) -> Any:
        given = value
        if isinstance(value, Spec) and value.name not in self and matches("", hint):
            raise UsageError(f"{spec.name}: {name} must be in quotes: {name}={value.name!r}")
        value = self._resolve(value, context)
        if not matches(value, hint):
            shown = repr(given.name) if isinstance(given, Spec) else repr(given)
            raise UsageError(f"{spec.name}: {name} must be {type_name(hint)}, given {shown}")
        if (bound := broken_bound(value, hint)) is not None:
            raise UsageError(f"{spec.name}: {name} must be {bound}, given {value!r}")
        return value

    def _resolve(self, value: Any, context: Mapping[str, Any]) -> Any:
        if isinstance(value, Spec):
            return self._build(value, context)
        if isinstance(value, tuple):
            return tuple(self._resolve(item, context) for item in value)
        return value

    def _names(self) -> str:
        """Lists all names for a message, unless they are too many."""
        if len(self._makers) > _MANY:
            return f"; scripts/train.py --list prints all {len(self._makers)} of them"
        return f"; known: {', '.join(self)}"


def import_all(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, so that what each of them registers is known.

    Args:
      package: Its name.
      path: Its `__path__`.
    """
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")


def _hints(maker: Callable[..., Any]) -> dict[str, Any]:
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
    if hint is typing.Callable or (inspect.isclass(origin) and issubclass(origin, Callable)):  # type: ignore[arg-type]
        return callable(value)
    checked = origin or hint
    return isinstance(value, checked) if inspect.isclass(checked) else True


def type_name(hint: Any) -> str:
    """Describes an annotation in words, for messages."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        names = [type_name(arg) for arg in args]
        if "complex" in names:  # JAX's ArrayLike
            names = [name for name in names if name not in _NUMBERS] + ["float"]
        return " or ".join(dict.fromkeys(names))
    if origin is typing.Annotated:
        return type_name(args[0])
    if origin is typing.Literal:
        return " or ".join(map(repr, args))
    if origin is tuple or (inspect.isclass(origin) and issubclass(origin, Sequence)):
        return "a tuple of " + type_name(args[0]) if args else "a tuple"
    if hint is typing.Callable or (inspect.isclass(origin) and issubclass(origin, Callable)):  # type: ignore[arg-type]
        return "a schedule"
    if hint is type(None):
        return "None"
    return getattr(hint, "__name__", str(hint))


_NUMBERS = ("Array", "ndarray", "bool", "number", "int", "float", "complex", "TypedNdArray")
