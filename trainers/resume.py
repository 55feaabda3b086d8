"""The state that a run goes on from: its own checkpoint's, another run's, or a new one; and loading it."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
from absl import logging

from gan import parts
from gan.checkpoints import Checkpoints, DamageError, Manifest
from gan.config import SETTINGS, OnResume, TrainConfig, difference, from_mapping
from gan.data import description
from gan.data.description import Description
from gan.errors import NotFiniteError, RunError, UsageError
from gan.files import user_path
from gan.players import ROLES
from gan.run_folder import check_plain
from gan.sharding import agree, barrier
from gan.state import GANState
from gan.trainers.experiment import Experiment, build
from gan.trainers.state_transfer import transfer
from gan.trainers.workdir import Workdir, read_config


class Start(NamedTuple):
    """Where a run starts.

    Attributes:
      state: The state to go on from.
      to_save: Whether no checkpoint of this run has that state, since it is from another run or
        another optimizer. A rollback must find it, so it is saved once the first step is certain to
        be made.
    """

    state: GANState
    to_save: bool


@dataclasses.dataclass(frozen=True)
class Origin:
    """The other run that a new one starts from.

    Attributes:
      init_from: `OTHER_WORKDIR` or `OTHER_WORKDIR@STEP`.
      on_shape_mismatch: `refuse` networks with other parameters, or `reset` those that do not fit.
      reset_step: Whether the steps are counted anew, and not from the other run's.
    """

    init_from: str
    on_shape_mismatch: str = "refuse"
    reset_step: bool = False


def start(
    experiment: Experiment,
    workdir: Workdir,
    origin: Origin | None = None,
    on_optimizer_change: str = "refuse",
) -> Start:
    """Finds the state that a run goes on from.

    Args:
      experiment: The run.
      workdir: Its folder.
      origin: The other run to start from, for a folder without checkpoints.
      on_optimizer_change: One of `gan.trainers.state_transfer.ON_OPTIMIZER_CHANGE`.

    Raises:
      UsageError: where the config differs in what cannot change, or there is no such run to start
        from.
    """
    checkpoints = workdir.checkpoints
    if jax.process_index() == 0:
        checkpoints.clean_up()
    barrier("cleaned up")

    def resume(manifest: Manifest) -> Start:
        return _resume(experiment, workdir, manifest, on_optimizer_change)

    resumed = checkpoints.first_valid(resume)
    if resumed is not None:
        _report_ignored(experiment, workdir, int(resumed.state.step), origin)
        return resumed
    if steps := checkpoints.all_steps():
        if (old := read_config(workdir.path)) is not None:
            _check_same_run(experiment, workdir, old, {OnResume.ALLOW})
        message = f"no checkpoint in {workdir.path} can be trusted: starting anew, and leaving them"
        workdir.record(0, "lost", message, steps=steps)
    if origin is not None:
        return _branch(experiment, workdir, origin, on_optimizer_change)
    workdir.record(0, "start", f"starting {workdir.path}")
    return Start(experiment.init_on_mesh(), to_save=False)


def load_state(
    checkpoints: Checkpoints,
    manifest: Manifest,
    experiment: Experiment,
    on_optimizer_change: str = "refuse",
    on_shape_mismatch: str = "refuse",
) -> tuple[GANState, list[str]]:
    """Loads a checkpoint, of any run, so that an experiment can go on from it.

    Args:
      checkpoints: Where it is.
      manifest: The checkpoint's, verified.
      experiment: The run that goes on from it.
      on_optimizer_change: One of `gan.trainers.state_transfer.ON_OPTIMIZER_CHANGE`.
      on_shape_mismatch: One of `ON_SHAPE_MISMATCH` there.

    Returns:
      The state, and a line for each part of it that is not as it was saved.

    Raises:
      UsageError: where it does not suit the experiment.
      DamageError: where it is damaged.
    """
    config, data = from_mapping(manifest.config), data_of(manifest)
    changed = data_changes(data, experiment)
    config = dataclasses.replace(  # the state does not depend on these keys
        config,
        mesh=experiment.config.mesh,
        data_dir=experiment.config.data_dir,
        batch_size=experiment.config.batch_size,
        dataset=config.dataset if changed is None else experiment.config.dataset,
    )
    in_state = any(SETTINGS[key].in_state for key in difference(config, experiment.config))
    if not changed and not in_state:
        return checkpoints.restore(manifest, experiment.state_target()), []
    names = parts.load_saved(config.parts, manifest.parts, experiment.config.parts)
    old = build(dataclasses.replace(config, parts=names), data)
    state = checkpoints.restore(manifest, old.state_target())
    try:
        return transfer(state, old, experiment, on_optimizer_change, on_shape_mismatch)
    except UsageError as error:
        raise UsageError("; ".join([str(error), *_of_data(changed)])) from error


def load_step(
    checkpoints: Checkpoints, step: int | None, given: Sequence[str] = ()
) -> tuple[Experiment, GANState]:
    """Loads the checkpoint of a step, or the newest valid one, onto this machine's first device.

    Args:
      checkpoints: Those of the run.
      step: The step; None is the newest.
      given: Files and modules with parts that the user names; see `gan.parts.load_saved`.

    Raises:
      UsageError: where there is no such checkpoint, or its parts cannot be used.
      RunError: where it is damaged.
    """
    steps, folder = checkpoints.all_steps(), checkpoints.workdir
    if not steps:
        raise UsageError(f"--workdir={folder}: no checkpoint is saved there yet")

    def load(manifest: Manifest) -> tuple[Experiment, GANState]:
        return load_run(checkpoints, manifest, given)

    if step is None:
        # A run under way may replace a checkpoint after it was found: hence a second try.
        if (loaded := checkpoints.first_valid(load) or checkpoints.first_valid(load)) is None:
            raise RunError(f"no checkpoint in {folder} can be trusted")
        return loaded
    if step not in steps:
        raise UsageError(f"--step={step}: saved are {', '.join(map(str, steps))}")
    try:
        return load(checkpoints.verify(step))
    except DamageError as damage:
        raise RunError(f"checkpoint {step} of {folder} cannot be trusted: {damage}") from damage


def load_run(
    checkpoints: Checkpoints, manifest: Manifest, given: Sequence[str] = ()
) -> tuple[Experiment, GANState]:
    """Loads a checkpoint with the parts that its config names, onto this machine's first device.

    Args:
      checkpoints: Those of the run.
      manifest: The checkpoint's, verified.
      given: Files and modules with parts that the user names; see `gan.parts.load_saved`.

    Raises:
      UsageError: where its parts cannot be used.
      DamageError: where it is damaged.
    """
    config, data = from_mapping(manifest.config), data_of(manifest)
    names = parts.load_saved(config.parts, manifest.parts, given)
    experiment = build(dataclasses.replace(config, parts=names, mesh="data(1)"), data)
    return experiment, load_state(checkpoints, manifest, experiment)[0]


def data_of(manifest: Manifest) -> Description | None:
    """Returns what a checkpoint says of its data; None where it is older than such descriptions.

    Raises:
      DamageError: where that is no description.
    """
    try:
        return description.from_mapping(manifest.data) if manifest.data else None
    except ValueError as error:
        raise DamageError(f"manifest.json: {error}") from error


def data_changes(old: Description | None, experiment: Experiment) -> list[str] | None:
    """Returns how an experiment's data differ from those of a checkpoint; None where that is unknown."""
    if old is None or experiment.data is None:
        return None
    return description.changes(old, experiment.data)


def _of_data(changed: list[str] | None) -> list[str]:
    return [f"the data have changed: {', '.join(changed)}"] if changed else []


def roll_back(
    experiment: Experiment, workdir: Workdir, state: GANState, on_optimizer_change: str = "refuse"
) -> GANState:
    """Returns the state to go on from after a step that was not finite, under `rollback`.

    It is that of the newest periodic checkpoint, with other batches and noise from there on. Both
    are the same whether or not the run was stopped in between.

    Args:
      experiment: The run.
      workdir: Its folder.
      state: The state after the step that was not finite.
      on_optimizer_change: One of `gan.trainers.state_transfer.ON_OPTIMIZER_CHANGE`, for a checkpoint
        from before the change.

    Raises:
      NotFiniteError: where the run went back as often as the policy allows.
    """
    rollbacks, step, checkpoints = int(state.rollbacks), int(state.step), workdir.checkpoints
    if rollbacks >= experiment.on_nonfinite.max_rollbacks:
        raise NotFiniteError(
            f"step {step}: the run went back {rollbacks} times already, and on_nonfinite = "
            f"{experiment.config.on_nonfinite!r} allows no more"
        )
    checkpoints.wait()
    barrier("rollback")

    def load(manifest: Manifest) -> GANState | None:
        if not manifest.periodic:
            return None
        return load_state(checkpoints, manifest, experiment, on_optimizer_change)[0]

    older = checkpoints.first_valid(load)
    if older is None:
        older = experiment.init_on_mesh()
    begin = int(older.step)
    barrier("read")
    if jax.process_index() == 0:  # they lead to where the run could not go on
        checkpoints.delete_after(begin)
    message = f"going back to step {begin}, and on with other batches and noise"
    workdir.record(step, "rollback", message, to=begin, rollbacks=rollbacks + 1)
    return older.replace(rollbacks=state.rollbacks + 1)  # type: ignore[attr-defined]


def _resume(
    experiment: Experiment, workdir: Workdir, manifest: Manifest, on_optimizer_change: str
) -> Start:
    """Goes on from the run's own checkpoint."""
    old, step, num_steps = from_mapping(manifest.config), manifest.step, experiment.config.num_steps
    changed = data_changes(data_of(manifest), experiment)
    same_data = {OnResume.SAME_DATA} if changed == [] else set()
    _check_same_run(
        experiment, workdir, old, {OnResume.ALLOW, OnResume.TRANSFER} | same_data, changed
    )
    state, changes = load_state(workdir.checkpoints, manifest, experiment, on_optimizer_change)
    if step < num_steps:
        message = f"resuming {workdir.path} at step {step}{_schedules(experiment, step)}"
        workdir.record(step, "resume", message)
        _record_changes(experiment, workdir, manifest, changes)
    elif changes:
        logging.warning("%s is complete, and stays as it was: %s", workdir.path, "; ".join(changes))
    return Start(state, to_save=bool(changes) and step < num_steps)


def _branch(
    experiment: Experiment, workdir: Workdir, origin: Origin, on_optimizer_change: str
) -> Start:
    """Starts from the checkpoint of another run."""
    init_from = origin.init_from
    name, at, number = init_from.rpartition("@")
    given, step = (name, int(number)) if at and number.isdigit() else (init_from, None)
    source = user_path(given)
    if not source.is_dir():
        raise UsageError(f"--init_from={init_from}: there is no folder {source}")
    check_plain(source)
    with Checkpoints(source) as checkpoints:
        steps = checkpoints.all_steps()
        if not steps or (step is not None and step not in steps):
            known = ", ".join(map(str, steps)) or "none"
            raise UsageError(f"--init_from={init_from}: the checkpoints there are {known}")
        if step is None:
            newest = checkpoints.newest()
            step = agree(newest.step if newest else steps[-1])  # others may be saved meanwhile
        if step >= experiment.config.num_steps and not origin.reset_step:
            raise UsageError(
                f"--init_from={init_from}: it goes on from step {step}, and num_steps = "
                f"{experiment.config.num_steps} is where the run ends; --reset_step counts anew"
            )
        try:
            manifest = checkpoints.verify(step)
            state, changes = load_state(
                checkpoints, manifest, experiment, on_optimizer_change, origin.on_shape_mismatch
            )
        except DamageError as damage:
            raise UsageError(
                f"--init_from={init_from}: step {step} cannot be trusted: {damage}"
            ) from damage
    if origin.reset_step:
        begin = experiment.init_on_mesh()
        state = dataclasses.replace(state, step=begin.step, rollbacks=begin.rollbacks)
    first = int(state.step)
    message = f"branching from {source} at step {step}{_schedules(experiment, first)}"
    workdir.record(first, "branch", message, state=manifest.state)
    changes += _of_data(data_changes(data_of(manifest), experiment))
    _record_changes(experiment, workdir, manifest, changes)
    return Start(state, to_save=True)


def _schedules(experiment: Experiment, step: int) -> str:
    """Says where the schedules stand, if there are any."""
    stand = [
        f"{kind.replace('_', ' ')} of the {role}{slash and f' ({part})'} {value:.4g}"
        for role in ROLES
        if (rates := experiment.rates.of(role)).has_schedule
        for name, value in rates.at(step).items()
        for kind, slash, part in [name.partition("/")]
    ]
    return f"; by the schedules, {', '.join(stand)}" if stand else ""


def _check_same_run(
    experiment: Experiment,
    workdir: Workdir,
    old: TrainConfig,
    accepted: set[OnResume],
    data_changes: list[str] | None = None,
) -> None:
    """Raises UsageError where a key differs that may not, by its `on_resume`, or the data do."""
    lines = difference(old, experiment.config)
    changes = [line for key, line in lines.items() if SETTINGS[key].on_resume not in accepted]
    changes += _of_data(data_changes)
    if changes:
        raise UsageError(
            f"--workdir={workdir.path} holds another run: {'; '.join(changes)}. Go on "
            f"with the old config and data, or choose another workdir; --init_from={workdir.path} starts a "
            f"run there from this one's state"
        )


def _report_ignored(
    experiment: Experiment, workdir: Workdir, step: int, origin: Origin | None
) -> None:
    """Says what a resumed run has not used: `--init_from`, and newer checkpoints."""
    if origin is not None:
        source = origin.init_from
        logging.warning("--init_from=%s is for a new run: %s has its own", source, workdir.path)
    newer = [other for other in workdir.checkpoints.all_steps() if other > step]
    if newer and step < experiment.config.num_steps:
        passed_over = ", ".join(map(str, newer))
        message = f"passed over what cannot be trusted in {workdir.path}/checkpoints: {passed_over}"
        workdir.record(step, "passed_over", message, steps=newer)


def _record_changes(
    experiment: Experiment, workdir: Workdir, manifest: Manifest, changes: Iterable[str]
) -> None:
    keys = difference(from_mapping(manifest.config), experiment.config).values()
    sources = parts.changes(manifest.parts, experiment.parts)
    old, new = manifest.convolutions, experiment.convolutions
    if old not in ("", new):
        changes = [
            *changes,
            f"convolutions were computed by {old}, and are by {new}: not bit by bit alike",
        ]
    for line in (*keys, *sources, *changes):
        workdir.record(manifest.step, "change", line)
