"""Where metrics go: the terminal, TensorBoard, and `metrics.jsonl`; progress reports and profiles.

CLU writes for TensorBoard and profiles. It imports TensorFlow, which takes some seconds: it is imported
in a thread beside the first steps. Where there is no TensorFlow, classes of our own do the same.
"""

import contextvars
import functools
import importlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from typing import Any

import jax
import numpy as np
from absl import logging

from gan.cli import quiet_tensorflow
from gan.errors import UsageError
from gan.files import replacing
from gan.untrusted import parse_json, read_lines

_NOT_SHOWN = (
    *("grad_norm/", "update_norm/", "step_size/", "preconditioned_rms/"),
    *("learning_rate/", "strength/"),
)
_VALUES = (int, float, type(None))  # in `metrics.jsonl`
_PROGRESS_SECONDS = 15
_PROFILE_STEPS = 5  # at least; CLU's default


class JSONLinesWriter:
    """Writes scalars to a file, one JSON object a step, and no images.

    Args:
      path: The file; lines of steps after `last_step` are dropped, since these are made again.
      last_step: The step from which the run goes on.
    """

    def __init__(self, path: pathlib.Path, last_step: int):
        kept = [line for values, line in _lines(path) if values["step"] <= last_step]
        with replacing(path) as beside:
            beside.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a")
        self._pending: dict[str, Any] = {}

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Collects the scalars of a step; the line is written when the step is over."""
        if self._pending.get("step") != step:
            self.flush()
            self._pending = {"step": step}
        for name, value in scalars.items():  # JSON has no infinity and no NaN
            self._pending[name] = float(value) if math.isfinite(value) else None

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Writes the line of the current step."""
        if self._pending:
            self._file.write(json.dumps(self._pending) + "\n")
            self._pending = {}
        self._file.flush()

    def close(self) -> None:
        """Writes what is pending, and closes the file."""
        self.flush()
        self._file.close()


class TerminalWriter:
    """Logs the scalars that a person watches, in a short line; the others are in the files only."""

    def __init__(self) -> None:
        self._context = contextvars.copy_context()  # the label: it is CLU's thread that writes

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Logs scalars in the order in which they are given."""
        texts = [
            f"{name} {value:,.0f}" if abs(value) >= 1_000 else f"{name} {value:.4g}"
            for name, value in scalars.items()
            if not name.startswith(_NOT_SHOWN)
        ]
        self._context.run(logging.info, "[%d] %s", step, "  ".join(texts))

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Progress:
    """Logs speed, progress and the time left every 15 s and at the last step.

    CLU's own counts steps that were made before its clock was started, and after the last of them
    divides by next to no time.

    Args:
      num_steps: The last step of the run.
    """

    def __init__(self, num_steps: int):
        self._num_steps = num_steps
        self._last: tuple[int, float] | None = None  # step and time of the last report

    def __call__(self, step: int) -> None:
        """Reports if it is time to; the first call only starts the clock."""
        now = time.monotonic()
        if self._last is None:
            self._last = step, now
        last_step, last_time = self._last
        is_due = step == self._num_steps or now - last_time > _PROGRESS_SECONDS
        if step > last_step and is_due:
            speed = (step - last_step) / (now - last_time)
            done = f"{100 * step / self._num_steps:.1f}% ({step}/{self._num_steps})"
            left = _format_seconds((self._num_steps - step) / speed)
            logging.info("%.1f steps/s, %s, ETA: %s", speed, done, left)
            self._last = step, now


class Profile:
    """Records a profile of some steps for TensorBoard.

    Args:
      workdir: The run's folder.
      first_step: The step after which the next call of the train step is profiled.
    """

    def __init__(self, workdir: pathlib.Path, first_step: int):
        self._workdir, self._first_step = workdir, first_step
        self._running = False

    def __call__(self, step: int) -> None:
        """Starts or ends the recording at its steps."""
        if step == self._first_step:
            jax.profiler.start_trace(self._workdir)
            self._running = True
        elif step >= self._first_step + _PROFILE_STEPS:
            self.end()

    def end(self) -> None:
        """Writes what was recorded, if it is not written yet."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()


class MetricWriters:
    """All writers of a run, its progress reports and a profile.

    Only the first process writes. With CLU each writer has a thread of its own; the first write waits
    for its import.

    Args:
      workdir: The run's folder.
      num_steps: The last step of the run.
      step: The step from which the run goes on.
      profile_step: The step after which the next call is profiled, or None.
    """

    def __init__(
        self, workdir: pathlib.Path, num_steps: int, step: int, profile_step: int | None = None
    ) -> None:
        self._workdir, self._step = workdir, step
        self._clu = _import_clu()
        self._writers: list[Any] | None = None  # opened by the first call that writes
        self._actions: list[Any] = [Progress(num_steps)]
        if profile_step is not None:  # an early step: the profiler has to be there
            self._actions.append(self._make_profile(profile_step))
        self.after_call(step)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars to the terminal, TensorBoard and `metrics.jsonl`."""
        for writer in self._open():
            writer.write_scalars(step, scalars)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes uint8 images `[N, H, W, C]` to TensorBoard."""
        for writer in self._open():
            writer.write_images(step, images)

    def after_call(self, step: int) -> None:
        """Reports progress and profiles, if it is time to; to be called after each call of the step."""
        for action in self._actions:
            action(step)

    def flush(self) -> None:
        """Writes to the files what was given so far."""
        for writer in self._writers or ():
            writer.flush()

    def close(self) -> None:
        """Writes what is not written yet, and closes the files."""
        for action in self._actions:
            if isinstance(action, Profile):
                action.end()
        for writer in self._writers or ():
            writer.close()

    def _open(self) -> list[Any]:
        """Returns the writers to all places; waits for CLU's import the first time."""
        if self._writers is None:
            self._writers = self._make_writers() if jax.process_index() == 0 else []
        return self._writers

    def _make_writers(self) -> list[Any]:
        places = [
            TerminalWriter(),
            open_event_file(self._workdir),
            JSONLinesWriter(self._workdir / "metrics.jsonl", self._step),
        ]
        writers = [place for place in places if place is not None]
        if (clu := self._clu.result()) is None:
            return writers
        metric_writers, _ = clu
        return [metric_writers.AsyncMultiWriter(writers)]

    def _make_profile(self, first_step: int) -> Any:
        if (clu := self._clu.result()) is None:
            return Profile(self._workdir, first_step)
        _, periodic_actions = clu
        return periodic_actions.Profile(
            logdir=os.fspath(self._workdir),
            first_profile=first_step,
            profile_duration_ms=None,  # until the next call
            every_secs=None,
        )


def open_event_file(workdir: pathlib.Path) -> Any:
    """Opens an event file for TensorBoard; waits for CLU's import.

    Returns:
      Its writer, or None, with a line in the log, where tensorboard is not installed.
    """
    if (clu := _import_clu().result()) is not None:
        metric_writers, _ = clu
        return metric_writers.SummaryWriter(os.fspath(workdir))
    try:
        from gan.event_files import EventFileWriter
    except ImportError as error:
        logging.info("files for TensorBoard are left out: %s", error)
        return None
    return EventFileWriter(workdir)


def logged_lines(path: pathlib.Path, last_step: int) -> list[dict[str, Any]]:
    """Reads what was logged up to a step: for each step that was, `step` and the values by name.

    Args:
      path: A `metrics.jsonl`, which may not be there.
      last_step: The last step to read; later ones are of a course that the run has left.
    """
    return [values for values, _ in _lines(path) if values["step"] <= last_step]


def _lines(path: pathlib.Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Yields the lines of a `metrics.jsonl`, parsed and as text; skips one that a crash cut short."""
    try:
        lines = read_lines(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    for line in lines:
        try:
            values = parse_json(line)
        except ValueError:
            continue
        is_object = isinstance(values, dict) and type(values.get("step")) is int
        if is_object and all(type(value) in _VALUES for value in values.values()):
            yield values, line


def _format_seconds(seconds: float) -> str:
    """Formats a time as CLU does: `1d10h17m`, `5m`."""
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    return (f"{days}d" if days else "") + (f"{hours}h" if hours else "") + f"{rest // 60}m"


@functools.cache
def _import_clu() -> futures.Future[list[Any] | None]:
    """Starts the import of CLU's writers and periodic actions, once in a process."""
    pool = futures.ThreadPoolExecutor(1)
    try:
        return pool.submit(_load_clu)
    finally:
        pool.shutdown(wait=False)


def _load_clu() -> list[Any] | None:
    """Imports CLU's writers and periodic actions; returns None where TensorFlow is missing."""
    quiet_tensorflow()
    try:
        return [
            importlib.import_module(name) for name in ("clu.metric_writers", "clu.periodic_actions")
        ]
    except ImportError as error:
        if error.name != "tensorflow":  # it is there, and cannot be used
            logging.warning("CLU cannot be imported, and the run does without: %s", error)
        return None
