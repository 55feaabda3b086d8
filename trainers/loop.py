"""The training loop: steps, and at their own periods what hangs on them."""

import contextlib
import dataclasses
import json
import pathlib
import time

import jax
from absl import logging
from clu import metric_writers, parameter_overview, periodic_actions

from gan import pictures
from gan.checkpoints import Checkpoints
from gan.config import TrainConfig, to_json
from gan.errors import UsageError
from gan.evaluation import mixture_scores
from gan.players import ROLES
from gan.sharding import replicated
from gan.state import GANState
from gan.trainers.experiment import Experiment, build
from gan.trainers.sampling import Sampler, draw_picture, make_sampler
from gan.trainers.train_step import Data, make_train_step, scalars
from gan.trainers.writers import create_writer

_NUM_SAMPLES = 64  # in a grid
_NUM_POINTS = 2_500  # in a picture of points, and in an evaluation
_MAY_CHANGE = {"num_steps", "data_dir", "mesh"} | {
    field.name for field in dataclasses.fields(TrainConfig) if field.name.endswith("_every_steps")
}


def train(config: TrainConfig, workdir: str | pathlib.Path, *, profile: bool = False) -> GANState:
    """Trains from the newest checkpoint in `workdir`, or from scratch, to `config.num_steps`.

    Args:
      config: What to train.
      workdir: The run's folder, made where it is missing.
      profile: Whether to write a profile of some early steps, for TensorBoard.

    Returns:
      The state at the end.

    Raises:
      UsageError: before anything is written, where the config or the folder will not do.
    """
    workdir = pathlib.Path(workdir)
    experiment = build(config)
    _check_same_run(config, workdir)
    data = jax.device_put(tuple(experiment.dataset.load()), replicated(experiment.mesh))
    _prepare(workdir, config)
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.latest_step() or 0
        if step:
            state = checkpoints.restore(step, experiment.state_target())
            logging.info("resuming %s at step %d", workdir, step)
        else:
            state = experiment.init_on_mesh()
        if step >= config.num_steps:
            logging.info("%s is complete: %d of %d steps", workdir, step, config.num_steps)
            return state
        writer = create_writer(workdir, step)
        with contextlib.closing(writer):
            return _run(experiment, state, data, checkpoints, writer, workdir, profile)


def _run(
    experiment: Experiment,
    state: GANState,
    data: Data,
    checkpoints: Checkpoints,
    writer: metric_writers.MetricWriter,
    workdir: pathlib.Path,
    profile: bool,
) -> GANState:
    config = experiment.config
    step = int(state.step)
    logging.info("%s", _overview(experiment, state))
    train_step, sampler = make_train_step(experiment), make_sampler(experiment)
    begin = time.monotonic()
    state, metrics = train_step(state, data, 0)  # compiles, and makes no step
    logging.info("compiled in %.1f s; training from step %d", time.monotonic() - begin, step)
    hooks = _hooks(config, workdir, step, profile)
    window_start, window_time = step, time.monotonic()
    values: dict[str, float] = {}
    while step < config.num_steps:
        stop = _next_stop(config, step)
        state, call_metrics = train_step(state, data, stop - step)
        metrics = metrics.merge(call_metrics)
        step = stop
        if _due(step, config.log_every_steps) or step == config.num_steps:
            values = scalars(metrics)
            now = time.monotonic()
            images = (step - window_start) * config.batch_size * experiment.dynamics.num_batches
            values["images_per_second"] = images / (now - window_time)
            writer.write_scalars(step, values)
            metrics, window_start, window_time = metrics.empty(), step, now
        if _due(step, config.sample_every_steps):
            _write_samples(experiment, sampler, state, writer, workdir)
        if _due(step, config.eval_every_steps):
            points, _ = sampler(state, _NUM_POINTS, config.seed)
            scores = mixture_scores(points, experiment.dataset.mixture)
            writer.write_scalars(step, {f"eval/{name}": x for name, x in scores.items()})
        if _due(step, config.checkpoint_every_steps) or step == config.num_steps:
            writer.flush()
            checkpoints.save(step, state, dataclasses.asdict(config), values)
        for hook in hooks:
            hook(step)
    checkpoints.wait()
    logging.info("%s is complete: %d of %d steps", workdir, step, config.num_steps)
    return state


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _next_stop(config: TrainConfig, step: int) -> int:
    """The next step after which something has to happen."""
    periods = [
        config.log_every_steps,
        config.sample_every_steps,
        config.eval_every_steps,
        config.checkpoint_every_steps,
    ]
    return min([config.num_steps, *(step - step % every + every for every in periods if every)])


def _hooks(
    config: TrainConfig, workdir: pathlib.Path, step: int, profile: bool
) -> list[periodic_actions.PeriodicAction]:
    hooks = [periodic_actions.ReportProgress(num_train_steps=config.num_steps, every_secs=15)]
    if profile:
        first = _next_stop(config, step)
        hooks.append(periodic_actions.Profile(logdir=str(workdir), first_profile=first))
    for hook in hooks:
        hook(step)  # starts their clocks
    return hooks


def _overview(experiment: Experiment, state: GANState) -> str:
    """What is trained, in a few lines and two tables."""
    config = experiment.config
    parts = [
        f"{config.dataset}: examples of {' x '.join(map(str, experiment.dataset.shape))}, "
        f"batches of {config.batch_size} on {experiment.mesh.size} "
        f"{jax.default_backend()} device(s), dynamics {config.dynamics}"
    ]
    for role in ROLES:
        table = parameter_overview.get_parameter_overview(
            state.players.of(role).params, include_stats=False
        )
        spec, optimizer = getattr(config, role), getattr(config, f"{role}_optimizer")
        parts.append(f"{role}: {spec}, {optimizer}\n{table}")
    return "\n".join(parts)


def _write_samples(
    experiment: Experiment,
    sampler: Sampler,
    state: GANState,
    writer: metric_writers.MetricWriter,
    workdir: pathlib.Path,
) -> None:
    """A picture of the same latents each time, as a file and in TensorBoard."""
    step = int(state.step)
    count = _NUM_SAMPLES if len(experiment.dataset.shape) == 3 else _NUM_POINTS
    picture = draw_picture(experiment, sampler(state, count, experiment.config.seed)[0])
    pictures.write_png(workdir / "samples" / f"step_{step:08d}.png", picture)
    writer.write_images(step, {"samples": picture[None]})


def _check_same_run(config: TrainConfig, workdir: pathlib.Path) -> None:
    """Refuses to go on with a run under another config, but for what does not change its course."""
    path = workdir / "config.json"
    if not path.exists():
        return
    old, new = json.loads(path.read_text()), json.loads(to_json(config))
    changes = [
        f"{name} was {old.get(name)!r} and is now {value!r}"
        for name, value in new.items()
        if name not in _MAY_CHANGE and old.get(name) != value
    ]
    if changes:
        raise UsageError(
            f"--workdir={workdir} holds a run with another config: {'; '.join(changes)}. "
            f"Go on with the old config, or choose another workdir"
        )


def _prepare(workdir: pathlib.Path, config: TrainConfig) -> None:
    """Makes the run's folder and writes the config into it."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        beside = workdir / "config.json.tmp"
        beside.write_text(to_json(config))
        beside.replace(workdir / "config.json")
    except OSError as error:
        raise UsageError(f"--workdir={workdir} cannot be written: {error.strerror}") from error
