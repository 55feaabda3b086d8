"""The config of a run: a file with `get_config()`, changed on the command line, checked, frozen."""

import ast
import dataclasses
import importlib.util
import json
import pathlib
import sys
import typing
from collections.abc import Mapping
from typing import Any

from gan.errors import UsageError, nearest
from gan.specs import matches, type_name


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training run computes.

    Specs are explained in `gan.specs`; `python scripts/train.py --list` names what they can say.

    Attributes:
      seed: Of every random number of the run.
      num_steps: Generator updates to make.
      batch_size: Real examples a batch, over all devices.
      latent_dim: Length of a latent vector.
      dataset: Spec of the data.
      data_dir: Where TFDS prepared its datasets; None is TFDS's default.
      data_placement: Spec of where the data are while training: `auto` is by their size.
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
      on_nonfinite: Spec of what to do about a step whose numbers are not finite; it is never made.
      keep_checkpoints: Specs of which checkpoints are kept; the newest always is.
      log_every_steps: Metrics are averaged and logged over so many steps.
      sample_every_steps: A grid of samples is drawn this often; 0 is never.
      checkpoint_every_steps: The state is saved this often, and at the end.
      eval_every_steps: Samples are scored this often; 0 is never.
      eval_num_images: How many samples are then drawn.
      eval_features: Spec of the network in whose features images are compared.
    """

    seed: int = 0
    num_steps: int = 10_000
    batch_size: int = 64
    latent_dim: int = 64
    dataset: str = "digits"
    data_dir: str | None = None
    data_placement: str = "auto"
    augmentation: tuple[str, ...] = ()
    generator: str = "dcgan"
    discriminator: str = "dcgan"
    loss: str = "non_saturating"
    regularizers: tuple[str, ...] = ()
    generator_optimizer: str = "optimistic_adam(2e-4, b1=0.5)"
    discriminator_optimizer: str = "optimistic_adam(2e-4, b1=0.5)"
    dynamics: str = "simultaneous"
    averaging: tuple[str, ...] = ("ema(decay=0.999)",)
    mesh: str = "data"
    on_nonfinite: str = "raise"
    keep_checkpoints: tuple[str, ...] = ("latest(3)",)
    log_every_steps: int = 100
    sample_every_steps: int = 1_000
    checkpoint_every_steps: int = 1_000
    eval_every_steps: int = 0
    eval_num_images: int = 2_500
    eval_features: str = "auto"

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if (value := getattr(self, name)) < least:
                raise UsageError(f"config: {name} must be at least {least}, given {value}")
        if self.seed >= 2**32:
            raise UsageError(f"config: seed must be below 2**32, given {self.seed}")


_LEAST = {
    "seed": 0,
    "num_steps": 1,
    "batch_size": 1,
    "latent_dim": 1,
    "log_every_steps": 1,
    "sample_every_steps": 0,
    "checkpoint_every_steps": 1,
    "eval_every_steps": 0,
    "eval_num_images": 20,
}

_TYPES = typing.get_type_hints(TrainConfig)


def from_mapping(values: Mapping[str, Any]) -> TrainConfig:
    """A config from a mapping of its keys; what is not named keeps its default.

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
    """The config as JSON text, one key a line."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def _check_key(name: str) -> None:
    if name not in _TYPES:
        hint = nearest(name, _TYPES) or f"; known: {', '.join(_TYPES)}"
        raise UsageError(f"config: unknown key {name!r}{hint}")


def _parse_value(name: str, text: str) -> Any:
    """The value that a command line's text stands for: text for a text key, else a literal."""
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
