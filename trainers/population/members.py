"""Trains many runs, each in a folder of its own; those that differ in numbers alone by one program."""

import os
import pathlib
import signal
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
from absl import logging

from gan import cli
from gan.checkpoints import Checkpoints
from gan.config import TrainConfig
from gan.errors import Stopped, describe
from gan.players import ROLES
from gan.preemption import Stop
from gan.trainers.experiment import Experiment, build
from gan.trainers.population.program import Member, Program, find_alike, make_programs
from gan.trainers.population.together import Together, TogetherStep
from gan.trainers.train import train
from gan.trainers.train_step import TrainStep
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
    left = [path for path, own in experiments.items() if not is_complete(path, own.config)]
    results: dict[pathlib.Path, Exception | None] = dict.fromkeys(experiments)

    def train_all(jobs: Mapping[pathlib.Path, _Job], workers: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            try:
                ended = pool.map(lambda job: job(stop), jobs.values())
                results.update(zip(jobs, ended, strict=True))
            except BaseException:
                stop.requested = stop.requested or signal.SIGINT  # the others save, and end
                raise

    alone: dict[pathlib.Path, _Job] = {}
    for alike in find_alike(experiments):
        if not set(left) & set(alike):
            continue
        devices = list(next(iter(alike.values())).mesh.devices.flat)
        for program, paths in make_programs(alike, devices[0]):
            jobs = [path for path in paths if path in left]
            if program is None or (len(devices) == 1 and devices[0].platform == "cpu"):
                alone |= {path: _Job(path, experiments[path], program) for path in jobs}
            elif jobs:
                configs = [experiments[path].config for path in paths]
                together = Together(program, configs, devices)
                numbers = {path: paths.index(path) for path in jobs}
                together.expect(numbers.values())
                train_all(
                    {
                        path: _Job(path, experiments[path], program, together, number)
                        for path, number in numbers.items()
                    },
                    len(jobs),
                )
    train_all(alone, side_by_side([job.experiment for job in alone.values()]))
    for error in results.values():
        if isinstance(error, Stopped):
            raise error
    return results


@dataclass(frozen=True)
class _Job:
    """A run that is to be trained, in a thread of its own."""

    path: pathlib.Path
    experiment: Experiment
    program: Program | None
    together: Together | None = None
    number: int = 0

    def __call__(self, stop: Stop) -> Exception | None:
        """Trains it; returns why it failed."""
        token = cli.LABEL.set(self.path.name)
        try:
            if stop.requested is not None:
                stop.leave("stopped before it began")
            self._train(stop)
        except Stopped as stopped:
            return stopped
        except Exception as error:  # noqa: BLE001 - the others are worth more
            logging.warning("failed: %s", describe(error))
            return error
        finally:
            if self.together is not None:
                self.together.leave(self.number)
            cli.LABEL.reset(token)
        return None

    def _train(self, stop: Stop) -> None:
        config, program, together = self.experiment.config, self.program, self.together
        if program is None:
            train(config, self.path, stop=stop, build=lambda _: self.experiment)
            return
        mesh = program.first.mesh if together is None else together.mesh_of(self.number)
        member = Member.of(self.experiment, program, mesh)

        def make_train_step(member: Experiment) -> TrainStep:
            if together is None:
                return program.make_train_step(member)
            return TogetherStep(None, mesh, together=together, number=self.number)

        train(
            config,
            self.path,
            stop=stop,
            tables=config == program.first.config,
            build=lambda _: member,
            make_train_step=make_train_step,
        )


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
