"""The methods of a comparison: lines `NAME: KEY=VALUE; KEY=VALUE`, and the usual ones by name."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gan.config import SETTINGS, OnResume, TrainConfig, from_mapping, parse_value
from gan.errors import UsageError, brief, nearest
from gan.players import ROLES
from gan.specs import parse

RATE = "{lr}"
"""Where a setting has the learning rate of the grid."""

_OPTIMIZERS = tuple(f"{role}_optimizer" for role in ROLES)
_SAME_FOR_ALL = ("seed", "batch_size", "generator_batch_size")  # else costs could not be compared
_ALSO = ("num_steps", "on_nonfinite")
KEYS = tuple(
    key
    for key, setting in SETTINGS.items()
    if key in _ALSO
    or (setting.on_resume in (OnResume.REFUSE, OnResume.TRANSFER) and key not in _SAME_FOR_ALL)
)
"""The config keys that a method can set: those that change what a run computes, but not of what."""


@dataclass(frozen=True)
class Method:
    """A method by name, and the config keys that it sets, as text."""

    name: str
    settings: tuple[tuple[str, str], ...]

    @property
    def folder(self) -> str:
        """The name as the name of a folder."""
        return re.sub(r"[^\w.=-]+", "_", self.name).strip("_.")

    @property
    def has_rate(self) -> bool:
        """Whether it takes a learning rate of the grid."""
        return any(RATE in text for _, text in self.settings)

    def config(self, base: TrainConfig, rate: float | None) -> TrainConfig:
        """Returns a config with the method's settings.

        Args:
          base: The config that all methods have in common.
          rate: The learning rate; None for a method that takes none.

        Raises:
          UsageError: for a value that a key cannot have.
        """
        values = dataclasses.asdict(base)
        for key, text in self.settings:
            values[key] = parse_value(key, text.replace(RATE, repr(rate)))
        try:
            return from_mapping(values)
        except UsageError as error:
            raise UsageError(f"--method {self.name!r}: {error}") from error


def default_methods() -> dict[str, Method]:
    """Returns the usual methods by name: Adam, Optimistic Adam, ExtraAdam, and lookahead around each.

    The momentum is 0.5, as GANs usually have it, or 0.
    """
    plain = [
        ("simultaneous", "adam"),
        ("alternating", "adam"),
        ("simultaneous", "optimistic_adam"),
        ("alternating", "optimistic_adam"),
        ("extragradient", "adam"),  # ExtraAdam
        ("past_extragradient", "adam"),  # PastExtraAdam
    ]
    around = [(f"lookahead({dynamics})", optimizer) for dynamics, optimizer in plain]
    lines = [
        f"{dynamics} {optimizer} b1={b1}: dynamics={dynamics}; optimizer={optimizer}({RATE}, b1={b1})"
        for dynamics, optimizer in plain + around
        for b1 in (0.5, 0.0)
    ]
    return {method.name: method for method in map(_parse, lines)}


def parse_methods(texts: Iterable[str]) -> list[Method]:
    """Reads the methods of a command line.

    Args:
      texts: Each a line `NAME: KEY=VALUE; KEY=VALUE`, the name of a usual method, or `default` for all
        of these. A key is one of `KEYS`, or `optimizer` for both players' optimizers.

    Raises:
      UsageError: for another text, an unknown key, or two methods of one name.
    """
    usual = default_methods()
    methods: list[Method] = []
    for text in texts:
        name = text.strip()
        if name == "default":
            methods += usual.values()
        elif name in usual:
            methods.append(usual[name])
        else:
            methods.append(_parse(text, usual))
    folders = [method.folder.lower() for method in methods]  # some file systems know no case
    for place, method in enumerate(methods):
        if (first := folders.index(method.folder.lower())) < place:
            raise UsageError(
                f"--method {method.name!r}: there is one of this name already, {methods[first].name!r}"
            )
    return methods


def is_usual(config: TrainConfig) -> bool:
    """Returns whether a config trains as most GANs are trained: by Adam, at once or in turn."""
    (dynamics,) = parse(config.dynamics)
    optimizers = [parse(getattr(config, key)) for key in _OPTIMIZERS]
    plain = all(len(links) == 1 and links[0].name == "adam" for links in optimizers)
    return plain and dynamics.name in ("simultaneous", "alternating")


def _parse(text: str, usual: Sequence[str] | dict[str, Method] = ()) -> Method:
    name, colon, rest = (part.strip() for part in text.partition(":"))
    method = Method(name, ())
    if not colon or not method.folder:
        raise UsageError(
            f"--method {brief(text)}: 'NAME: KEY=VALUE; KEY=VALUE', default, or the name of one of the "
            f"default methods is accepted{nearest(name, usual)}"
        )
    settings: dict[str, str] = {}
    for part in filter(None, map(str.strip, rest.split(";"))):
        key, equals, value = (side.strip() for side in part.partition("="))
        if not equals or not value:
            raise UsageError(f"--method {name!r}: KEY=VALUE is accepted, given {brief(part)}")
        for own in _OPTIMIZERS if key == "optimizer" else (key,):
            _check_key(name, own)
            if own in settings:
                raise UsageError(f"--method {name!r}: {own} is set twice")
            settings[own] = value
    return dataclasses.replace(method, settings=tuple(settings.items()))


def _check_key(name: str, key: str) -> None:
    if key in KEYS:
        return
    if key in SETTINGS:
        reason = "is the same for all methods of a comparison: --config.KEY=VALUE changes it"
    else:
        reason = "is no config key" + nearest(key, (*KEYS, "optimizer"))
    raise UsageError(f"--method {name!r}: {brief(key)} {reason}")
