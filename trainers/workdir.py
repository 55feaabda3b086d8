"""A run's folder, and the config that it belongs to."""

import dataclasses
import json
import pathlib

from gan.config import TrainConfig, to_json
from gan.errors import UsageError

_MAY_CHANGE = {"num_steps", "data_dir", "mesh"} | {
    field.name for field in dataclasses.fields(TrainConfig) if field.name.endswith("_every_steps")
}


def check_same_run(workdir: pathlib.Path, config: TrainConfig) -> None:
    """Refuses to go on with a run under another config, but for what does not change its course.

    Raises:
      UsageError: with every key that differs.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    old, new = json.loads(path.read_text()), json.loads(to_json(config))
    changes = [
        f"{name} was {old.get(name)!r} and is now {value!r}"
        for name, value in new.items()
        if name not in _MAY_CHANGE and old.get(name) != value
    ]
    if changes:
        raise UsageError(
            f"--workdir={workdir} holds a run with another config: {'; '.join(changes)}. "
            f"Go on with the old config, or choose another workdir"
        )


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
