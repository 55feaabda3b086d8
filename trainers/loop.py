"""The training loop: steps, and at their own periods what hangs on them."""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import jax
from absl import logging
from clu import metrics as clu_metrics
from clu import parameter_overview

from gan import pictures
from gan.checkpoints import Checkpoints
from gan.config import TrainConfig
from gan.data.batches import check_indices
from gan.data.dataset import Examples
from gan.data.feeds import Feed
from gan.errors import RunError, Stopped
from gan.nonfinite import Rollback
from gan.players import ROLES
from gan.sharding import barrier
from gan.state import GANState, seed_after
from gan.trainers.evaluation import evaluate_on_the_way, make_run_scorer
from gan.trainers.experiment import Experiment, build
from gan.trainers.health import Health, go_back
from gan.trainers.history import record
from gan.trainers.pace import Pace
from gan.trainers.reports import Reports
from gan.trainers.run import Run
from gan.trainers.sampling import Sampler, draw_samples, make_diversity, make_sampler
from gan.trainers.scoring import Scorer
from gan.trainers.start import start
from gan.trainers.stopping import Stop
from gan.trainers.train_step import TrainStep, make_train_step, scalars
from gan.trainers.workdir import check_writable, lock, write_config


def train(
    config: TrainConfig,
    workdir: str | pathlib.Path,
    *,
    profile: bool = False,
    init_from: str | None = None,
    on_optimizer_change: str = "refuse",
    stop: Stop | None = None,
    began: float | None = None,
) -> GANState:
    """Trains from the newest checkpoint in `workdir`, or from scratch, to `config.num_steps`.

    Args:
      config: What to train.
      workdir: The run's folder, made where it is missing.
      profile: Whether to write a profile of some early steps, for TensorBoard.
      init_from: `OTHER_WORKDIR` or `OTHER_WORKDIR@STEP`: whose state a new run starts from.
      on_optimizer_change: What becomes of the state of an optimizer or dynamics that is not the one
        of the checkpoint: `refuse` to go on, `reset` it, or `keep_moments` that both have.
      stop: Says when to stop early; None is never.
      began: When the program was started, by `time.monotonic`; how long that is ago is logged after
        the first step.

    Returns:
      The state at the end.

    Raises:
      UsageError: before anything is written, where the config or the folder will not do.
      RunError: where the run cannot go on; its checkpoints stay.
      Stopped: where `stop` asked for it, after saving.
    """
    workdir = pathlib.Path(workdir)
    experiment = build(config)
    check_writable(workdir)
    with lock(workdir), Checkpoints(workdir, experiment.retention) as checkpoints:
        examples = experiment.dataset.load()
        check_indices(len(examples.labels), config.batch_size)
        scorer = make_run_scorer(experiment) if config.eval_every_steps else None
        run = Run(experiment, workdir, checkpoints, on_optimizer_change)
        state, to_save = start(run, init_from)
        if trains := int(state.step) < config.num_steps:
            program, state = make_program(run, state, examples, scorer, began)
            barrier("compiled")
            if jax.process_index() == 0:
                write_config(workdir, config)
            if to_save:
                checkpoints.save(int(state.step), state, dataclasses.asdict(config), {})
            with contextlib.closing(program.feed):
                while int(state.step) < config.num_steps:  # again after a rollback
                    state = make_steps(run, program, state, profile, stop or Stop())
        checkpoints.wait()
        barrier("complete")
        saved = checkpoints.newest()
        if saved is None or saved.step != int(state.step):
            raise RunError(
                f"the last checkpoint of {workdir}, {int(state.step)}, cannot be trusted"
            )
        steps = f"{saved.step} of {config.num_steps} steps"
        if saved.step > config.num_steps:
            steps = f"{saved.step} steps, and num_steps = {config.num_steps}"
        message = f"{workdir} is complete: {steps}; the state's SHA-256 is {saved.state}"
        if trains:
            record(workdir, saved.step, "complete", message)
        else:
            logging.info("%s", message)
        return state


@dataclass(frozen=True)
class Program:
    """What a run executes, compiled."""

    feed: Feed
    train_step: TrainStep
    sampler: Sampler
    diversity: Callable[[GANState], float]
    scorer: Scorer | None
    note_first_step: Callable[[], None]


def make_program(
    run: Run, state: GANState, examples: Examples, scorer: Scorer | None, began: float | None
) -> tuple[Program, GANState]:
    """Compiles what a run executes; the state is donated, and comes back."""
    experiment = run.experiment
    logging.info("%s", _overview(experiment))
    feed = experiment.feed(examples)
    train_step, sampler = make_train_step(experiment), make_sampler(experiment)
    begin = time.monotonic()
    seed = int(seed_after(experiment.config.seed, state.rollbacks))
    data = feed.at(seed, int(state.step)).data
    state, _, _ = train_step(state, data, 0)  # compiles, and makes no step
    logging.info(
        "compiled in %.1f s; training from step %d", time.monotonic() - begin, int(state.step)
    )

    @functools.cache
    def note_first_step() -> None:
        if began is not None:
            logging.info("the first step was made %.1f s after the start", time.monotonic() - began)

    diversity = make_diversity(experiment, sampler, examples.examples)
    return Program(feed, train_step, sampler, diversity, scorer, note_first_step), state


def make_steps(run: Run, program: Program, state: GANState, profile: bool, stop: Stop) -> GANState:
    """Runs to the end, or until the run has to go back; then the state is an older one."""
    experiment, workdir, checkpoints = run.experiment, run.workdir, run.checkpoints
    config, step = experiment.config, int(state.step)
    profile_step = _next_stop(config, step) if profile else None
    with contextlib.closing(Reports(workdir, config.num_steps, step, profile_step)) as reports:
        seed = int(seed_after(config.seed, state.rollbacks))
        pace, window, health = Pace(), _Window(experiment, step), Health(run)
        stop.can_save = True
        while step < config.num_steps:
            supply = program.feed.at(seed, step)
            num_steps = pace.steps(min(_next_stop(config, step) - step, supply.num_steps))
            state, metrics, not_finite = program.train_step(state, supply.data, num_steps)
            num_skipped = health.note_not_finite(not_finite, step, num_steps)
            pace.made(num_steps)
            program.note_first_step()
            if num_skipped and isinstance(experiment.on_nonfinite, Rollback):
                return go_back(run, state)
            step += num_steps
            window.add(metrics, num_skipped)
            stopping, last = stop.agreed(), step == config.num_steps

            values: dict[str, float] = {}
            if last or stopping or _due(step, config.log_every_steps):
                values = window.close(step) | {"diversity": program.diversity(state)}
                reports.writer.write_scalars(step, values)
                health.watch(step, values["diversity"])
            if config.sample_every_steps and (last or _due(step, config.sample_every_steps)):
                picture = draw_samples(experiment, program.sampler, state)
                reports.writer.write_images(step, {"samples": picture[None]})
                if jax.process_index() == 0:
                    pictures.write_png(workdir / "samples" / f"step_{step:08d}.png", picture)
            if program.scorer and _due(step, config.eval_every_steps):
                scores = evaluate_on_the_way(run, program.scorer, program.sampler, state)
                reports.writer.write_scalars(step, scores)
                values = values | scores  # the writers still read the old one
            periodic = _due(step, config.checkpoint_every_steps)
            if last or stopping or periodic:
                reports.flush()
                checkpoints.save(step, state, dataclasses.asdict(config), values, periodic)
            if stopping and not last:
                _end(run, step, stop)
            checkpoints.raise_if_failed()
            reports.after(step)
    return state


def _end(run: Run, step: int, stop: Stop) -> NoReturn:
    """Ends a run that has to stop, when its last checkpoint is there."""
    assert stop.requested is not None
    run.checkpoints.wait()
    name = stop.requested.name
    message = f"stopped by {name} at step {step}, which is saved; the same command goes on"
    record(run.workdir, step, "stop", message)
    raise Stopped(stop.requested, message)


class _Window:
    """What is averaged from one log to the next."""

    def __init__(self, experiment: Experiment, step: int):
        self._experiment = experiment
        self._open(step)

    def _open(self, step: int) -> None:
        self._metrics: clu_metrics.Collection | None = None
        self._first, self._skipped, self._begin = step, 0, time.monotonic()

    def add(self, metrics: clu_metrics.Collection, num_skipped: int) -> None:
        """Takes in the metrics of a call."""
        self._metrics = metrics if self._metrics is None else self._metrics.merge(metrics)
        self._skipped += num_skipped

    def close(self, step: int) -> dict[str, float]:
        """The averages until this step, if any step was made; a new window begins."""
        num_steps, config = step - self._first, self._experiment.config
        images = num_steps * config.batch_size * self._experiment.dynamics.num_batches
        assert self._metrics is not None
        values = scalars(self._metrics) if self._skipped < num_steps else {}
        values["images_per_second"] = images / (time.monotonic() - self._begin)
        if self._skipped:
            values["skipped_steps"] = float(self._skipped)
        self._open(step)
        return values


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
