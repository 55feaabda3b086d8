"""Watches a run: numbers that are not finite, a generator that collapses; and the callbacks."""

from collections.abc import Mapping

import jax
import numpy as np
from clu import metrics as clu_metrics

from gan import parts
from gan.callbacks import CallbackInput
from gan.errors import RunError, describe
from gan.nonfinite import OnNonfinite
from gan.state import GANState
from gan.trainers.experiment import Experiment
from gan.trainers.metric_writers import logged_lines
from gan.trainers.train_step import MetricWindow, NotFinite
from gan.trainers.workdir import Workdir

_COLLAPSED, _DIVERSE = 0.1, 0.2  # of the data's diversity


class Monitor:
    """Checks what comes out of the train step, and remembers what came before.

    Args:
      workdir: The run's folder; its `metrics.jsonl` has the diversity of the samples so far.
      policy: The policy for steps that are not finite.
      step: The step from which the run goes on.
    """

    def __init__(self, workdir: Workdir, policy: OnNonfinite, step: int) -> None:
        self._workdir, self._policy = workdir, policy
        self._skipped_in_a_row = 0
        self._diverse = False
        for line in logged_lines(workdir.path / "metrics.jsonl", step):
            if line.get("diversity") is not None:
                self._collapses(line["diversity"])

    def check_finite(self, found: NotFinite, step: int, num_steps: int) -> int:
        """Waits for a call of the train step, and records those of its steps that were not finite.

        Args:
          found: The call's output.
          step: The last step before the call.
          num_steps: The number of steps that it made.

        Returns:
          The number of those that were not finite.

        Raises:
          RunError: where the policy ends the run.
        """
        skipped, nonfinite_updates, causes = jax.device_get(tuple(found))
        skipped, nonfinite_updates = skipped[:num_steps], nonfinite_updates[:num_steps]
        made = np.flatnonzero(~skipped)
        since_made = num_steps - 1 - made[-1] if len(made) else self._skipped_in_a_row + num_steps
        self._skipped_in_a_row = int(since_made)
        if not (skipped | nonfinite_updates).any():
            return 0
        steps = (step + 1 + np.flatnonzero(skipped | nonfinite_updates)).tolist()
        names = sorted(name for name, bad in causes.items() if bad)
        text = f"step {_ranges(steps)}: {', '.join(names)} not finite"
        self._workdir.record(steps[0], "nonfinite", text, steps=steps, causes=names)
        overflowed = bool(nonfinite_updates.any())
        if (why := self._policy.reason_to_end(self._skipped_in_a_row, overflowed)) is not None:
            raise RunError(f"{text}; {self._newest_checkpoint()}. {why}")
        return len(steps)

    def watch_diversity(self, step: int, diversity: float) -> None:
        """Warns where the samples' diversity, once above 0.2 of the data's, falls below 0.1.

        At the start every generator draws about the same for all latents: that is no collapse.
        """
        if self._collapses(diversity):
            message = (
                f"step {step}: the samples' diversity is {diversity:.2f} of the data's; "
                f"the generator may have collapsed"
            )
            self._workdir.record(step, "collapse", message, diversity=diversity)

    def _collapses(self, diversity: float) -> bool:
        was_diverse = self._diverse
        self._diverse = diversity >= _COLLAPSED and (was_diverse or diversity > _DIVERSE)
        return was_diverse and not self._diverse

    def _newest_checkpoint(self) -> str:
        self._workdir.checkpoints.wait()
        newest = self._workdir.checkpoints.newest()
        return (
            f"the newest checkpoint is step {newest.step}"
            if newest
            else "no checkpoint is saved yet"
        )


class CallbackCaller:
    """Calls each callback of a run at its own period, with the averages over that period.

    Args:
      experiment: The run's parts.
      workdir: Its folder.
      step: The step from which it goes on.
    """

    def __init__(self, experiment: Experiment, workdir: Workdir, step: int) -> None:
        self._workdir = workdir
        self._calls = [(own, MetricWindow(experiment, step)) for own in experiment.callbacks]

    def add(self, metrics: clu_metrics.Collection, num_skipped: int) -> None:
        """Adds the metrics of a call of the train step."""
        for _, window in self._calls:
            window.add(metrics, num_skipped)

    def after_step(self, step: int, state: GANState, scores: Mapping[str, float]) -> None:
        """Calls the callbacks that are due; records a failure as an event."""
        for callback, window in self._calls:
            if step % callback.every_steps:
                continue
            metrics = window.close(step) | dict(scores)
            if jax.process_index() > 0:
                continue
            try:
                callback(CallbackInput(step, metrics, state, self._workdir.path))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the training is worth more
                why = parts.reason(error) or describe(error)
                text = f"callback {type(callback).__name__} at step {step}: {why}"
                self._workdir.record(step, "callback_failed", text)


def _ranges(steps: list[int]) -> str:
    """Writes ascending numbers as text, consecutive ones as `first-last`."""
    texts: list[str] = []
    begin = 0
    for place, step in enumerate(steps):
        if place + 1 == len(steps) or steps[place + 1] != step + 1:
            first = steps[begin]
            texts.append(str(first) if first == step else f"{first}-{step}")
            begin = place + 1
    return ", ".join(texts)
