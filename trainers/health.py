"""A run's health: steps whose numbers are not finite, and a generator that collapses."""

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

COLLAPSED = 0.1
_RECOVERED = 0.2


def note_not_finite(run: Run, found: NotFinite, step: int) -> int:
    """Waits for a call, and records those of its steps in which something was not finite.

    Args:
      run: The run.
      found: What the call gave.
      step: The last one before the call.

    Returns:
      How many they were.

    Raises:
      RunError: where there are some, and the policy is `raise`; or where it is `skip` and a step
        was made that should not have been.
    """
    skipped, spoilt, causes = jax.device_get(tuple(found))
    if not (skipped | spoilt).any():
        return 0
    steps = (step + 1 + np.flatnonzero(skipped | spoilt)).tolist()
    names = sorted(name for name, bad in causes.items() if bad)
    text = f"step {_ranges(steps)}: {', '.join(names)} not finite"
    record(run.workdir, steps[0], "nonfinite", text, steps=steps, causes=names)
    policy = run.experiment.on_nonfinite
    if isinstance(policy, Raise) or (isinstance(policy, Skip) and spoilt.any()):
        run.checkpoints.wait()
        newest = run.checkpoints.newest()
        saved = f"the newest checkpoint is step {newest.step}" if newest else "none is saved yet"
        hint = (
            "on_nonfinite = 'skip' leaves such steps out, 'rollback' goes back and on with others"
            if isinstance(policy, Raise)
            else f"the update of step {step + 1 + int(spoilt.argmax())} was not, though its "
            f"gradients were: on_nonfinite = 'skip' cannot take it back, 'rollback' can"
        )
        raise RunError(f"{text}; {saved}. {hint}")
    return len(steps)


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
    manifest = next((one for one in run.checkpoints.newest_first() if one.periodic), None)
    older = run.load(run.checkpoints, manifest)[0] if manifest else run.experiment.init_on_mesh()
    begin = manifest.step if manifest else 0
    message = f"going back to step {begin}, and on with other batches and noise"
    record(run.workdir, step, "rollback", message, to=begin, rollbacks=rollbacks + 1)
    return older.replace(rollbacks=state.rollbacks + 1)  # type: ignore[attr-defined]


class Collapse:
    """Warns where the generator's diversity, once there, falls below `COLLAPSED`.

    At the start every generator draws about the same for all latents: that is none.
    """

    def __init__(self, workdir: pathlib.Path) -> None:
        self._workdir = workdir
        self._healthy = False

    def watch(self, step: int, diversity: float) -> None:
        """Looks at what was measured at a step."""
        if self._healthy and diversity < COLLAPSED:
            message = (
                f"step {step}: the samples' diversity is {diversity:.2f} of the data's; "
                f"the generator may have collapsed"
            )
            record(self._workdir, step, "collapse", message, diversity=diversity)
        if diversity < COLLAPSED or diversity > _RECOVERED:
            self._healthy = diversity > _RECOVERED


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
