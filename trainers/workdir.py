"""A run's folder: its config, its checkpoints, its history, and a lock for the one that writes."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from absl import logging

from gan import parts
from gan.checkpoints import Checkpoints
from gan.checkpoints.retention import Retention
from gan.config import TrainConfig, from_mapping, to_json
from gan.errors import UsageError
from gan.files import append_line, replacing, user_path
from gan.run_folder import check_ours, check_plain, check_single
from gan.sharding import barrier
from gan.untrusted import read_json

_GOOD_EVENTS = ("start", "branch", "resume", "change", "complete", "stop")


@dataclass(frozen=True)
class Workdir:
    """The folder of a run that trains, locked.

    Attributes:
      path: The folder.
      checkpoints: The checkpoints in it.
    """

    path: pathlib.Path
    checkpoints: Checkpoints

    def write_config(self, config: TrainConfig) -> None:
        """Writes `config.json`, once every process has come this far; the parts are trusted now."""
        barrier("compiled")
        parts.remember(config.parts)
        if jax.process_index() == 0:
            with replacing(self.path / "config.json") as beside:
                beside.write_text(to_json(config))

    def record(self, step: int, event: str, message: str, **details: Any) -> None:
        """Logs an event and appends it to `history.jsonl`, flushed to disk.

        Args:
          step: The step at which it happened.
          event: Its kind, for programs that read the file.
          message: The event in words, for people.
          **details: Further entries of the line; must be JSON.
        """
        level = logging.INFO if event in _GOOD_EVENTS else logging.WARNING
        logging.log(level, "%s", message)
        if jax.process_index() > 0:
            return
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "step": step, "event": event}
        append_line(self.path / "history.jsonl", json.dumps(line | {"message": message} | details))


@contextlib.contextmanager
def open_workdir(
    path: str | pathlib.Path, retention: Sequence[Retention] = ()
) -> Iterator[Workdir]:
    """Opens a run's folder for training, made where it is missing, and closes its checkpoints.

    Args:
      path: The folder.
      retention: The rules by which checkpoints are kept.

    Raises:
      UsageError: where the folder cannot be written, is in use, or holds something else than a run.
    """
    path = user_path(path)
    check_writable(path)
    check_plain(path)
    check_ours(path)
    check_single(path)
    with lock(path), Checkpoints(path, retention) as checkpoints:
        yield Workdir(path, checkpoints)


def read_config(path: pathlib.Path) -> TrainConfig | None:
    """Reads the config of the run in a folder; returns None where there is no run.

    Raises:
      UsageError: where its `config.json` is damaged.
    """
    file = path / "config.json"
    try:
        return from_mapping(read_json(file, follow=False))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, AttributeError, OSError) as error:
        raise UsageError(f"{file} is not a config: {error}") from error


def check_writable(path: pathlib.Path) -> None:
    """Checks that a folder can be made and written, without doing so.

    Raises:
      UsageError: where it cannot.
    """
    nearest = path.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"--workdir={path} cannot be written: {nearest} is no writable folder")


@contextlib.contextmanager
def lock(path: pathlib.Path) -> Iterator[None]:
    """Makes the folder where it is missing, and keeps every other process from writing into it.

    The system releases the lock when the process ends, however it ends. A folder made for a run that
    is then refused is removed again.

    Raises:
      UsageError: where the folder cannot be written, or is in use.
    """
    if jax.process_index() > 0:  # the first process holds it for all
        yield
        return
    fresh = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(
            os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+"
        )
    except OSError as error:
        raise UsageError(f"--workdir={path} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UsageError(f"--workdir={path} is in use by {holder}") from error
        try:
            file.truncate(0)
            file.write(
                f"process {os.getpid()} on {socket.gethostname()}, "
                f"since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
            )
            file.flush()
            yield
        except UsageError:
            if fresh:
                (path / "lock").unlink()
                with contextlib.suppress(OSError):  # it is not empty any more
                    path.rmdir()
            raise
