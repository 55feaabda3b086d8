"""Trains many runs, each in a folder of its own; those that differ in numbers alone by one program."""

import os
import pathlib
import signal
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
from absl import logging

from gan import cli
from gan.checkpoints import Checkpoints
from gan.config import TrainConfig
from gan.errors import Stopped, describe
from gan.players import ROLES
from gan.preemption import Stop
from gan.trainers.experiment import Experiment, build
from gan.trainers.population.program import Member, Program, find_programs
from gan.trainers.train import train
from gan.trainers.workdir import read_config


def train_members(
    members: Mapping[pathlib.Path, TrainConfig], *, stop: Stop | None = None
) -> dict[pathlib.Path, Exception | None]:
    """Trains runs; those that differ in seed and numbers alone have one compiled program.

    One that fails does not stop the others, and one that is complete is not run again. Each ends as if it
    were trained alone, to rounding.

    Args:
      members: The folder of each run, and its config.
      stop: Says when to stop early; None is never.

    Returns:
      For each folder why its run failed, or None.

    Raises:
      UsageError: for a config that will not do, before any work.
      Stopped: where `stop` asked for it, after saving.
    """
    return train_experiments({path: build(own) for path, own in members.items()}, stop=stop)


def train_experiments(
    experiments: Mapping[pathlib.Path, Experiment], *, stop: Stop | None = None
) -> dict[pathlib.Path, Exception | None]:
    """Trains runs whose parts are built: see `train_members`."""
    stop = Stop() if stop is None else stop
    left = {path: own for path, own in experiments.items() if not is_complete(path, own.config)}
    jobs = [(path, program) for program, paths in find_programs(left) for path in paths]
    results: dict[pathlib.Path, Exception | None] = dict.fromkeys(experiments)

    def work(job: tuple[pathlib.Path, Program | None]) -> None:
        path, program = job
        if stop.requested is None:
            results[path] = _train_one(path, left.pop(path), program, stop)
            logging.info("%d of %d runs are left", len(left), len(experiments))

    with ThreadPoolExecutor(side_by_side(left.values())) as pool:
        try:
            list(pool.map(work, jobs))
        except BaseException:
            stop.requested = stop.requested or signal.SIGINT  # the others save, and end
            raise
    for error in results.values():
        if isinstance(error, Stopped):
            raise error
    return results


def side_by_side(experiments: Collection[Experiment]) -> int:
    """Returns how many runs are trained at a time: the rule.

    On a CPU a step of one run leaves cores idle: as many runs as there are cores, each of which makes its own
    calls of the one compiled program. Convolutions that oneDNN computes have all cores already, and threads of
    its own: one run at a time. docs/performance.md has the figures.
    """
    if any(_has_convolutions(own) and own.convolutions.startswith("onednn") for own in experiments):
        return 1
    return max(1, min(len(os.sched_getaffinity(0)), len(experiments)))


def _has_convolutions(experiment: Experiment) -> bool:
    networks = jax.eval_shape(experiment.game.init, jax.random.key(0))
    params = (networks.of(role)[0] for role in ROLES)
    return any(leaf.ndim == 4 for leaf in jax.tree.leaves(list(params)))


def is_complete(path: pathlib.Path, config: TrainConfig) -> bool:
    """Returns whether a folder has this run, trained to its end."""
    if read_config(path) != config:
        return False
    with Checkpoints(path) as checkpoints:
        newest = checkpoints.newest()
    return newest is not None and newest.step >= config.num_steps


def _train_one(
    path: pathlib.Path, experiment: Experiment, program: Program | None, stop: Stop
) -> Exception | None:
    """Trains a run in a thread of its own; returns why it failed."""
    token = cli.LABEL.set(path.name)
    try:
        if program is None:
            train(experiment.config, path, stop=stop, build=lambda _: experiment)
        else:
            member = Member.of(experiment, program)
            train(
                experiment.config,
                path,
                stop=stop,
                tables=experiment.config == program.first.config,
                build=lambda _: member,
                make_train_step=program.make_train_step,
            )
    except Exception as error:  # noqa: BLE001 - the others are worth more
        if not isinstance(error, Stopped):
            logging.warning("failed: %s", describe(error))
        return error
    finally:
        cli.LABEL.reset(token)
    return None
