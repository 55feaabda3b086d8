"""What `--vary` says: arguments of specs, or whole keys of a config, and the values that they take in turn."""

import ast
import dataclasses
import inspect
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gan.config import SETTINGS, TrainConfig, from_mapping, parse_value
from gan.errors import UsageError, brief, nearest
from gan.registry import REGISTRIES, Registry
from gan.specs import Spec, parse, to_text

_LONGEST = 100  # characters of a folder's name
_MOST = 10_000  # members


@dataclass(frozen=True)
class Axis:
    """Places of a config that change together, and their values.

    Attributes:
      places: Each a key, or a key and a path within its spec: `generator_optimizer.learning_rate`.
      values: As text.
    """

    places: tuple[str, ...]
    values: tuple[str, ...]


def parse_axis(text: str) -> Axis:
    """Reads `KEY.ARG=V1,V2`, where `KEY1.ARG,KEY2.ARG=V1,V2` ties places together.

    >>> parse_axis("generator_optimizer.b1,discriminator_optimizer.b1=0.0,0.5").values
    ('0.0', '0.5')

    Raises:
      UsageError: for another text.
    """
    places, equals, given = text.partition("=")
    try:
        # of `(0.1,a(b=1),)`, the text of each element
        elements = ast.parse(f"({given},)", mode="eval").body
        assert isinstance(elements, ast.Tuple)
        values = [ast.get_source_segment(f"({given},)", element) for element in elements.elts]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        values = []
    names = tuple(place.strip() for place in places.split(","))
    if not equals or not values or not all(names) or None in values:
        raise UsageError(
            f"--vary {text}: KEY.ARGUMENT=VALUE,VALUE,... or KEY=VALUE,VALUE,... is accepted"
        )
    return Axis(names, tuple(map(str, values)))


def grid(
    config: TrainConfig, axes: Sequence[Axis], num_seeds: int = 1
) -> dict[str, tuple[dict[str, str], TrainConfig]]:
    """Returns each point of a grid, by the name of its folder.

    Args:
      config: The config.
      axes: What varies besides the seed.
      num_seeds: Seeds, from the config's own on.

    Returns:
      By name, the values by place, as text, and the config.

    Raises:
      UsageError: for a place that the config does not have, and for a value that does not suit it.
    """
    if (size := num_seeds * _size(axes)) > _MOST:
        raise UsageError(f"a sweep has at most {_MOST:,} runs, and these are {size:,}")
    found: dict[str, tuple[dict[str, str], TrainConfig]] = {}
    for number, values in enumerate(itertools.product(*(axis.values for axis in axes))):
        changed, shown = config, {}
        for axis, value in zip(axes, values, strict=True):
            for place in axis.places:
                changed = set_place(changed, place, value)
            shown[axis.places[0]] = value
        for seed in range(config.seed, config.seed + num_seeds):
            own = from_mapping(dataclasses.asdict(changed) | {"seed": seed, "population": 1})
            name = _folder_name(shown | ({"seed": str(seed)} if num_seeds > 1 else {}))
            if name in found or len(name) > _LONGEST:
                name = f"{number}_seed={seed}"
            found[name] = (shown | {"seed": str(seed)}, own)
    if len({own for _, own in found.values()}) < len(found):
        raise UsageError("--vary: the same run is there twice")
    return found


def _size(axes: Sequence[Axis]) -> int:
    """Returns the number of points of a grid."""
    size = 1
    for axis in axes:
        size *= len(axis.values)
    return size


def _folder_name(shown: dict[str, str]) -> str:
    """Returns a name such as `learning_rate=1e-4_seed=0`."""
    ends = [place.rpartition(".")[2] for place in shown]
    short = [end if ends.count(end) == 1 else place for end, place in zip(ends, shown, strict=True)]
    text = "_".join(f"{place}={value}" for place, value in zip(short, shown.values(), strict=True))
    return re.sub(r"[^\w.=+-]+", "-", text, flags=re.ASCII)


def set_place(config: TrainConfig, place: str, value: str) -> TrainConfig:
    """Returns a config with another value of a key, or of an argument of a spec.

    Args:
      config: The config.
      place: A key, and where the value is one of a spec's arguments a path to it: names of arguments
        whose value is a spec again, and names of parts.
      value: The value as text.

    Raises:
      UsageError: where there is no such place, or more than one.
    """
    key, *path = place.split(".")
    if key not in SETTINGS:
        raise UsageError(f"--vary {place}: unknown key {brief(key)}{nearest(key, SETTINGS)}")
    if key in ("seed", "population"):
        raise UsageError(f"--vary {place}: --seeds says how many seeds there are")
    if not path:
        return from_mapping(dataclasses.asdict(config) | {key: parse_value(key, value)})
    kind, specs = SETTINGS[key].part, getattr(config, key)
    if kind is None:
        raise UsageError(f"--vary {place}: {key} has no arguments; --vary {key}=... sets it")
    texts = [specs] if isinstance(specs, str) else list(specs)
    registry, argument = REGISTRIES[kind], parse(f"value({value})")[0].args[0]
    chains = [parse(text) for text in texts]
    ways = [
        (number, (*chain[:link], way, *chain[link + 1 :]))
        for number, chain in enumerate(chains)
        for link, spec in enumerate(chain)
        for way in _ways(spec, registry, path, argument)
    ]
    shown = f"--vary {place}: {key} = {brief(specs)}"
    if not ways:
        names = {name for chain in chains for spec in chain for name in _names(spec, registry)}
        hint = nearest(path[-1], names) or f"; it has {', '.join(sorted(names)) or 'none'}"
        raise UsageError(f"{shown} has no {'.'.join(path)}{hint}")
    if len(ways) > 1:
        raise UsageError(
            f"{shown} has {len(ways)} of that name: put the name of the part before it, as in "
            f"{key}.{chains[ways[0][0]][0].name}.{'.'.join(path)}"
        )
    number, chain = ways[0]
    texts[number] = to_text(chain)
    new: Any = texts[0] if isinstance(specs, str) else tuple(texts)
    return dataclasses.replace(config, **{key: new})


def _ways(spec: Spec, registry: Registry[Any], path: Sequence[str], value: Any) -> list[Spec]:
    """Returns a spec with an argument set, for each argument within it that a path can mean."""
    head, *rest = path
    own, ways = _arguments(spec, registry), []
    if rest and head == spec.name:
        ways += _ways(spec, registry, rest, value)
    if not rest and head in _names(spec, registry):
        ways.append(_with(spec, registry, head, value))
    nested = {name: inner for name, inner in own.items() if isinstance(inner, Spec)}
    if rest and head in nested:
        ways += [
            _with(spec, registry, head, way) for way in _ways(nested[head], registry, rest, value)
        ]
    if not ways:  # deeper, where no more than one has it
        for name, inner in nested.items():
            ways += [
                _with(spec, registry, name, way) for way in _ways(inner, registry, path, value)
            ]
    return ways


def _names(spec: Spec, registry: Registry[Any]) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a part that one value each can be given for."""
    parameters = registry.owner(spec.name).parameters(spec.name)
    stars = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: own for name, own in parameters.items() if own.kind not in stars}


def _arguments(spec: Spec, registry: Registry[Any]) -> dict[str, Any]:
    """Returns the arguments that a spec gives, by name."""
    return dict(zip(_names(spec, registry), spec.args, strict=False)) | dict(spec.kwargs)


def _with(spec: Spec, registry: Registry[Any], name: str, value: Any) -> Spec:
    """Returns a spec with another value of an argument, given by position where it was before."""
    place = list(_names(spec, registry)).index(name)
    if place < len(spec.args):
        args = (*spec.args[:place], value, *spec.args[place + 1 :])
        return dataclasses.replace(spec, args=args)
    return dataclasses.replace(spec, kwargs=tuple((dict(spec.kwargs) | {name: value}).items()))
