"""Where metrics go: the terminal, TensorBoard, and `metrics.jsonl`; and CLU's periodic actions.

CLU imports TensorFlow, which takes some seconds: import this module late.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging
from clu import metric_writers, periodic_actions


class JSONLinesWriter(metric_writers.MetricWriter):  # type: ignore[misc]
    """Writes scalars to a file, one JSON object a step; pictures and texts are not for it.

    Args:
      path: The file; lines of a step after `last_step` are dropped, they will come again.
      last_step: From where the run goes on.
    """

    def __init__(self, path: pathlib.Path, last_step: int):
        kept = []
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if _step(line) <= last_step]
        beside = path.with_name(path.name + ".tmp")
        beside.write_text("".join(kept))
        beside.replace(path)
        self._file = path.open("a")
        self._pending: dict[str, Any] = {}

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Collects the scalars of a step; the line is written when the step is over."""
        if self._pending.get("step") != step:
            self.flush()
            self._pending = {"step": step}
        for name, value in scalars.items():  # JSON has no infinity and no NaN
            self._pending[name] = float(value) if math.isfinite(value) else None

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

    def write_summaries(self, step: int, values: Any, metadata: Any = None) -> None:
        """Nothing: not a scalar."""

    def write_images(self, step: int, images: Any) -> None:
        """Nothing: not a scalar."""

    def write_videos(self, step: int, videos: Any) -> None:
        """Nothing: not a scalar."""

    def write_audios(self, step: int, audios: Any, *, sample_rate: int) -> None:
        """Nothing: not a scalar."""

    def write_texts(self, step: int, texts: Any) -> None:
        """Nothing: not a scalar."""

    def write_histograms(self, step: int, arrays: Any, num_buckets: Any = None) -> None:
        """Nothing: not a scalar."""

    def write_hparams(self, hparams: Any) -> None:
        """Nothing: the config is in `config.json`."""


class TerminalWriter(metric_writers.LoggingWriter):  # type: ignore[misc]
    """The scalars that a person watches, as a short line; all the others are in the files."""

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Logs them in the order in which they are given."""
        shown = [
            f"{name} {value:,.0f}" if abs(value) >= 1_000 else f"{name} {value:.4g}"
            for name, value in scalars.items()
            if not name.startswith(("grad_norm/", "update_norm/"))
        ]
        logging.info("[%d] %s", step, "  ".join(shown))

    def write_images(self, step: int, images: Any) -> None:
        """Nothing: not for a terminal."""


def create_writer(workdir: pathlib.Path, last_step: int) -> metric_writers.MetricWriter:
    """All writers of a run, each in a thread of its own; none but in the first process."""
    if jax.process_index() > 0:
        return metric_writers.MultiWriter([])
    return metric_writers.AsyncMultiWriter(
        [
            TerminalWriter(),
            metric_writers.SummaryWriter(os.fspath(workdir)),
            JSONLinesWriter(workdir / "metrics.jsonl", last_step),
        ]
    )


def create_hooks(
    workdir: pathlib.Path, num_steps: int, step: int, profile_step: int | None
) -> list[periodic_actions.PeriodicAction]:
    """CLU's periodic actions, to be called after each call of the train step.

    Args:
      workdir: Where a profile is written.
      num_steps: The last step of the run.
      step: From where the run goes on.
      profile_step: After which step the next call is profiled, or None.
    """
    hooks = [periodic_actions.ReportProgress(num_train_steps=num_steps, every_secs=15)]
    if profile_step is not None:
        hooks.append(
            periodic_actions.Profile(
                logdir=os.fspath(workdir),
                first_profile=profile_step,
                profile_duration_ms=None,  # until the next call
                every_secs=None,
            )
        )
    for hook in hooks:
        hook(step)  # starts their clocks
    return hooks


def _step(line: str) -> int:
    """The step of a line; a line cut short by a crash counts as none that is kept."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**62
