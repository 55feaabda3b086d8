"""The config of a run: a file with `get_config()`, changed on the command line, checked, frozen."""

import ast
import dataclasses
import enum
import importlib.util
import json
import pathlib
import sys
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from gan.annotations import matches, type_name
from gan.argument_bounds import AtLeast, Within, check_fields
from gan.errors import UsageError, nearest


class OnResume(enum.Enum):
    """What becomes of a run that is continued with another value of a key."""

    REFUSE = "it would be another run"
    ALLOW = "it goes on: its course does not depend on the key"
    TRANSFER = "`--on_optimizer_change` says what becomes of the state"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of a config key, besides its type, bounds and default.

    Attributes:
      part: The kind of part that its specs name, a key of `gan.registry.REGISTRIES`; None for a number.
      on_resume: What becomes of a run that is continued with another value.
      in_state: Whether the state of a run has other contents or shapes with another value.
    """

    part: str | None = None
    on_resume: OnResume = OnResume.REFUSE
    in_state: bool = False


_FREE = Setting(on_resume=OnResume.ALLOW)
_OPTIMIZER = Setting("optimizer", OnResume.TRANSFER, in_state=True)
Specs: TypeAlias = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training run computes.

    A key is one field, whose annotation has its bounds and its `Setting`: what its specs can name,
    and what becomes of a run that is continued with another value. Specs are explained in
    `gan.specs`; `python scripts/train.py --list` shows what they can say.

    Attributes:
      seed: Seed of every random number of the run.
      num_steps: Generator updates to make.
      batch_size: Real examples in a batch, over all devices.
      latent_dim: Length of a latent vector.
      dataset: Spec of the data.
      data_dir: Folder where TFDS has prepared its datasets; None is TFDS's default.
      data_placement: Spec of where the data are during training: `auto` decides by their size.
      augmentation: Specs of random changes to the real images.
      generator: Spec of the generator network.
      discriminator: Spec of the discriminator network.
      loss: Spec of the loss.
      regularizers: Specs of penalties on the discriminator.
      generator_optimizer: Spec of the generator's optimizer.
      discriminator_optimizer: Spec of the discriminator's optimizer.
      dynamics: Spec of how the players move.
      averaging: Specs of averages of the generator; samples are drawn from the first.
      mesh: Spec of the devices: `data` is all of them, `data(4)` the first four.
      on_nonfinite: Spec of what to do about a step with numbers that are not finite; the step itself
        is never made.
      keep_checkpoints: Specs of which checkpoints are kept; the newest always is.
      log_every_steps: Metrics are averaged over this many steps and logged.
      sample_every_steps: A grid of samples is drawn every so many steps; 0 is never.
      checkpoint_every_steps: The state is saved every so many steps, and at the end.
      eval_every_steps: Samples are scored every so many steps; 0 is never.
      eval_num_images: How many samples are drawn for a score.
      eval_features: Spec of the network in whose features images are compared.
    """

    seed: Annotated[int, Within(0, 2**32, open_end=True)] = 0
    num_steps: Annotated[int, AtLeast(1), _FREE] = 10_000
    batch_size: Annotated[int, AtLeast(1)] = 64
    latent_dim: Annotated[int, AtLeast(1), Setting(in_state=True)] = 64
    dataset: Annotated[str, Setting("dataset", in_state=True)] = "digits"
    data_dir: Annotated[str | None, _FREE] = None
    data_placement: Annotated[str, Setting("placement", OnResume.ALLOW)] = "auto"
    augmentation: Annotated[Specs, Setting("augmentation")] = ()
    generator: Annotated[str, Setting("generator", in_state=True)] = "dcgan"
    discriminator: Annotated[str, Setting("discriminator", in_state=True)] = "dcgan"
    loss: Annotated[str, Setting("loss")] = "non_saturating"
    regularizers: Annotated[Specs, Setting("regularizer")] = ()
    generator_optimizer: Annotated[str, _OPTIMIZER] = "optimistic_adam(2e-4, b1=0.5)"
    discriminator_optimizer: Annotated[str, _OPTIMIZER] = "optimistic_adam(2e-4, b1=0.5)"
    dynamics: Annotated[str, Setting("dynamics", OnResume.TRANSFER, in_state=True)] = "simultaneous"
    averaging: Annotated[Specs, Setting("averaging", in_state=True)] = ("ema(decay=0.999)",)
    mesh: Annotated[str, Setting("mesh", OnResume.ALLOW)] = "data"
    on_nonfinite: Annotated[str, Setting("policy", OnResume.ALLOW)] = "raise"
    keep_checkpoints: Annotated[Specs, Setting("rule of retention", OnResume.ALLOW)] = (
        "latest(3)",
    )
    log_every_steps: Annotated[int, AtLeast(1), _FREE] = 100
    sample_every_steps: Annotated[int, AtLeast(0), _FREE] = 1_000
    checkpoint_every_steps: Annotated[int, AtLeast(1), _FREE] = 1_000
    eval_every_steps: Annotated[int, AtLeast(0), _FREE] = 0
    eval_num_images: Annotated[int, AtLeast(20), _FREE] = 2_500
    eval_features: Annotated[str, Setting("features", OnResume.ALLOW)] = "auto"

    def __post_init__(self) -> None:
        try:
            check_fields(self)
        except ValueError as error:
            raise UsageError(f"config: {error}") from error


def _setting(hint: Any) -> Setting:
    extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    return next((extra for extra in extras if isinstance(extra, Setting)), Setting())


_TYPES = typing.get_type_hints(TrainConfig)
SETTINGS: dict[str, Setting] = {
    name: _setting(hint)
    for name, hint in typing.get_type_hints(TrainConfig, include_extras=True).items()
}
"""The setting of each key."""


def difference(old: TrainConfig, new: TrainConfig) -> dict[str, str]:
    """Returns the keys in which two configs differ, each with a line that says how."""
    return {
        name: f"{name} was {before!r} and is now {now!r}"
        for name in sorted(SETTINGS)
        if (before := getattr(old, name)) != (now := getattr(new, name))
    }


def from_mapping(values: Mapping[str, Any]) -> TrainConfig:
    """Makes a config from a mapping of its keys; what is not named keeps its default.

    Raises:
      UsageError: for an unknown key, a value of the wrong type or out of range.
    """
    checked = {}
    for name, value in values.items():
        _check_key(name)
        if isinstance(value, str) and _TYPES[name] == tuple[str, ...]:
            value = (value,)
        if isinstance(value, list):
            value = tuple(value)
        if not matches(value, _TYPES[name]):
            raise UsageError(f"config: {name} must be {type_name(_TYPES[name])}, given {value!r}")
        checked[name] = value
    return TrainConfig(**checked)


def load(path: str | pathlib.Path, overrides: Mapping[str, str] | None = None) -> TrainConfig:
    """Reads a config file and applies what the command line changes.

    Args:
      path: A Python file with `get_config()`, which returns a mapping such as a ConfigDict.
      overrides: New values by key, as text.

    Raises:
      UsageError: where the file or an override is not what it should be.
    """
    values = dict(_run_config_file(pathlib.Path(path)))
    values |= {name: _parse_value(name, text) for name, text in (overrides or {}).items()}
    return from_mapping(values)


def to_json(config: TrainConfig) -> str:
    """Writes a config as JSON text, one key a line."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def _check_key(name: str) -> None:
    if name not in _TYPES:
        hint = nearest(name, _TYPES) or f"; known: {', '.join(_TYPES)}"
        raise UsageError(f"config: unknown key {name!r}{hint}")


def _parse_value(name: str, text: str) -> Any:
    """Reads the value of a key on the command line: text for a text key, else a literal."""
    _check_key(name)
    hint = _TYPES[name]
    if hint is str:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _run_config_file(path: pathlib.Path) -> Mapping[str, Any]:
    try:
        exists = path.is_file()
    except OSError as error:
        raise UsageError(f"config file {path}: {error.strerror}") from error
    if not exists:
        there = (
            sorted(other.name for other in path.parent.glob("*.py")) if path.parent.is_dir() else []
        )
        hint = nearest(path.name, there)
        raise UsageError(f"config file {path} does not exist{hint}")
    spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"config file {path}: a Python file is accepted")
    module = importlib.util.module_from_spec(spec)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "get_config", None)):
            raise UsageError(f"config file {path} has no get_config()")
        config = module.get_config()
    except UsageError:
        raise
    except Exception as error:  # whatever a user's own file may raise
        raise UsageError(f"config file {path}: {type(error).__name__}: {error}") from error
    finally:
        sys.dont_write_bytecode = writes_bytecode
    if isinstance(config, Mapping):
        return config
    if hasattr(config, "items"):
        return dict(config.items())
    raise UsageError(
        f"config file {path}: get_config() must return a ConfigDict, not {type(config).__name__}"
    )
