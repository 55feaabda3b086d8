"""Where metrics go: the terminal, TensorBoard, and `metrics.jsonl`; and CLU's periodic actions.

CLU imports TensorFlow, which takes some seconds: it is imported in a thread beside the first steps.
"""

import functools
import importlib
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from concurrent import futures
from typing import Any

import jax
import numpy as np
from absl import logging

from gan.files import replacing

_PROGRESS_SECONDS = 15


class JSONLinesWriter:
    """Writes scalars to a file, one JSON object a step, and no images.

    Args:
      path: The file; lines of steps after `last_step` are dropped, since these are made again.
      last_step: The step from which the run goes on.
    """

    def __init__(self, path: pathlib.Path, last_step: int):
        kept = [line for step, line in _lines(path) if step <= last_step]
        with replacing(path) as beside:
            beside.write_text("".join(kept))
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

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Logs scalars in the order in which they are given."""
        texts = [
            f"{name} {value:,.0f}" if abs(value) >= 1_000 else f"{name} {value:.4g}"
            for name, value in scalars.items()
            if not name.startswith(("grad_norm/", "update_norm/"))
        ]
        logging.info("[%d] %s", step, "  ".join(texts))

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class MetricWriters:
    """All writers of a run, each in a thread of its own, and CLU's periodic actions.

    Only the first process writes. The first write waits for the import of CLU, and progress is
    reported only after it.

    Args:
      workdir: The run's folder.
      num_steps: The last step of the run.
      step: The step from which the run goes on.
      profile_step: The step after which the next call is profiled, or None.
    """

    def __init__(
        self, workdir: pathlib.Path, num_steps: int, step: int, profile_step: int | None = None
    ) -> None:
        self._workdir, self._num_steps, self._step = workdir, num_steps, step
        self._profile_step = profile_step
        self._clu = _import_clu()
        self._writer: Any = None  # opened by the first call that writes
        self._actions: list[Any] | None = None
        if profile_step is not None:  # an early step: the profiler has to be there
            self._actions = self._start_actions()

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars to the terminal, TensorBoard and `metrics.jsonl`."""
        self._open().write_scalars(step, scalars)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes uint8 images `[N, H, W, C]` to TensorBoard."""
        self._open().write_images(step, images)

    def after_call(self, step: int) -> None:
        """Runs the periodic actions; to be called after each call of the train step."""
        if not self._clu.done():
            return
        if self._actions is None:
            self._actions = self._start_actions()
        for action in self._actions:
            action(step)

    def flush(self) -> None:
        """Writes to the files what was given so far."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Writes what is not written yet, and closes the files."""
        if self._writer is not None:
            self._writer.close()

    def _open(self) -> Any:
        """Returns the writer to all places; waits for CLU's import the first time."""
        if self._writer is None:
            self._writer = self._make_writer()
        return self._writer

    def _make_writer(self) -> Any:
        metric_writers, _ = self._clu.result()
        if jax.process_index() > 0:
            return metric_writers.MultiWriter([])
        return metric_writers.AsyncMultiWriter(
            [
                TerminalWriter(),
                metric_writers.SummaryWriter(os.fspath(self._workdir)),
                JSONLinesWriter(self._workdir / "metrics.jsonl", self._step),
            ]
        )

    def _start_actions(self) -> list[Any]:
        """Makes the periodic actions and starts their clocks; waits for CLU's import."""
        _, periodic_actions = self._clu.result()
        actions = [
            periodic_actions.ReportProgress(
                num_train_steps=self._num_steps, every_secs=_PROGRESS_SECONDS
            )
        ]
        if self._profile_step is not None:
            actions.append(
                periodic_actions.Profile(
                    logdir=os.fspath(self._workdir),
                    first_profile=self._profile_step,
                    profile_duration_ms=None,  # until the next call
                    every_secs=None,
                )
            )
        for action in actions:
            action(self._step)
        return actions


def logged_lines(path: pathlib.Path, last_step: int) -> list[dict[str, Any]]:
    """Reads what was logged up to a step: for each step that was, `step` and the values by name.

    Args:
      path: A `metrics.jsonl`, which may not be there.
      last_step: The last step to read; later ones are of a course that the run has left.
    """
    return [json.loads(line) for step, line in _lines(path) if step <= last_step]


def _lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of a `metrics.jsonl` with their steps; skips one that a crash cut short."""
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        try:
            yield int(json.loads(line)["step"]), line
        except (ValueError, KeyError, TypeError):
            continue


@functools.cache
def _import_clu() -> futures.Future[Any]:
    """Starts the import of CLU's writers and periodic actions, once in a process."""
    pool = futures.ThreadPoolExecutor(1)
    names = ("clu.metric_writers", "clu.periodic_actions")
    try:
        return pool.submit(lambda: [importlib.import_module(name) for name in names])
    finally:
        pool.shutdown(wait=False)
