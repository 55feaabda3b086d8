"""The config of a run: everything that decides what it computes, checked and frozen."""

import ast
import dataclasses
import enum
import inspect
import json
import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from gan.annotations import matches, type_name
from gan.argument_bounds import NUMBERS_END, AtLeast, Count, Within, bounds_of, check_fields
from gan.errors import UsageError, brief, nearest
from gan.specs import escaped


class OnResume(enum.Enum):
    """What becomes of a run that is continued with another value of a key."""

    REFUSE = "it would be another run"
    ALLOW = "it goes on: its course does not depend on the key"
    TRANSFER = "`--on_optimizer_change` says what becomes of the state"
    SAME_DATA = (
        "it goes on where it names the same data, by their SHA-256: they were moved or copied"
    )


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
_RENAMED = {"augmentation": "data_augmentation"}  # old names of keys, as saved runs have them
Specs: TypeAlias = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training run computes.

    A key is one field, whose annotation has its bounds and its `Setting`: what its specs can name,
    and what becomes of a run that is continued with another value. Specs are explained in
    `gan.specs`; `python scripts/train.py --list` shows what they can say.

    Attributes:
      parts: Files and modules with parts of one's own; a file's path is relative to the config's
        folder.
      seed: Seed of every random number of the run.
      population: Runs to train, with seeds from `seed` on, each in a folder of its own: see
        docs/populations.md.
      num_steps: Generator updates to make.
      batch_size: Real examples in a batch, over all devices.
      latent_dim: Length of a latent vector.
      dataset: Spec of the data.
      data_dir: Folder where TFDS has prepared its datasets; None is TFDS's default.
      data_placement: Spec of where the data are during training: `auto` decides by their size.
      data_augmentation: Specs of random changes to the real images.
      discriminator_augmentation: Spec of random changes to all images that the discriminator sees, real
        and fake alike, through which the generator learns.
      generator: Spec of the generator network.
      discriminator: Spec of the discriminator network.
      loss: Spec of the loss.
      regularizers: Specs of penalties on the players.
      microbatches: How many equal parts of a batch gradients are taken of, one after the other: less
        memory, and the same result unless a part depends on the whole batch.
      generator_batch_size: Fake examples in the generator's own loss, over all devices; None is
        batch_size.
      generator_optimizer: Spec of the generator's optimizer.
      discriminator_optimizer: Spec of the discriminator's optimizer.
      dynamics: Spec of how the players move.
      averaging: Specs of averages of the generator; samples are drawn from the first.
      precision: Type in which the networks' layers compute, `float32` or `bfloat16`; parameters, losses
        and optimizers are float32 in both.
      mesh: Spec of the devices: `data` is all of them, `data(4)` the first four.
      on_nonfinite: Spec of what to do about a step with numbers that are not finite; the step itself
        is never made.
      keep_checkpoints: Specs of which checkpoints are kept; the newest always is.
      callbacks: Specs of what is called during training with metrics and state.
      log_every_steps: Metrics are averaged over this many steps and logged.
      sample_every_steps: A grid of samples is drawn every so many steps; 0 is never.
      checkpoint_every_steps: The state is saved every so many steps, and at the end.
      eval_every_steps: Samples are scored every so many steps; 0 is never.
      eval_num_images: How many samples are drawn for a score.
      eval_features: Spec of the network in whose features images are compared.
      eval_metrics: Specs of the scores' metrics; () is all that suit the data, but for `duality_gap`.
    """

    parts: Annotated[Specs, Setting(on_resume=OnResume.ALLOW)] = ()
    seed: Annotated[int, Within(0, 2**32, open_end=True)] = 0
    population: Annotated[Count, _FREE] = 1
    num_steps: Annotated[Count, _FREE] = 10_000
    batch_size: Count = 64
    latent_dim: Annotated[Count, Setting(in_state=True)] = 64
    dataset: Annotated[str, Setting("dataset", OnResume.SAME_DATA, in_state=True)] = "digits"
    data_dir: Annotated[str | None, _FREE] = None
    data_placement: Annotated[str, Setting("placement", OnResume.ALLOW)] = "auto"
    data_augmentation: Annotated[Specs, Setting("data augmentation")] = ()
    discriminator_augmentation: Annotated[
        str, Setting("discriminator augmentation", in_state=True)
    ] = "none"
    generator: Annotated[str, Setting("generator", in_state=True)] = "dcgan"
    discriminator: Annotated[str, Setting("discriminator", in_state=True)] = "dcgan"
    loss: Annotated[str, Setting("loss", in_state=True)] = "non_saturating"
    regularizers: Annotated[Specs, Setting("regularizer", in_state=True)] = ()
    microbatches: Count = 1
    generator_batch_size: Count | None = None
    generator_optimizer: Annotated[str, _OPTIMIZER] = "optimistic_adam(2e-4, b1=0.5)"
    discriminator_optimizer: Annotated[str, _OPTIMIZER] = "optimistic_adam(2e-4, b1=0.5)"
    dynamics: Annotated[str, Setting("dynamics", OnResume.TRANSFER, in_state=True)] = "simultaneous"
    averaging: Annotated[Specs, Setting("averaging", in_state=True)] = ("ema(decay=0.999)",)
    precision: Literal["float32", "bfloat16"] = "float32"
    mesh: Annotated[str, Setting("mesh", OnResume.ALLOW)] = "data"
    on_nonfinite: Annotated[str, Setting("policy", OnResume.ALLOW)] = "raise"
    keep_checkpoints: Annotated[Specs, Setting("rule of retention", OnResume.ALLOW)] = (
        "latest(3)",
    )
    callbacks: Annotated[Specs, Setting("callback", OnResume.ALLOW)] = ()
    log_every_steps: Annotated[int, AtLeast(1), _FREE] = 100
    sample_every_steps: Annotated[int, AtLeast(0), _FREE] = 1_000
    checkpoint_every_steps: Annotated[int, AtLeast(1), _FREE] = 1_000
    eval_every_steps: Annotated[int, AtLeast(0), _FREE] = 0
    eval_num_images: Annotated[int, Within(20, NUMBERS_END, open_end=True), _FREE] = 2_500
    eval_features: Annotated[str, Setting("features", OnResume.ALLOW)] = "auto"
    eval_metrics: Annotated[Specs, Setting("metric", OnResume.ALLOW)] = ()

    def __post_init__(self) -> None:
        for name, hint in _TYPES.items():
            if not matches(value := getattr(self, name), hint):
                choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
                meant = nearest(value, choices) if isinstance(value, str) else ""
                raise UsageError(
                    f"config: {name} must be {type_name(hint)}, given {brief(value)}{meant}"
                )
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
    for name, value in with_new_names(values).items():
        _check_key(name)
        if isinstance(value, str) and _TYPES[name] == tuple[str, ...]:
            value = (value,)
        if isinstance(value, list):
            value = tuple(value)
        checked[name] = value
    return TrainConfig(**checked)


def with_new_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the same values, each under the present name of its key.

    Raises:
      UsageError: where a key is there under its old name and its present one.
    """
    for old, new in _RENAMED.items():
        if old in values and new in values:
            raise UsageError(f"config: {old} is the old name of {new}; give only {new}")
    return {_RENAMED.get(name, name): value for name, value in values.items()}


def describe_keys() -> list[str]:
    """Describes every key in a line: type, default, bounds, and what it means."""
    hints = typing.get_type_hints(TrainConfig, include_extras=True)
    meanings = _meanings()
    lines = []
    for field in dataclasses.fields(TrainConfig):
        about = [type_name(_TYPES[field.name]), *map(str, bounds_of(hints[field.name]))]
        default, meaning = f"{field.name}={field.default!r}", meanings[field.name]
        lines.append(f"{default}  [{', '.join(about)}]  {meaning}")
    return lines


def _meanings() -> dict[str, str]:
    """Returns what the docstring of `TrainConfig` says of each key, on one line."""
    _, _, attributes = inspect.getdoc(TrainConfig).partition("Attributes:\n")  # type: ignore[union-attr]
    entries = re.split(r"^  (?=\w+: )", attributes, flags=re.MULTILINE)[1:]
    split = (entry.split(": ", 1) for entry in entries)
    return {name: " ".join(text.split()) for name, text in split}


def to_json(config: TrainConfig) -> str:
    """Writes a config as JSON text, one key a line."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def _check_key(name: str) -> None:
    if name not in _TYPES:
        hint = nearest(name, _TYPES) or f"; known: {', '.join(_TYPES)}"
        raise UsageError(f"config: unknown key {brief(name)}{hint}")


def parse_value(name: str, text: str) -> Any:
    """Reads the value of a key on the command line: text for a text key, else a literal.

    Raises:
      UsageError: for an unknown key.
    """
    name = _RENAMED.get(name, name)
    _check_key(name)
    hint = _TYPES[name]
    if hint is str:
        return text
    try:
        return ast.literal_eval(escaped(text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: nested too deep
        return text
