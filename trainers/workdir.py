"""A run's folder: the config that it belongs to, and a lock for the one process that writes."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator

import jax

from gan.config import TrainConfig, from_mapping, to_json
from gan.errors import UsageError


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


def write_config(workdir: pathlib.Path, config: TrainConfig) -> None:
    """Writes `config.json`, whole or not at all."""
    beside = workdir / "config.json.tmp"
    beside.write_text(to_json(config))
    beside.replace(workdir / "config.json")


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


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[None]:
    """Makes the folder where it is missing, and keeps every other process from writing into it.

    The system lets go of the lock when its process ends, however it ends. A folder made for a run
    that is then refused is taken away again.

    Raises:
      UsageError: where the folder cannot be written, or is in use.
    """
    if jax.process_index() > 0:  # the first process holds it for all
        yield
        return
    fresh = not workdir.exists()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / "lock").open("a+")
    except OSError as error:
        raise UsageError(f"--workdir={workdir} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UsageError(f"--workdir={workdir} is in use by {holder}") from error
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
                (workdir / "lock").unlink()
                with contextlib.suppress(OSError):  # it holds something by now
                    workdir.rmdir()
            raise
