"""Trains many runs, each in a folder of its own."""

import pathlib
from collections.abc import Mapping

from absl import logging

from gan.checkpoints import Checkpoints
from gan.config import TrainConfig
from gan.errors import Stopped, describe
from gan.preemption import Stop
from gan.trainers.experiment import build
from gan.trainers.train import train
from gan.trainers.workdir import read_config


def train_members(
    members: Mapping[pathlib.Path, TrainConfig], *, stop: Stop | None = None
) -> dict[pathlib.Path, Exception | None]:
    """Trains runs; one that fails does not stop the others.

    Args:
      members: The folder of each run, and its config.
      stop: Says when to stop early; None is never.

    Returns:
      For each folder why its run failed, or None.

    Raises:
      UsageError: for a config that will not do, before any work.
      Stopped: where `stop` asked for it, after saving.
    """
    for config in members.values():
        build(config)
    results: dict[pathlib.Path, Exception | None] = {}
    for path, config in members.items():
        try:
            if not is_complete(path, config):
                train(config, path, stop=stop, tables=False)
            results[path] = None
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - the others are worth more
            logging.warning("%s: failed: %s", path, describe(error))
            results[path] = error
    return results


def is_complete(path: pathlib.Path, config: TrainConfig) -> bool:
    """Returns whether a folder has this run, trained to its end."""
    if read_config(path) != config:
        return False
    with Checkpoints(path) as checkpoints:
        newest = checkpoints.newest()
    return newest is not None and newest.step >= config.num_steps
