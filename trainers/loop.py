"""The training loop: steps, and at their own periods what hangs on them."""

import contextlib
import dataclasses
import importlib
import pathlib
import time
from concurrent import futures

import jax
from absl import logging
from clu import parameter_overview

from gan import pictures
from gan.checkpoints import Checkpoints
from gan.config import TrainConfig
from gan.data.batches import check_indices
from gan.players import ROLES
from gan.sharding import replicated
from gan.state import GANState
from gan.trainers.experiment import Experiment, build
from gan.trainers.sampling import draw_samples, evaluate, make_sampler
from gan.trainers.train_step import Data, make_train_step, scalars
from gan.trainers.workdir import check_same_run, check_writable, prepare


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
    check_same_run(workdir, config)
    check_writable(workdir)
    examples = experiment.dataset.load()
    check_indices(len(examples.labels), config.batch_size)
    prepare(workdir, config)
    data = jax.device_put(tuple(examples), replicated(experiment.mesh))
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
        return _run(experiment, state, data, checkpoints, workdir, profile)


def _run(
    experiment: Experiment,
    state: GANState,
    data: Data,
    checkpoints: Checkpoints,
    workdir: pathlib.Path,
    profile: bool,
) -> GANState:
    config, step = experiment.config, int(state.step)
    logging.info("%s", _overview(experiment))
    train_step, sampler = make_train_step(experiment), make_sampler(experiment)
    begin = time.monotonic()
    with futures.ThreadPoolExecutor(1) as pool:  # importing CLU's writers takes some seconds
        reporting = pool.submit(importlib.import_module, "gan.trainers.reporting").result
        state, metrics = train_step(state, data, 0)  # compiles, and makes no step
    logging.info("compiled in %.1f s; training from step %d", time.monotonic() - begin, step)

    with contextlib.closing(reporting().create_writer(workdir, step)) as writer:
        profile_step = _next_stop(config, step) if profile else None
        hooks = reporting().create_hooks(workdir, config.num_steps, step, profile_step)
        logged_step, logged_time = step, time.monotonic()
        values: dict[str, float] = {}
        while step < config.num_steps:
            stop = _next_stop(config, step)
            state, call_metrics = train_step(state, data, stop - step)
            metrics, step = metrics.merge(call_metrics), stop
            last = step == config.num_steps

            if last or _due(step, config.log_every_steps):
                values = scalars(metrics)
                images = (step - logged_step) * config.batch_size * experiment.dynamics.num_batches
                values["images_per_second"] = images / (time.monotonic() - logged_time)
                writer.write_scalars(step, values)
                metrics, logged_step, logged_time = metrics.empty(), step, time.monotonic()
            if config.sample_every_steps and (last or _due(step, config.sample_every_steps)):
                picture = draw_samples(experiment, sampler, state)
                pictures.write_png(workdir / "samples" / f"step_{step:08d}.png", picture)
                writer.write_images(step, {"samples": picture[None]})
            if _due(step, config.eval_every_steps):
                writer.write_scalars(step, evaluate(experiment, sampler, state))
            if last or _due(step, config.checkpoint_every_steps):
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


def _overview(experiment: Experiment) -> str:
    """What is trained, in a few lines and two tables."""
    config = experiment.config
    networks = jax.eval_shape(experiment.game.init, jax.random.key(0))
    shape = " x ".join(map(str, experiment.dataset.shape))
    devices = f"{experiment.mesh.size} {jax.default_backend()} device(s)"
    parts = [f"{config.dataset}, {shape}; batches of {config.batch_size} on {devices}"]
    for role in ROLES:
        table = parameter_overview.get_parameter_overview(networks.of(role)[0], include_stats=False)
        spec, optimizer = getattr(config, role), getattr(config, f"{role}_optimizer")
        parts.append(f"{role}: {spec}, {optimizer}\n{table}")
    return "\n".join(parts)
