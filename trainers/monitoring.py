"""Watches a run: steps whose numbers are not finite, and a generator that collapses."""

import jax
import numpy as np

from gan.errors import RunError
from gan.nonfinite import OnNonfinite
from gan.trainers.metric_writers import logged_values
from gan.trainers.train_step import NotFinite
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
        for diversity in logged_values(workdir.path / "metrics.jsonl", "diversity", step):
            self._collapses(diversity)

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
