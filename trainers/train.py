"""The training loop: calls of the train step, and at their own periods what hangs on them."""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from absl import logging

from gan.callbacks import Callback
from gan.config import TrainConfig
from gan.data import Examples, Loader
from gan.preemption import Stop
from gan.state import GANState, seed_after
from gan.trainers.evaluation.evaluate import Evaluator, make_run_evaluator
from gan.trainers.experiment import Experiment, build, undeclared_parts
from gan.trainers.metric_writers import MetricWriters
from gan.trainers.monitoring import CallbackCaller, Monitor
from gan.trainers.resume import Origin, roll_back, start
from gan.trainers.sampling import Sampler, draw_samples, make_diversity, make_sampler
from gan.trainers.train_step import MetricWindow, Pace, TrainStep, make_train_step
from gan.trainers.workdir import Workdir, open_workdir

_UNDECLARED = "a program that does not register it itself cannot load this run"


def train(
    config: TrainConfig,
    workdir: str | pathlib.Path,
    *,
    profile: bool = False,
    origin: Origin | None = None,
    on_optimizer_change: str = "refuse",
    callbacks: Sequence[Callback] = (),
    stop: Stop | None = None,
    start_time: float | None = None,
    tables: bool = True,
    build: Callable[[TrainConfig], Experiment] = build,
    make_train_step: Callable[[Experiment], TrainStep] = make_train_step,
) -> GANState:
    """Trains from the newest checkpoint in `workdir`, or from scratch, to `config.num_steps`.

    Args:
      config: What to train.
      workdir: The run's folder, made where it is missing.
      profile: Whether to write a profile of some early steps, for TensorBoard.
      origin: The other run whose state a new run starts from.
      on_optimizer_change: What becomes of the state of an optimizer or dynamics that is not the one
        of the checkpoint: `refuse` to go on, `reset` it, or `keep_moments` that both have.
      callbacks: Callbacks besides those that the config names.
      stop: Says when to stop early; None is never.
      start_time: When the program was started, by `time.monotonic`; how long that is ago is logged
        after the first step.
      tables: Whether to log a table of each network's parameters.
      build: Builds the config's parts.
      make_train_step: Makes the train step; runs may have one in common.

    Returns:
      The state at the end.

    Raises:
      UsageError: before anything is written, where the config or the folder will not do.
      RunError: where the run cannot go on; its checkpoints stay.
      Stopped: where `stop` asked for it, after saving.
    """
    experiment = build(config)
    for part in undeclared_parts(config):
        logging.warning("%s, is in no file of config.parts: %s", part, _UNDECLARED)
    for warning in experiment.find_warnings():
        logging.warning("%s", warning)
    experiment = dataclasses.replace(experiment, callbacks=(*experiment.callbacks, *callbacks))
    with open_workdir(workdir, experiment.retention) as folder:
        examples = experiment.load_examples()
        experiment = experiment.with_data(examples)
        evaluator = make_run_evaluator(experiment) if config.eval_every_steps else None
        state, to_save = start(experiment, folder, origin, on_optimizer_change)
        if trains := int(state.step) < config.num_steps:
            if tables:
                logging.info("%s", experiment.describe_networks())
            for warning in evaluator.scorer.warnings if evaluator else ():
                folder.record(int(state.step), "features", warning)
            program, state = compile_program(
                experiment, state, examples, evaluator, start_time, make_train_step
            )
            folder.write_config(config)
            if to_save:
                as_mapping, described = dataclasses.asdict(config), experiment.describe_data()
                folder.checkpoints.save(
                    int(state.step),
                    state,
                    as_mapping,
                    {},
                    parts=experiment.parts,
                    data=described,
                    convolutions=experiment.convolutions,
                )
            with contextlib.closing(program.loader):
                while int(state.step) < config.num_steps:
                    state, nonfinite = make_steps(
                        experiment, folder, program, state, profile, stop or Stop()
                    )
                    if nonfinite:
                        state = roll_back(experiment, folder, state, on_optimizer_change)
        saved = folder.checkpoints.finish(int(state.step))
        steps = f"{saved.step} of {config.num_steps} steps"
        if saved.step > config.num_steps:
            steps = f"{saved.step} steps, and num_steps = {config.num_steps}"
        message = f"{folder.path} is complete: {steps}; the state's SHA-256 is {saved.state}"
        if trains:
            folder.record(saved.step, "complete", message)
        else:
            logging.info("%s", message)
        return state


@dataclass
class StartClock:
    """Logs once how long after the start of the program the first step was made.

    Attributes:
      start_time: When that was, by `time.monotonic`; None where nothing is to be logged any more.
    """

    start_time: float | None

    def log_first_step(self) -> None:
        """Logs the time at the first call."""
        if self.start_time is not None:
            seconds = time.monotonic() - self.start_time
            logging.info("the first step was made %.1f s after the start", seconds)
            self.start_time = None


@dataclass(frozen=True)
class Program:
    """What a run executes, compiled."""

    loader: Loader
    train_step: TrainStep
    sampler: Sampler
    diversity: Callable[[GANState], float]
    evaluator: Evaluator | None
    start_clock: StartClock


def compile_program(
    experiment: Experiment,
    state: GANState,
    examples: Examples,
    evaluator: Evaluator | None = None,
    start_time: float | None = None,
    make_train_step: Callable[[Experiment], TrainStep] = make_train_step,
) -> tuple[Program, GANState]:
    """Compiles what a run executes; the state is donated, and returned unchanged."""
    logging.info("%s", experiment.describe())
    if flags := os.environ.get("XLA_FLAGS"):
        logging.info("XLA_FLAGS=%s", flags)
    loader = experiment.make_loader(examples)
    train_step = make_train_step(experiment)
    sampler = evaluator.sampler if evaluator else make_sampler(experiment)
    begin = time.monotonic()
    data = loader.at(_seed(experiment, state), int(state.step)).data
    train_step.check_fits(state, data)
    state = train_step(state, data, 0).state  # compiles, and makes no step
    logging.info(
        "compiled in %.1f s; training from step %d", time.monotonic() - begin, int(state.step)
    )

    diversity = make_diversity(sampler)
    program = Program(loader, train_step, sampler, diversity, evaluator, StartClock(start_time))
    return program, state


def make_steps(
    experiment: Experiment,
    workdir: Workdir,
    program: Program,
    state: GANState,
    profile: bool,
    stop: Stop,
) -> tuple[GANState, bool]:
    """Trains to the end, or until the run has to go back.

    Returns:
      The state, and whether the run goes back, as a step was not finite under `rollback`.
    """
    config, step, seed = experiment.config, int(state.step), _seed(experiment, state)
    profile_step = _next_stop(experiment, step) if profile else None
    pace, window = Pace(), MetricWindow(experiment, step)
    callbacks = CallbackCaller(experiment, workdir, step)
    monitor = Monitor(experiment, workdir, step)
    writers = MetricWriters(workdir.path, config.num_steps, step, profile_step)
    with contextlib.closing(writers):
        stop.can_save = True
        while step < config.num_steps:
            chunk = program.loader.at(seed, step)
            num_steps = pace.begin_call(min(_next_stop(experiment, step) - step, chunk.num_steps))
            state, metrics, not_finite = program.train_step(state, chunk.data, num_steps)
            num_skipped = monitor.check_finite(not_finite, step, num_steps)
            pace.end_call(num_steps)
            program.start_clock.log_first_step()
            if num_skipped and experiment.on_nonfinite.max_rollbacks:
                return state, True
            step += num_steps
            window.add(metrics, num_skipped)
            callbacks.add(metrics, num_skipped)

            stopping, last = stop.agreed(), step == config.num_steps
            values: dict[str, float] = {}
            scores: dict[str, float] = {}
            if last or stopping or _due(step, config.log_every_steps):
                values = window.close(step) | {"diversity": program.diversity(state)}
                writers.write_scalars(step, values)
                monitor.after_log(step, values)
            if config.sample_every_steps and (last or _due(step, config.sample_every_steps)):
                picture = draw_samples(program.sampler, state, workdir.path / "samples")
                writers.write_images(step, {"samples": picture[None]})
            if program.evaluator and _due(step, config.eval_every_steps):
                scores = program.evaluator.evaluate_during_training(workdir, state)
                writers.write_scalars(step, scores)
                values = values | scores  # the writers may still read the old mapping
            callbacks.after_step(step, state, scores)
            periodic = _due(step, config.checkpoint_every_steps)
            if last or stopping or periodic:
                writers.flush()
                as_mapping = dataclasses.asdict(config)
                protocol = program.evaluator.fingerprint if program.evaluator and scores else ""
                workdir.checkpoints.save(
                    step, state, as_mapping, values, periodic, experiment.parts, protocol,
                    experiment.describe_data(), experiment.convolutions,
                )  # fmt: skip
            if stopping and not last:
                _stop_here(workdir, step, stop)
            workdir.checkpoints.raise_if_failed()
            writers.after_call(step)
    return state, False


def _stop_here(workdir: Workdir, step: int, stop: Stop) -> NoReturn:
    """Ends a run that has to stop, once its last checkpoint is saved."""
    workdir.checkpoints.wait()
    message = f"stopped by {stop.name} at step {step}, which is saved; the same command goes on"
    workdir.record(step, "stop", message)
    stop.leave(message)


def _seed(experiment: Experiment, state: GANState) -> int:
    return int(seed_after(experiment.config.seed, state.rollbacks))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _next_stop(experiment: Experiment, step: int) -> int:
    """Returns the next step after which something has to happen."""
    config = experiment.config
    periods = [
        config.log_every_steps,
        config.sample_every_steps,
        config.eval_every_steps,
        config.checkpoint_every_steps,
        *(callback.every_steps for callback in experiment.callbacks),
    ]
    return min([config.num_steps, *(step - step % every + every for every in periods if every)])
