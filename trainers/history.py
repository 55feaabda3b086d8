"""What happened to a run, a line each in `history.jsonl` and on the terminal."""

import json
import os
import pathlib
import time
from typing import Any

import jax
from absl import logging


def record(workdir: pathlib.Path, step: int, event: str, message: str, **details: Any) -> None:
    """Logs an event and appends it to the run's history, so that it lasts from now on.

    Args:
      workdir: The run's folder.
      step: At which it happened.
      event: Its kind, for programs that read the file.
      message: For people.
      **details: More to write down; must be JSON.
    """
    level = logging.INFO if event in _GOOD else logging.WARNING
    logging.log(level, "%s", message)
    if jax.process_index() > 0:
        return
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "step": step, "event": event}
    with (workdir / "history.jsonl").open("a") as file:
        file.write(json.dumps(line | {"message": message} | details) + "\n")
        file.flush()
        os.fsync(file.fileno())


_GOOD = ("start", "branch", "resume", "change", "complete", "stop")
