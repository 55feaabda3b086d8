"""Trains many runs, each in a folder of its own; those that differ in numbers alone by one program."""

import os
import pathlib
import signal
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from absl import logging

from gan import cli
from gan.checkpoints import Checkpoints
from gan.config import TrainConfig
from gan.data import Examples
from gan.errors import Stopped, describe
from gan.machine import num_cores
from gan.memory import check_fits, device_memory, tree_bytes
from gan.models import onednn
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
    were trained alone, to rounding. They may differ in anything, `num_steps` too.

    Args:
      members: The folder of each run, and its config.
      stop: Says when to stop early; None is never.

    Returns:
      For each folder why its run failed, or None.

    Raises:
      UsageError: before any work, for a config that will not do, or where runs do not fit onto the devices.
      Stopped: where `stop` asked for it, after saving.
    """
    experiments = {path: build(own) for path, own in members.items()}
    return plan(experiments, refuse_uneven=False).train(stop)


@dataclass(frozen=True)
class _Job:
    """A run that is to be trained, in a thread of its own.

    Attributes:
      path: Its folder.
      label: What its messages begin with.
      experiment: Its parts.
      program: What it executes, if it has that in common with others.
      together: Whom its steps are made with, if that is in one call.
      number: Which of them it is.
    """

    path: pathlib.Path
    label: str
    experiment: Experiment
    program: Program | None
    together: Together | None
    number: int

    def train(self, stop: Stop) -> Exception | None:
        """Trains it; returns why it failed."""
        token = cli.LABEL.set(self.label)
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
            own = self.experiment
            train(config, self.path, stop=stop, tables=False, build=lambda _: own)
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
            tables=False,
            build=lambda _: member,
            make_train_step=make_train_step,
        )


@dataclass(frozen=True)
class Plan:
    """In which order runs are trained.

    Attributes:
      paths: The folders of all runs, those that are complete too.
      rounds: Jobs that are begun together, and how many of them are trained at a time.
    """

    paths: tuple[pathlib.Path, ...]
    rounds: tuple[tuple[tuple[_Job, ...], int], ...]

    def train(self, stop: Stop | None = None) -> dict[pathlib.Path, Exception | None]:
        """Trains them: see `train_members`."""
        watched = Stop() if stop is None else stop
        results: dict[pathlib.Path, Exception | None] = dict.fromkeys(self.paths)
        with onednn.limit_threads(max(1, num_cores() // max(1, len(self.paths)))):
            for jobs, workers in self.rounds:
                results |= _train_round(jobs, workers, watched)
        for error in results.values():
            if isinstance(error, Stopped):
                raise error
        return results


def _train_round(
    jobs: Collection[_Job], workers: int, stop: Stop
) -> dict[pathlib.Path, Exception | None]:
    """Trains jobs, so many at a time; returns for each why it failed."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            errors = list(pool.map(lambda job: job.train(stop), jobs))
        except BaseException:
            stop.requested = stop.requested or signal.SIGINT  # the others save, and end
            raise
    return {job.path: error for job, error in zip(jobs, errors, strict=True)}


def plan(experiments: Mapping[pathlib.Path, Experiment], refuse_uneven: bool = True) -> Plan:
    """Plans how runs are trained; reads their data, and writes nothing.

    What program a run has depends on all runs, those too that are complete: the bits of its end must not
    depend on when it was stopped.

    Args:
      experiments: The parts of each run, by its folder.
      refuse_uneven: Whether runs with one program have to divide over the devices; otherwise those that do
        not are trained one after the other, each on all devices.

    Raises:
      UsageError: where they do not fit onto the devices.
    """
    left = {path for path, own in experiments.items() if not is_complete(path, own.config)}
    above = os.path.commonpath([path.parent for path in experiments]) if experiments else ""
    examples: dict[tuple[str, str | None], Examples] = {}
    alone: list[_Job] = []
    rounds: list[tuple[tuple[_Job, ...], int]] = []
    for alike in find_alike(experiments):
        if not left & set(alike):
            continue
        devices = list(next(iter(alike.values())).mesh.devices.flat)
        for program, paths in make_programs(alike, devices[0], examples):
            if len(paths) % len(devices) and not refuse_uneven:
                program = None
            in_one_call = program is not None and (len(devices) > 1 or devices[0].platform != "cpu")
            together = None
            if program is not None and in_one_call:
                _check_memory(program.first, len(paths) // len(devices))
                together = Together(program, [experiments[own].config for own in paths], devices)
            jobs = tuple(
                _Job(path, os.path.relpath(path, above), experiments[path], program, together, n)
                for n, path in enumerate(paths)
                if path in left
            )
            if together is None:
                alone += jobs
            elif jobs:
                together.expect(job.number for job in jobs)
                rounds.append((jobs, len(jobs)))
    if alone:
        rounds.append((tuple(alone), side_by_side([job.experiment for job in alone])))
    return Plan(tuple(experiments), tuple(rounds))


def side_by_side(experiments: Collection[Experiment]) -> int:
    """Returns how many runs are trained at a time that each make their own calls: the rule.

    On a CPU a step of one run leaves cores idle: as many runs as there are cores. A run that has several
    devices, or an accelerator, has them to itself. docs/populations.md has the figures.
    """
    if any(own.mesh.size > 1 or own.mesh.devices.flat[0].platform != "cpu" for own in experiments):
        return 1
    return max(1, min(num_cores(), len(experiments)))


def _check_memory(experiment: Experiment, runs: int) -> None:
    """Raises UsageError where the states of so many runs do not fit onto a device."""
    size = runs * tree_bytes(experiment.state_target())
    memory = device_memory(experiment.mesh)
    check_fits({f"a population of {runs} runs a device": size}, memory, "on each device")


def is_complete(path: pathlib.Path, config: TrainConfig) -> bool:
    """Returns whether a folder has this run, trained to its end."""
    if read_config(path) != config:
        return False
    with Checkpoints(path) as checkpoints:
        newest = checkpoints.newest()
    return newest is not None and newest.step >= config.num_steps
