"""The program that the members of a population have in common: seed and numbers are arguments of it.

The parts of a member are built while the program is traced, with a traced number in the place of each number
in which members differ. What no program can be traced with, such as the width of a network or a number that a
part asks whether it is 0, is not one of these: there is a program for each of its values.
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from gan.config import SETTINGS, OnResume, TrainConfig
from gan.data import Data, Examples, Loader
from gan.data.loaders import DeviceResident
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
    """What members that differ in seed and numbers execute; compiled once, at their first call.

    Args:
      first: The parts of one of them, which knows its data.
      examples: The examples that all are trained on.
      loader: The first one's; the others have it too where it holds all examples.
      places: The numbers that differ, as in `with_names`.

    Attributes:
      first: As given.
      examples: As given.
    """

    def __init__(
        self, first: Experiment, examples: Examples, loader: Loader, places: Sequence[int]
    ) -> None:
        self.first, self.examples, self._loader = first, examples, loader
        self._places = tuple(places)
        self._template = with_names(first.config, places)[0]
        self._compiling = threading.Lock()
        everywhere = replicated(first.mesh)
        self._init = jax.jit(self.init, out_shardings=everywhere)
        self._steps = jax.jit(self.steps, donate_argnums=0, out_shardings=everywhere)

    def arguments(self, config: TrainConfig) -> tuple[np.uint32, tuple[float, ...]]:
        """Returns a member's seed and numbers."""
        numbers = with_names(config)[1]
        return np.uint32(config.seed), tuple(numbers[place] for place in self._places)

    def init(self, seed: Any, numbers: Sequence[Any]) -> GANState:
        """Returns a member's state before the first step."""
        return self._parts(numbers).init(seed)

    def steps(
        self, state: GANState, data: Data, num_steps: Any, seed: Any, numbers: Sequence[Any]
    ) -> TrainStepOutput:
        """Makes some steps of a member."""
        return make_step_function(self._parts(numbers), seed)(state, data, num_steps)

    def _parts(self, numbers: Sequence[Any]) -> Experiment:
        """Builds the parts of a member while a function is traced."""
        with numbers_by_name(dict(zip(map(_name, self._places), numbers, strict=True))):
            return build(self._template, self.first.data)

    def can_be_traced(self) -> bool:
        """Returns whether parts can be built, and make a step, whose numbers are not known yet."""
        config, target = self.first.config, self.first.state_target()
        seed, numbers = self.arguments(config)
        data = self._loader.at(config.seed, 0).data
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

    def init_on_mesh(self, config: TrainConfig) -> GANState:
        """Returns a member's state before the first step, on its devices."""
        with self._compiling:
            return self._init(*self.arguments(config))

    def make_loader(self, member: Experiment, examples: Examples) -> Loader:
        """Returns a member's loader."""
        if isinstance(self._loader, DeviceResident):
            return self._loader
        return Experiment.make_loader(member, examples)

    def make_train_step(self, member: Experiment) -> TrainStep:
        """Makes a member's train step."""
        return _SharedStep(
            self._steps,
            self.first.mesh,
            self.arguments(member.config),
            compiling=self._compiling,
        )


@dataclass(frozen=True)
class _SharedStep(TrainStep):
    """A member's train step; only the first of the members compiles."""

    compiling: threading.Lock = dataclasses.field(kw_only=True)

    def check_fits(self, state: GANState, data: Data) -> None:
        with self.compiling:
            super().check_fits(state, data)


@dataclass(frozen=True)
class Member(Experiment):
    """The parts of a member, which has examples and programs in common with others."""

    program: Program = dataclasses.field(kw_only=True)

    @classmethod
    def of(cls, experiment: Experiment, program: Program) -> "Member":
        """Makes a member of an experiment."""
        return cls(**vars(experiment), program=program)

    def load_examples(self) -> Examples:
        """Returns the examples, which are read already."""
        return self.program.examples

    def make_loader(self, examples: Examples) -> Loader:
        """Returns the loader."""
        return self.program.make_loader(self, examples)

    def init_on_mesh(self) -> GANState:
        """Returns the state before the first step."""
        return self.program.init_on_mesh(self.config)

    def find_warnings(self) -> list[str]:
        """Returns the warnings about the first member, for which they are logged, else none."""
        return super().find_warnings() if self.config == self.program.first.config else []


def find_programs(
    experiments: Mapping[Path, Experiment],
) -> list[tuple[Program | None, list[Path]]]:
    """Finds which runs differ in seed and numbers alone, and so can have one program.

    Args:
      experiments: The parts of each run, by its folder.

    Returns:
      Groups of runs, each with its program; a run that is like no other has none.
    """
    alike: dict[TrainConfig, list[Path]] = {}
    for path, experiment in experiments.items():
        numbers = with_names(experiment.config)[1]
        template, _ = with_names(experiment.config, range(len(numbers)))
        alike.setdefault(template, []).append(path)
    return [
        group
        for paths in alike.values()
        for group in _programs({path: experiments[path] for path in paths})
    ]


def _programs(experiments: Mapping[Path, Experiment]) -> list[tuple[Program | None, list[Path]]]:
    """Finds the programs of runs that differ in seed and numbers alone."""
    paths = list(experiments)
    if len(paths) == 1:
        return [(None, paths)]
    values = {path: with_names(own.config)[1] for path, own in experiments.items()}
    columns = list(zip(*values.values(), strict=True))
    differ = [place for place, column in enumerate(columns) if len(set(column)) > 1]
    first = experiments[paths[0]]
    examples = first.load_examples()
    first = first.with_data(examples)
    loader = first.make_loader(examples)
    program = Program(first, examples, loader, differ)
    if not differ or program.can_be_traced():
        return [(program, paths)]
    single = [n for n in differ if Program(first, examples, loader, [n]).can_be_traced()]
    if not Program(first, examples, loader, single).can_be_traced():
        single = []
    apart: dict[tuple[float, ...], list[Path]] = {}
    for path in paths:
        key = tuple(number for n, number in enumerate(values[path]) if n not in single)
        apart.setdefault(key, []).append(path)
    logging.info(
        "%d runs differ in numbers that decide what is compiled: %d programs",
        len(paths),
        len(apart),
    )
    return [
        group
        for own in apart.values()
        for group in (
            [(None, own)]
            if len(own) == 1
            else [(Program(experiments[own[0]].with_data(examples), examples, loader, single), own)]
        )
    ]
