"""A run's health: steps whose numbers are not finite, and a generator that collapses."""

import contextlib
import json
import pathlib

import jax
import numpy as np

from gan.errors import RunError
from gan.nonfinite import Raise, Rollback, Skip
from gan.sharding import barrier
from gan.state import GANState
from gan.trainers.history import record
from gan.trainers.run import Run
from gan.trainers.train_step import NotFinite

_COLLAPSED, _DIVERSE = 0.1, 0.2


class Health:
    """Looks at what comes out of the step, and knows what it has seen.

    Args:
      run: The run; its `metrics.jsonl` says how diverse the samples were so far.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._in_a_row = 0
        self._diverse = False
        for diversity in _logged(run.workdir / "metrics.jsonl", "diversity"):
            self._collapses(diversity)

    def note_not_finite(self, found: NotFinite, step: int, num_steps: int) -> int:
        """Waits for a call, and records those of its steps in which something was not finite.

        Args:
          found: What the call gave.
          step: The last one before the call.
          num_steps: How many it made.

        Returns:
          How many they were.

        Raises:
          RunError: where the policy says that the run ends here.
        """
        skipped, spoilt, causes = jax.device_get(tuple(found))
        skipped, spoilt = skipped[:num_steps], spoilt[:num_steps]
        made = np.flatnonzero(~skipped)
        self._in_a_row = num_steps - 1 - made[-1] if len(made) else self._in_a_row + num_steps
        if not (skipped | spoilt).any():
            return 0
        steps = (step + 1 + np.flatnonzero(skipped | spoilt)).tolist()
        names = sorted(name for name, bad in causes.items() if bad)
        text = f"step {_ranges(steps)}: {', '.join(names)} not finite"
        record(self._run.workdir, steps[0], "nonfinite", text, steps=steps, causes=names)
        if (reason := self._reason_to_end(spoilt.any())) is not None:
            self._run.checkpoints.wait()
            newest = self._run.checkpoints.newest()
            saved = (
                f"the newest checkpoint is step {newest.step}"
                if newest
                else "no checkpoint is saved yet"
            )
            raise RunError(f"{text}; {saved}. {reason}")
        return len(steps)

    def _reason_to_end(self, spoilt: bool) -> str | None:
        match self._run.experiment.on_nonfinite:
            case Raise() | Skip() if spoilt:
                return (
                    "the update overflowed, though its gradient did not: a smaller learning rate, or "
                    "on_nonfinite = 'rollback', which goes back and on with other batches"
                )
            case Raise():
                return (
                    "on_nonfinite = 'skip' leaves such steps out, 'rollback' goes back and on with "
                    "other batches"
                )
            case Skip(in_a_row) if self._in_a_row >= in_a_row:
                return f"on_nonfinite = 'skip' ends the run after {in_a_row} such steps in a row"
        return None

    def watch(self, step: int, diversity: float) -> None:
        """Warns where the samples' diversity, once above 0.2 of the data's, falls below 0.1.

        At the start every generator draws about the same for all latents: that is no collapse.
        """
        if self._collapses(diversity):
            message = (
                f"step {step}: the samples' diversity is {diversity:.2f} of the data's; "
                f"the generator may have collapsed"
            )
            record(self._run.workdir, step, "collapse", message, diversity=diversity)

    def _collapses(self, diversity: float) -> bool:
        was_diverse = self._diverse
        self._diverse = diversity >= _COLLAPSED and (was_diverse or diversity > _DIVERSE)
        return was_diverse and not self._diverse


def go_back(run: Run, state: GANState) -> GANState:
    """The state to go on from after a step that was not finite, under `rollback`.

    It is that of the newest periodic checkpoint, with batches and noise of its own: the same
    whether or not the run was stopped since.

    Raises:
      RunError: where that was done as often as the policy allows.
    """
    policy, rollbacks, step = run.experiment.on_nonfinite, int(state.rollbacks), int(state.step)
    assert isinstance(policy, Rollback)
    if rollbacks >= policy.times:
        raise RunError(
            f"step {step}: the run went back {rollbacks} times already, and on_nonfinite = "
            f"{run.experiment.config.on_nonfinite!r} allows no more"
        )
    run.checkpoints.wait()
    barrier("rollback")
    older = run.checkpoints.first_that(
        lambda manifest: run.load(run.checkpoints, manifest)[0] if manifest.periodic else None
    )
    if older is None:
        older = run.experiment.init_on_mesh()
    begin = int(older.step)
    barrier("read")
    if jax.process_index() == 0:  # they lead to where the run could not go on
        run.checkpoints.delete_after(begin)
    message = f"going back to step {begin}, and on with other batches and noise"
    record(run.workdir, step, "rollback", message, to=begin, rollbacks=rollbacks + 1)
    return older.replace(rollbacks=state.rollbacks + 1)  # type: ignore[attr-defined]


def _logged(path: pathlib.Path, name: str) -> list[float]:
    """The values of a metric that were logged so far."""
    if not path.exists():
        return []
    values = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(
            ValueError, TypeError, KeyError
        ):  # cut short by a crash; no number
            values.append(float(json.loads(line)[name]))
    return values


def _ranges(steps: list[int]) -> str:
    """Numbers in order, those that follow one another as `first-last`."""
    texts: list[str] = []
    begin = 0
    for place, step in enumerate(steps):
        if place + 1 == len(steps) or steps[place + 1] != step + 1:
            first = steps[begin]
            texts.append(str(first) if first == step else f"{first}-{step}")
            begin = place + 1
    return ", ".join(texts)
