"""Optimizers for the parts of a player: each parameter has the first whose pattern matches its path."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import optax

from gan.errors import UsageError, nearest

_OTHERS = "others"  # the label of the parameters that no pattern matches
_MANY = 20  # a message does not list more names than this


def by_path(
    others: optax.GradientTransformation, *parts: tuple[str, optax.GradientTransformation]
) -> optax.GradientTransformation:
    """Builds an optimizer that updates each parameter by the optimizer of its part.

    The path of a parameter is the names that lead to it, such as `Dense_0/kernel`. A pattern is that of
    a file's name in a shell (`*`, `?`, `[...]`). One without `/` matches a parameter where it matches any
    name on the path: `bias` is all biases, `Dense_0` that layer, `mapping` a network within the network.
    One with `/` must match the whole path: `mapping/*`, `*/Dense_0/kernel`.

    What acts on all parameters at once, such as `clip_by_global_norm`, acts on those of its part alone;
    as a link before `by_path` it acts on all.

    Args:
      others: The optimizer of all parameters that no pattern matches.
      *parts: Pairs of a pattern and an optimizer; where several match, the first counts.

    Raises:
      UsageError: from `init`, where a pattern, or `others`, is left without a parameter.

    >>> optimizer = by_path(optax.sgd(1.0), ("bias", optax.sgd(0.1)))
    >>> params = {"Dense_0": {"kernel": 1.0, "bias": 1.0}}
    >>> print(optimizer.update(params, optimizer.init(params))[0])
    {'Dense_0': {'bias': -0.1, 'kernel': -1.0}}
    """
    patterns = [pattern for pattern, _ in parts]
    optimizers = {_OTHERS: others} | {f"part_{i}": own for i, (_, own) in enumerate(parts)}

    def label(path: tuple[Any, ...], _: Any) -> str:
        matching = (i for i, pattern in enumerate(patterns) if _matches(pattern, path))
        return next((f"part_{i}" for i in matching), _OTHERS)

    def labels(params: optax.Params) -> Any:
        return jax.tree_util.tree_map_with_path(label, params)

    partition = optax.partition(optimizers, labels)

    def init(params: optax.Params) -> optax.OptState:
        _check(patterns, params, {*jax.tree.leaves(labels(params))})
        return partition.init(params)

    return optax.GradientTransformationExtraArgs(init, partition.update)


def _names(path: tuple[Any, ...]) -> list[str]:
    return [jax.tree_util.keystr((key,), simple=True) for key in path]


def _matches(pattern: str, path: tuple[Any, ...]) -> bool:
    names = _names(path)
    return any(
        fnmatchcase(name, pattern) for name in (["/".join(names)] if "/" in pattern else names)
    )


def _check(patterns: Sequence[str], params: optax.Params, used: set[str]) -> None:
    """Raises UsageError where an optimizer has no parameter: it was meant for some."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for i, pattern in enumerate(patterns):
        if f"part_{i}" in used:
            continue
        if any(_matches(pattern, path) for path in paths):
            raise UsageError(f"all that {pattern!r} matches is in the parts before it")
        names = dict.fromkeys(name for path in paths for name in _names(path))
        known = ", ".join([*names][:_MANY]) + (", ..." if len(names) > _MANY else "")
        hint = nearest(pattern, [*names, *("/".join(_names(path)) for path in paths)])
        raise UsageError(f"no parameter matches {pattern!r}{hint or f'; names are {known}'}")
    if _OTHERS not in used:
        raise UsageError("the first optimizer is for all other parameters, and none is left")
