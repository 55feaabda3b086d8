"""Where a run starts: from its own newest checkpoint, from another run's, or from nothing."""

import dataclasses
import pathlib
from collections.abc import Iterable

from gan.checkpoints import Checkpoints, Manifest
from gan.config import TrainConfig, from_mapping
from gan.errors import UsageError
from gan.state import GANState
from gan.trainers.experiment import Experiment, build
from gan.trainers.history import record
from gan.trainers.transfer import difference, transfer
from gan.trainers.workdir import read_config

# What does not change the course of a run, and what `transfer` takes care of.
_MAY_CHANGE = {"num_steps", "data_dir", "mesh", "on_nonfinite", "keep_checkpoints"} | {
    field.name for field in dataclasses.fields(TrainConfig) if field.name.endswith("_every_steps")
}
_BY_CHOICE = {"generator_optimizer", "discriminator_optimizer", "dynamics"}


def start(
    experiment: Experiment,
    workdir: pathlib.Path,
    checkpoints: Checkpoints,
    init_from: str | None = None,
    on_optimizer_change: str = "refuse",
) -> GANState:
    """The state from which a run goes on.

    Args:
      experiment: The run's parts.
      workdir: Its folder, locked.
      checkpoints: In it.
      init_from: `OTHER_WORKDIR` or `OTHER_WORKDIR@STEP`, for a folder without checkpoints.
      on_optimizer_change: What becomes of the state of an optimizer or dynamics that changed.

    Raises:
      UsageError: where the config is another in what cannot change, or there is no such run to
        start from.
    """
    checkpoints.tidy()
    newest = checkpoints.newest()
    if newest is not None:
        if init_from:
            record(
                workdir, newest.step, "resume", f"--init_from={init_from} was for the first start"
            )
        return _resume(experiment, workdir, checkpoints, newest, on_optimizer_change)
    if steps := checkpoints.all_steps():
        old = read_config(workdir)
        if old is not None:
            _check_same_run(workdir, old, experiment.config, _MAY_CHANGE)
        lost = (
            f"no checkpoint in {workdir} can be trusted; the run starts anew, and leaves them there"
        )
        record(workdir, 0, "lost", lost, steps=steps)
    if init_from:
        return _branch(experiment, workdir, init_from, on_optimizer_change)
    state = experiment.init_on_mesh()
    record(workdir, 0, "start", f"starting {workdir}")
    return state


def _resume(
    experiment: Experiment,
    workdir: pathlib.Path,
    checkpoints: Checkpoints,
    manifest: Manifest,
    on_optimizer_change: str,
) -> GANState:
    config, old = experiment.config, from_mapping(manifest.config)
    _check_same_run(workdir, old, config, _MAY_CHANGE | _BY_CHOICE)
    state, lines = _load(experiment, checkpoints, manifest, on_optimizer_change)
    complete = manifest.step >= config.num_steps
    if not complete:
        record(workdir, manifest.step, "resume", f"resuming {workdir} at step {manifest.step}")
        _record_changes(workdir, manifest.step, difference(old, config).values(), lines)
    return state


def _branch(
    experiment: Experiment, workdir: pathlib.Path, init_from: str, on_optimizer_change: str
) -> GANState:
    name, at, number = init_from.rpartition("@")
    source, step = (name, int(number)) if at and number.isdigit() else (init_from, None)
    with Checkpoints(source) as checkpoints:
        steps = checkpoints.all_steps()
        if step is not None and step not in steps:
            there = ", ".join(map(str, steps)) or "none"
            raise UsageError(f"--init_from={init_from}: saved are {there}")
        manifest = next(checkpoints.newest_first(at_most=step), None)
        if manifest is None or (step is not None and manifest.step != step):
            raise UsageError(f"--init_from={init_from}: no checkpoint there can be trusted")
        state, lines = _load(experiment, checkpoints, manifest, on_optimizer_change)
    record(workdir, manifest.step, "branch", f"branching from {source} at step {manifest.step}",
           state=manifest.state)  # fmt: skip
    changes = difference(from_mapping(manifest.config), experiment.config).values()
    _record_changes(workdir, manifest.step, changes, lines)
    return state


def _load(
    experiment: Experiment, checkpoints: Checkpoints, manifest: Manifest, on_optimizer_change: str
) -> tuple[GANState, list[str]]:
    """A checkpoint's state as this experiment wants it, and what became of its parts."""
    config = dataclasses.replace(
        from_mapping(manifest.config),
        mesh=experiment.config.mesh,
        data_dir=experiment.config.data_dir,
    )
    if not difference(config, experiment.config).keys() - _MAY_CHANGE:
        return checkpoints.restore(manifest, experiment.state_target()), []
    batch_size = experiment.config.batch_size  # must suit this mesh, and is no part of the state
    old = build(dataclasses.replace(config, batch_size=batch_size))
    return transfer(
        checkpoints.restore(manifest, old.state_target()), old, experiment, on_optimizer_change
    )


def _check_same_run(
    workdir: pathlib.Path, old: TrainConfig, new: TrainConfig, may_change: set[str]
) -> None:
    changes = [line for key, line in difference(old, new).items() if key not in may_change]
    if changes:
        raise UsageError(
            f"--workdir={workdir} holds a run with another config: {'; '.join(changes)}. "
            f"Go on with the old config, choose another workdir, or start one from this run's "
            f"state with --init_from={workdir}"
        )


def _record_changes(
    workdir: pathlib.Path, step: int, changes: Iterable[str], lines: Iterable[str]
) -> None:
    for line in (*changes, *lines):
        record(workdir, step, "change", line)
