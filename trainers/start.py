"""Where a run starts: from its own newest checkpoint, from another run's, or from nothing."""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import jax
from absl import logging

from gan.checkpoints import Checkpoints
from gan.config import TrainConfig, from_mapping
from gan.errors import UsageError
from gan.manifests import DamageError, Manifest
from gan.sharding import agree, barrier
from gan.state import GANState
from gan.trainers.history import record
from gan.trainers.run import Run
from gan.trainers.transfer import OPTIMIZER_KEYS, difference
from gan.trainers.workdir import read_config

# What does not change the course of a run.
_MAY_CHANGE = {
    "num_steps", "data_dir", "data_placement", "mesh", "on_nonfinite", "keep_checkpoints",
    "eval_num_images", "eval_features",
} | {
    field.name for field in dataclasses.fields(TrainConfig) if field.name.endswith("_every_steps")
}  # fmt: skip


class Start(NamedTuple):
    """Where a run starts.

    Attributes:
      state: To go on from.
      to_save: Whether no checkpoint of this run has it: it came from another run, or from another
        optimizer. A rollback must find it, so that it is saved before the first step, and not
        before that is certain to come.
    """

    state: GANState
    to_save: bool


def start(run: Run, init_from: str | None = None) -> Start:
    """The state from which a run goes on.

    Args:
      run: The run.
      init_from: `OTHER_WORKDIR` or `OTHER_WORKDIR@STEP`, for a folder without checkpoints.

    Raises:
      UsageError: where the config is another in what cannot change, or there is no such run to
        start from.
    """
    if jax.process_index() == 0:
        run.checkpoints.tidy()
    barrier("tidy")
    resumed = run.checkpoints.first_that(lambda manifest: _resume(run, manifest))
    if resumed is not None:
        _say_ignored(run, resumed, init_from)
        return resumed
    if steps := run.checkpoints.all_steps():
        if (old := read_config(run.workdir)) is not None:
            _check_same_run(run, old, _MAY_CHANGE)
        message = f"no checkpoint in {run.workdir} can be trusted: starting anew, and leaving them"
        record(run.workdir, 0, "lost", message, steps=steps)
    if init_from:
        return _branch(run, init_from)
    record(run.workdir, 0, "start", f"starting {run.workdir}")
    return Start(run.experiment.init_on_mesh(), to_save=False)


def _say_ignored(run: Run, resumed: Start, init_from: str | None) -> None:
    step, num_steps = int(resumed.state.step), run.experiment.config.num_steps
    if init_from:
        logging.warning("--init_from=%s is for a new run: %s has its own", init_from, run.workdir)
    if step < num_steps and (newer := [one for one in run.checkpoints.all_steps() if one > step]):
        passed = ", ".join(map(str, newer))
        message = f"passed over what cannot be trusted in {run.workdir}/checkpoints: {passed}"
        record(run.workdir, step, "passed_over", message, steps=newer)


def _resume(run: Run, manifest: Manifest) -> Start:
    old, step = from_mapping(manifest.config), manifest.step
    _check_same_run(run, old, _MAY_CHANGE | OPTIMIZER_KEYS)
    state, lines = run.load(run.checkpoints, manifest)
    if step < run.experiment.config.num_steps:
        record(run.workdir, step, "resume", f"resuming {run.workdir} at step {step}")
        _record_changes(run, step, old, lines)
    elif lines:
        logging.warning("%s is complete, and stays as it was: %s", run.workdir, "; ".join(lines))
    return Start(state, to_save=bool(lines) and step < run.experiment.config.num_steps)


def _branch(run: Run, init_from: str) -> Start:
    name, at, number = init_from.rpartition("@")
    source, step = (name, int(number)) if at and number.isdigit() else (init_from, None)
    if not pathlib.Path(source).is_dir():
        raise UsageError(f"--init_from={init_from}: there is no folder {source}")
    with Checkpoints(source) as checkpoints:
        steps = checkpoints.all_steps()
        if not steps or (step is not None and step not in steps):
            there = ", ".join(map(str, steps)) or "none"
            raise UsageError(f"--init_from={init_from}: the checkpoints there are {there}")
        if step is None:
            newest = checkpoints.newest()
            step = agree(newest.step if newest else steps[-1])  # others may be saved meanwhile
        if step >= run.experiment.config.num_steps:
            raise UsageError(
                f"--init_from={init_from}: it goes on from step {step}, and num_steps = "
                f"{run.experiment.config.num_steps} is where the run ends"
            )
        try:
            manifest = checkpoints.verify(step)
            state, lines = run.load(checkpoints, manifest)
        except DamageError as damage:
            raise UsageError(
                f"--init_from={init_from}: step {step} cannot be trusted: {damage}"
            ) from damage
    message = f"branching from {source} at step {step}"
    record(run.workdir, step, "branch", message, state=manifest.state)
    _record_changes(run, step, from_mapping(manifest.config), lines)
    return Start(state, to_save=True)


def _check_same_run(run: Run, old: TrainConfig, may_change: set[str]) -> None:
    lines = difference(old, run.experiment.config)
    changes = [line for key, line in lines.items() if key not in may_change]
    if changes:
        raise UsageError(
            f"--workdir={run.workdir} holds a run with another config: {'; '.join(changes)}. Go on "
            f"with the old config, or choose another workdir; --init_from={run.workdir} starts a "
            f"run there from this one's state"
        )


def _record_changes(run: Run, step: int, old: TrainConfig, lines: Iterable[str]) -> None:
    for line in (*difference(old, run.experiment.config).values(), *lines):
        record(run.workdir, step, "change", line)
