"""A run's folder, and the config that it belongs to."""

import dataclasses
import json
import os
import pathlib

from gan.config import TrainConfig, from_mapping, to_json
from gan.errors import UsageError

_MAY_CHANGE = {"num_steps", "data_dir", "mesh"} | {
    field.name for field in dataclasses.fields(TrainConfig) if field.name.endswith("_every_steps")
}


def read_config(workdir: pathlib.Path) -> TrainConfig | None:
    """The config of the run in a folder; None where there is no run.

    Raises:
      UsageError: where its `config.json` is damaged.
    """
    path = workdir / "config.json"
    try:
        if not path.is_file():
            return None
        return from_mapping(json.loads(path.read_text()))
    except (ValueError, AttributeError, OSError) as error:
        raise UsageError(f"{path} is not a config: {error}") from error


def check_same_run(workdir: pathlib.Path, config: TrainConfig) -> None:
    """Refuses to go on with a run under another config, but for what does not change its course.

    Raises:
      UsageError: with every key that differs.
    """
    old = read_config(workdir)
    if old is None:
        return
    changes = [
        f"{name} was {before!r} and is now {now!r}"
        for name in sorted(dataclasses.asdict(config).keys() - _MAY_CHANGE)
        if (before := getattr(old, name)) != (now := getattr(config, name))
    ]
    if changes:
        raise UsageError(
            f"--workdir={workdir} holds a run with another config: {'; '.join(changes)}. "
            f"Go on with the old config, or choose another workdir"
        )


def check_writable(workdir: pathlib.Path) -> None:
    """Looks whether a folder can be made and written, without doing it.

    Raises:
      UsageError: where it cannot.
    """
    there = workdir.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"--workdir={workdir} cannot be written: {there} is no writable folder")


def prepare(workdir: pathlib.Path, config: TrainConfig) -> None:
    """Makes the run's folder and writes the config into it.

    Raises:
      UsageError: where it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        beside = workdir / "config.json.tmp"
        beside.write_text(to_json(config))
        beside.replace(workdir / "config.json")
    except OSError as error:
        raise UsageError(f"--workdir={workdir} cannot be written: {error.strerror}") from error
