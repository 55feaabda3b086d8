"""The program that the members of a population have in common: seed and numbers are arguments of it.

The parts of a member are built while the program is traced, with a traced number in the place of each number
in which members differ. What no program can be traced with, such as the width of a network or a number that a
part asks whether it is 0, is not one of these: there is a program for each of its values.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import AxisType, Mesh

from gan.config import SETTINGS, OnResume, TrainConfig
from gan.data import Data, Examples, Loader
from gan.data.loaders import DeviceResident
from gan.data.permutation import check_indices
from gan.sharding import replicated
from gan.specs import Spec, map_numbers, numbers_by_name, parse, to_text
from gan.state import GANState
from gan.trainers.experiment import Experiment, build
from gan.trainers.train_step import TrainStep, TrainStepOutput, make_step_function

IN_STEP = (
    "data_augmentation", "discriminator_augmentation", "generator", "discriminator", "loss", "regularizers",
    "generator_optimizer", "discriminator_optimizer", "dynamics", "averaging",
)  # fmt: skip
"""The keys whose parts the step is made of."""

_OF_DATA = (
    "mesh",
    "data_placement",
    "data_dir",
    "parts",
)  # may change in a run, not within a program


def with_names(
    config: TrainConfig, places: Sequence[int] = ()
) -> tuple[TrainConfig, tuple[float, ...]]:
    """Puts names in the places of numbers, and defaults in that of all that no program depends on.

    Args:
      config: The config.
      places: Which of the numbers in the specs of the step, counted from 0; number i is called `_i`.

    Returns:
      The new config, which is the same for all members with one program; and all the numbers.
    """
    numbers: list[float] = []

    def change(number: float) -> Any:
        numbers.append(number)
        place = len(numbers) - 1
        return Spec(_name(place)) if place in places else number

    def write(text: str) -> str:
        return to_text(map_numbers(parse(text), change))

    changes: dict[str, Any] = {}
    for field in dataclasses.fields(TrainConfig):
        own = getattr(config, field.name)
        if field.name in IN_STEP:
            changes[field.name] = write(own) if isinstance(own, str) else tuple(map(write, own))
        elif field.name not in _OF_DATA and SETTINGS[field.name].on_resume is OnResume.ALLOW:
            changes[field.name] = field.default
    return dataclasses.replace(config, seed=0, **changes), tuple(numbers)


def _name(place: int) -> str:
    return f"_{place}"


class Program:
    """What runs that differ in seed and numbers execute; compiled once, at their first call.

    Args:
      first: The parts of one of them, which knows its data.
      examples: The examples that all are trained on.
      numbers: Which numbers differ, counted as in `with_names`, and their type: 1 is 1.0 where another
        has 0.5.

    Attributes:
      first: As given.
      examples: As given.
    """

    def __init__(
        self, first: Experiment, examples: Examples, numbers: Mapping[int, type[float]]
    ) -> None:
        self.first, self.examples, self._numbers = first, examples, dict(numbers)
        self._template = with_names(first.config, tuple(numbers))[0]
        self._loaders: dict[Mesh, DeviceResident] = {}
        self._lock = threading.Lock()
        everywhere = replicated(first.mesh)
        self._init = jax.jit(self.init, out_shardings=everywhere)
        self._steps = jax.jit(self.steps, donate_argnums=0, out_shardings=everywhere)

    def arguments(self, config: TrainConfig) -> tuple[np.uint32, tuple[float, ...]]:
        """Returns a run's seed and numbers."""
        numbers = with_names(config)[1]
        own = tuple(kind(numbers[place]) for place, kind in self._numbers.items())
        return np.uint32(config.seed), own

    def init(self, seed: Any, numbers: Sequence[Any]) -> GANState:
        """Returns a run's state before the first step."""
        with self._parts(numbers) as parts:
            return parts.init(seed)

    def steps(
        self, state: GANState, data: Data, num_steps: Any, seed: Any, numbers: Sequence[Any]
    ) -> TrainStepOutput:
        """Makes some steps of a run."""
        with self._parts(numbers) as parts:
            return make_step_function(parts, seed)(state, data, num_steps)

    @contextlib.contextmanager
    def _parts(self, numbers: Sequence[Any]) -> Iterator[Experiment]:
        """Builds the parts of a run while a function is traced; its config has names for numbers."""
        with numbers_by_name(dict(zip(map(_name, self._numbers), numbers, strict=True))):
            yield build(self._template, self.first.data)

    def can_be_traced(self) -> bool:
        """Returns whether parts can be built, and make a step, whose numbers are not known yet."""
        config, target = self.first.config, self.first.state_target()
        seed, numbers = self.arguments(config)
        loader = self.make_loader(self.first)
        data = loader.at(config.seed, 0).data
        loader.close()
        try:
            begin = jax.eval_shape(self.init, seed, numbers)
            after = jax.eval_shape(self.steps, target, data, 1, seed, numbers).state
        except Exception:  # noqa: BLE001 - whatever a part may raise: with known numbers it does not
            return False
        kinds = [
            jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
            for tree in (target, begin, after)
        ]
        return kinds[0] == kinds[1] == kinds[2]

    def init_on_mesh(self, member: Experiment) -> GANState:
        """Returns a run's state before the first step, on its devices."""
        with self._lock:
            return jax.device_put(
                self._init(*self.arguments(member.config)), replicated(member.mesh)
            )

    def make_loader(self, member: Experiment) -> Loader:
        """Returns a run's loader; that of all examples is one for all runs on a device."""
        with self._lock:
            loader: Loader | None = self._loaders.get(member.mesh)
            if loader is None:
                loader = Experiment.make_loader(member, self.examples)
            if isinstance(loader, DeviceResident):
                self._loaders[member.mesh] = loader
            return loader

    def make_train_step(self, member: Experiment) -> TrainStep:
        """Makes a run's train step."""
        arguments = self.arguments(member.config)
        return _SharedStep(self._steps, self.first.mesh, arguments, compiling=self._lock)


@dataclass(frozen=True)
class _SharedStep(TrainStep):
    """A run's train step; only the first of the runs compiles."""

    compiling: threading.Lock = dataclasses.field(kw_only=True)

    def check_fits(self, state: GANState, data: Data) -> None:
        with self.compiling:
            super().check_fits(state, data)


@dataclass(frozen=True)
class Member(Experiment):
    """The parts of a run, which has examples and programs in common with others."""

    program: Program = dataclasses.field(kw_only=True)

    @classmethod
    def of(cls, experiment: Experiment, program: Program, mesh: Mesh) -> "Member":
        """Makes a member on some devices."""
        dataset = dataclasses.replace(experiment.dataset, load=lambda: program.examples)
        own = dataclasses.replace(experiment, mesh=mesh, dataset=dataset)
        return cls(**vars(own), program=program)

    def load_examples(self) -> Examples:
        """Returns the examples, which are read already."""
        return self.program.examples

    def make_loader(self, examples: Examples) -> Loader:
        """Returns the loader."""
        return self.program.make_loader(self)

    def init_on_mesh(self) -> GANState:
        """Returns the state before the first step."""
        return self.program.init_on_mesh(self)

    def find_warnings(self) -> list[str]:
        """Returns the warnings about the first run, for which they are logged, else none."""
        return super().find_warnings() if self.config == self.program.first.config else []


def find_alike(experiments: Mapping[Path, Experiment]) -> list[dict[Path, Experiment]]:
    """Returns runs in groups that differ in seed and numbers of specs alone."""
    alike: dict[TrainConfig, dict[Path, Experiment]] = {}
    for path, experiment in experiments.items():
        numbers = with_names(experiment.config)[1]
        template, _ = with_names(experiment.config, range(len(numbers)))
        alike.setdefault(template, {})[path] = experiment
    return list(alike.values())


def make_programs(
    alike: Mapping[Path, Experiment],
    device: jax.Device,
    known: dict[tuple[str, str | None], Examples],
) -> list[tuple[Program | None, list[Path]]]:
    """Makes the programs of runs that differ in seed and numbers alone.

    Args:
      alike: The parts of each run, by its folder; see `find_alike`.
      device: The device that the programs are for, at first.
      known: The examples of each dataset and `data_dir` that have been read; more are added.

    Returns:
      Groups of runs, each with its program; a run that is like no other has none.
    """
    paths, first = list(alike), next(iter(alike.values()))
    if len(paths) == 1:
        return [(None, paths)]
    mesh = jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=[device])
    source = first.config.dataset, first.config.data_dir
    if source not in known:
        known[source] = first.load_examples()
    examples = known[source]
    check_indices(len(examples.labels), first.config.batch_size)
    first = dataclasses.replace(first.with_data(examples), mesh=mesh)
    columns = list(zip(*(with_names(own.config)[1] for own in alike.values()), strict=True))
    kinds = [float if any(isinstance(n, float) for n in column) else int for column in columns]
    differ = {n: kinds[n] for n, column in enumerate(columns) if len(set(column)) > 1}
    program = Program(first, examples, differ)
    if not differ or program.can_be_traced():
        return [(program, paths)]
    free = {
        n: own for n, own in differ.items() if Program(first, examples, {n: own}).can_be_traced()
    }
    if not Program(first, examples, free).can_be_traced():
        free = {}
    apart: dict[tuple[float, ...], list[Path]] = {}
    for path, numbers in zip(paths, zip(*columns, strict=True), strict=True):
        key = tuple(number for n, number in enumerate(numbers) if n not in free)
        apart.setdefault(key, []).append(path)
    logging.info("%d runs differ in what is compiled: %d programs", len(paths), len(apart))
    groups: list[tuple[Program | None, list[Path]]] = []
    for own in apart.values():
        experiment = dataclasses.replace(alike[own[0]].with_data(examples), mesh=mesh)
        groups.append((Program(experiment, examples, free) if len(own) > 1 else None, own))
    return groups
