"""Watches a run: numbers that are not finite, a game that one player has lost; and the callbacks."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from gan import parts
from gan.callbacks import CallbackInput
from gan.errors import NotFiniteError, describe
from gan.state import GANState
from gan.trainers.experiment import Experiment
from gan.trainers.metric_writers import logged_lines
from gan.trainers.train_step import MetricWindow, NotFinite
from gan.trainers.workdir import Workdir

_COLLAPSED, _DIVERSE = 0.1, 0.2  # of the data's diversity
_LEAST_LOGS = 5  # of a run that is said to be never diverse
_WON, _RECOVERED = 0.01, 0.1  # of the discriminator's loss at logits of 0
_WON_LOGS = 3


class Signal(NamedTuple):
    """What a person should know: an event's name and its message, and numbers for programs."""

    event: str
    message: str
    details: dict[str, Any]


class Signals:
    """Tells from the logged values of a run, given in their order, what a person should know.

    It is the same for a run that was stopped in between: what is counted are the logs at multiples of
    `log_every_steps`, and not those of a stop.

    Args:
      experiment: The run's parts.
    """

    def __init__(self, experiment: Experiment) -> None:
        config, zeros = experiment.config, jnp.zeros([experiment.config.batch_size])
        self._num_steps, self._log_every = config.num_steps, config.log_every_steps
        self._at_zero = float(experiment.game.losses.discriminator(zeros, zeros))
        self._diverse, self._most_diverse, self._num_logs = False, 0.0, 0
        self._won, self._logs_below = False, 0

    def after_log(self, step: int, values: Mapping[str, float | None]) -> list[Signal]:
        """Returns what the values of a log tell; None is a value that is not finite."""
        counts = self._log_every > 0 and step % self._log_every == 0
        found: list[Signal] = []
        if (diversity := values.get("diversity")) is not None:
            found += self._watch_diversity(step, diversity, counts)
        if counts and values.get("loss/discriminator") is not None:
            numbers = {name: value for name, value in values.items() if value is not None}
            found += self._watch_discriminator(step, numbers)
        return found

    def _watch_diversity(self, step: int, diversity: float, counts: bool) -> Iterator[Signal]:
        """Tells where the samples' diversity falls below 0.1 of the data's, once it was above 0.2.

        At the start every generator draws about the same for all latents: that is no collapse, and is
        told at the end of the run if it never changed.
        """
        was_diverse, details = self._diverse, {"diversity": diversity}
        self._diverse = diversity >= _COLLAPSED and (was_diverse or diversity > _DIVERSE)
        self._most_diverse = max(self._most_diverse, diversity)
        self._num_logs += counts
        if was_diverse and not self._diverse:
            message = (
                f"step {step}: the samples' diversity is {diversity:.2f} of the data's; "
                f"the generator may have collapsed"
            )
            yield Signal("collapse", message, details)
        never = self._num_logs >= _LEAST_LOGS and self._most_diverse <= _DIVERSE
        if step == self._num_steps and never:
            message = (
                f"step {step}: the samples' diversity was never above {_DIVERSE} of the data's, and is "
                f"{diversity:.2f}; the generator has not learnt to draw different examples: try other "
                f"learning rates, or another loss"
            )
            yield Signal("never_diverse", message, details)

    def _watch_discriminator(self, step: int, values: Mapping[str, float]) -> Iterator[Signal]:
        """Tells where its loss of real and fake stays below 1% of that at logits of 0, three logs long.

        It is told again once the loss was above 10%. A loss that is 0 there, such as Wasserstein's,
        says nothing of this.
        """
        added = [
            value
            for name, value in values.items()
            if name == "class_loss"
            or (name.startswith("penalty/") and not name.endswith("/generator"))
        ]
        loss = values["loss/discriminator"] - sum(added)
        self._logs_below = self._logs_below + 1 if abs(loss) < _WON * self._at_zero else 0
        self._won = self._won and loss <= _RECOVERED * self._at_zero
        if self._logs_below >= _WON_LOGS and not self._won:
            self._won = True
            message = (
                f"step {step}: the discriminator has won, its loss is {loss:.2g} (it is "
                f"{self._at_zero:.2g} where it cannot tell real from fake), and the generator learns "
                f"little: try a smaller learning rate for it, a larger one for the generator, or "
                f"regularizers such as r1"
            )
            yield Signal("discriminator_won", message, {"loss": loss})


class Monitor:
    """Checks what comes out of the train step, and remembers what came before.

    Args:
      experiment: The run's parts.
      workdir: Its folder; `metrics.jsonl` in it has what was logged so far.
      step: The step from which the run goes on.
    """

    def __init__(self, experiment: Experiment, workdir: Workdir, step: int) -> None:
        self._workdir, self._policy = workdir, experiment.on_nonfinite
        self._skipped_in_a_row = 0
        self._signals = Signals(experiment)
        for line in logged_lines(workdir.path / "metrics.jsonl", step):
            self._signals.after_log(line["step"], line)

    def check_finite(self, found: NotFinite, step: int, num_steps: int) -> int:
        """Waits for a call of the train step, and records those of its steps that were not finite.

        Args:
          found: The call's output.
          step: The last step before the call.
          num_steps: The number of steps that it made.

        Returns:
          The number of those that were not finite.

        Raises:
          NotFiniteError: where the policy ends the run.
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
            raise NotFiniteError(f"{text}; {self._newest_checkpoint()}. {why}")
        return len(steps)

    def after_log(self, step: int, values: Mapping[str, float]) -> None:
        """Records what the logged values tell: see `Signals`."""
        for event, message, details in self._signals.after_log(step, values):
            self._workdir.record(step, event, message, **details)

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
