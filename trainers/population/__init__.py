"""Several runs: a stand-in that trains one after the other."""

import pathlib
from collections.abc import Mapping

from absl import logging

from gan.config import TrainConfig
from gan.errors import RunError
from gan.preemption import Stop
from gan.trainers.train import train


def train_members(
    members: Mapping[pathlib.Path, TrainConfig], *, stop: Stop | None = None
) -> dict[pathlib.Path, Exception | None]:
    """Trains runs given by folder and config; a failure is the value."""
    failures: dict[pathlib.Path, Exception | None] = {}
    for i, (workdir, config) in enumerate(members.items()):
        logging.info("run %d of %d: %s", i + 1, len(members), workdir)
        failures[workdir] = None
        try:
            train(config, workdir, stop=stop, tables=False)
        except RunError as error:
            failures[workdir] = error
    return failures
