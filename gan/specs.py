"""Specs: every part of a run that has a name is chosen by one line of text.

A spec is `name`, `name(arguments)` or a chain `name(...) | name(...)`; arguments are Python literals
or specs themselves:

    optimistic_adam(2e-4, b1=0.5)
    clip_by_global_norm(1.0) | adam(cosine_decay_schedule(2e-4, 50_000))

The text is parsed, never evaluated. What the names stand for is in a `gan.registry.Registry`.
"""

import ast
import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from gan.argument_bounds import NUMBERS_END
from gan.errors import UsageError, brief

_MAX_LENGTH = 10_000  # characters of a spec
_MAX_DEPTH = 40  # of nodes in the syntax tree of a link: 20 specs within one another
_MAX_LINKS = 100
_LARGEST_FLOAT = (2 - 2**-23) * 2.0**127  # of single precision, in which all computes


@dataclass(frozen=True)
class Spec:
    """One name with its arguments, each a literal or a `Spec`."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()


_NUMBERS: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
    "numbers", default=MappingProxyType({})
)


@contextlib.contextmanager
def numbers_by_name(numbers: Mapping[str, Any]) -> Iterator[None]:
    """Lets names in specs stand for numbers, which may be traced: no bound of them is checked.

    Args:
      numbers: Them by name; no part may have one of these names.
    """
    token = _NUMBERS.set(numbers)
    try:
        yield
    finally:
        _NUMBERS.reset(token)


def is_named_number(value: Any) -> bool:
    """Returns whether a value is a number of `numbers_by_name`."""
    return any(value is number for number in _NUMBERS.get().values())


def are_numbers_named() -> bool:
    """Returns whether names stand for numbers here."""
    return bool(_NUMBERS.get())


def escaped(text: str) -> str:
    """Returns a Python expression that can be parsed: names of files may have bytes that are no UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def parse(text: str) -> tuple[Spec, ...]:
    """Parses a spec into its chain: one `Spec`, or one for each link between `|`.

    >>> parse("sgd(0.1, momentum=-0.5)")
    (Spec(name='sgd', args=(0.1,), kwargs=(('momentum', -0.5),)),)

    Raises:
      UsageError: where the text is not a spec.
    """
    if len(text) > _MAX_LENGTH:
        raise UsageError(
            f"{brief(text)} is not a spec: it has {len(text):,} characters, {_MAX_LENGTH:,} are accepted"
        )
    if text.strip().isidentifier():
        return (Spec(text.strip()),)  # `raise` is a name here, though not to Python
    try:
        tree = ast.parse(escaped(text.strip()), mode="eval").body
        _check_size(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        message = "'name' or 'name(arguments)' is accepted"
        raise UsageError(f"{brief(text)} is not a spec: {message}") from error
    links: list[ast.expr] = []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        links.append(tree.right)
        tree = tree.left
    if len(links) >= _MAX_LINKS:
        raise UsageError(f"{brief(text)}: a chain has {_MAX_LINKS} links at most")
    try:
        return tuple(_spec(link, text) for link in (tree, *reversed(links)))
    except RecursionError as error:  # of sums and the like, which no spec has
        raise UsageError(f"{brief(text)} is not a spec: it is nested too deep") from error


def _check_size(tree: ast.expr) -> None:
    """Raises UsageError for numbers beyond 32 bits, and for specs that are nested too deep."""
    nodes: list[tuple[ast.AST, int]] = [(tree, 0)]
    while nodes:
        node, depth = nodes.pop()
        if depth > _MAX_DEPTH:
            raise UsageError(f"a spec is too deep: at most {_MAX_DEPTH // 2} within one another")
        if isinstance(node, ast.Constant):
            number = node.value
            if isinstance(number, int) and number >= NUMBERS_END:
                raise UsageError(f"integers must be below {NUMBERS_END}, given {brief(number)}")
            if isinstance(number, float) and not number <= _LARGEST_FLOAT:
                raise UsageError(
                    f"numbers must be at most {_LARGEST_FLOAT:.3g}, given {ast.unparse(node)}"
                )
        inner = depth + (not isinstance(node, ast.BinOp))  # a chain's links are beside one another
        nodes += [(child, inner) for child in ast.iter_child_nodes(node)]


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
                    raise UsageError(f"{brief(text)}: argument {brief(name)} is given twice")
            args = tuple(_value(arg, text) for arg in node.args)
            return Spec(node.func.id, args, tuple((str(name), value) for name, value in keywords))
    part, hint = ast.unparse(node), ""
    if isinstance(node, ast.Tuple):
        several = tuple(map(ast.unparse, node.elts))
        hint = f"; where several are accepted, each is in quotes: {brief(several)}"
    raise UsageError(f"{brief(text)}: {brief(part)} is not 'name' or 'name(arguments)'{hint}")


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name) and node.id in (numbers := _NUMBERS.get()):
        return numbers[node.id]
    if isinstance(node, ast.Name | ast.Call):
        return _spec(node, text)
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(element, text) for element in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        part = ast.unparse(node)
        raise UsageError(f"{brief(text)}: {brief(part)} is not a literal or a spec") from error


def split_list(text: str) -> list[str]:
    """Splits text at its commas, but for those within parentheses: `fid,duality_gap(steps=9, ...)`."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def specs_in(text: str) -> list[Spec]:
    """Returns every `Spec` in a spec, those of its arguments too."""

    def specs(value: Any) -> Iterator[Spec]:
        if isinstance(value, tuple):
            for item in value:
                yield from specs(item)
        elif isinstance(value, Spec):
            yield value
            yield from specs((value.args, tuple(argument for _, argument in value.kwargs)))

    return list(specs(parse(text)))


def names_in(text: str) -> set[str]:
    """Returns every name in a spec, those of its arguments too."""
    return {spec.name for spec in specs_in(text)}


def to_text(chain: tuple[Spec, ...]) -> str:
    """Writes a chain as a spec: what `parse` makes of it is the chain.

    >>> to_text(parse("adam(1e-4,b1=.5)|clip_weights(1)"))
    'adam(0.0001, b1=0.5) | clip_weights(1)'
    """

    def write(value: Any) -> str:
        if isinstance(value, tuple):
            return f"({''.join(f'{write(item)}, ' for item in value)})"
        if not isinstance(value, Spec):
            return repr(value)
        words = [write(argument) for argument in value.args]
        words += [f"{name}={write(argument)}" for name, argument in value.kwargs]
        return f"{value.name}({', '.join(words)})" if words else value.name

    return " | ".join(map(write, chain))


def map_numbers(value: Any, change: Callable[[float], Any]) -> Any:
    """Returns a spec, a chain or an argument with each number in it changed, in their order."""
    if isinstance(value, tuple):
        return tuple(map_numbers(item, change) for item in value)
    if isinstance(value, Spec):
        args = map_numbers(value.args, change)
        kwargs = tuple((name, map_numbers(argument, change)) for name, argument in value.kwargs)
        return replace(value, args=args, kwargs=kwargs)
    return change(value) if type(value) in (int, float) else value
