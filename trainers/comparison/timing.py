"""How long a step of each method takes, measured in turns: a machine is slower at times."""

import contextlib
import dataclasses
import json
import pathlib
import statistics
import time
from collections.abc import Iterator, Mapping

import jax
from absl import logging

from gan.annotations import matches
from gan.config import TrainConfig, to_json
from gan.data import Examples
from gan.files import write_json
from gan.trainers.experiment import build
from gan.trainers.train_step import MAX_STEPS, make_train_step
from gan.untrusted import read_json

_ROUNDS = 7
_LEAST_SECONDS = 0.25  # of a window


class _Stopwatch:
    """Trains with a config, without logs, evaluations or checkpoints, and times it in windows.

    Args:
      config: What is trained.
      examples: Its data.
    """

    def __init__(self, config: TrainConfig, examples: Examples):
        experiment = build(config).with_data(examples)
        self._seed, self._step, self._num_steps = config.seed, 0, 1
        self._loader = experiment.make_loader(examples)
        self._train_step = make_train_step(experiment)
        self._state = experiment.init_on_mesh()
        self._train(1)  # compiles
        while self.window() * self._num_steps < _LEAST_SECONDS and self._num_steps < MAX_STEPS:
            self._num_steps = min(2 * self._num_steps, MAX_STEPS)

    def window(self) -> float:
        """Makes some steps, and returns the seconds that one of them took."""
        begin = time.monotonic()
        self._train(self._num_steps)
        return (time.monotonic() - begin) / self._num_steps

    def close(self) -> None:
        """Ends the loader's work."""
        self._loader.close()

    def _train(self, num_steps: int) -> None:
        end = self._step + num_steps
        while self._step < end:
            chunk = self._loader.at(self._seed, self._step)
            count = min(end - self._step, chunk.num_steps)
            self._state = self._train_step(self._state, chunk.data, count).state
            self._step += count
        jax.block_until_ready(self._state)


def seconds_per_step(
    configs: Mapping[str, TrainConfig], path: pathlib.Path, measure: bool = True
) -> dict[str, float]:
    """Returns the median time of a step of each method, over windows in turns.

    It is the time of training alone: no compilation, evaluation, log or checkpoint is in it, and every
    method has the whole machine.

    Args:
      configs: Each method's config; all have the same data.
      path: A file that keeps the measurement of these configs, wherever their data are.
      measure: Whether to measure where the file does not have it.

    Returns:
      Seconds by method; none where they are not known.
    """
    anywhere = {
        name: dataclasses.replace(config, data_dir=None) for name, config in configs.items()
    }
    asked = {name: json.loads(to_json(config)) for name, config in anywhere.items()}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = read_json(path, follow=False)
        if known["configs"] == asked and matches(known["seconds"], dict[str, list[float]]):
            return {name: statistics.median(known["seconds"][name]) for name in configs}
    if not measure:
        return {}
    windows = _take_turns(configs)
    write_json(path, {"seconds": windows, "configs": asked})
    return {name: statistics.median(values) for name, values in windows.items()}


def _take_turns(configs: Mapping[str, TrainConfig]) -> dict[str, list[float]]:
    """Times a window of each method in every round, every other round in reverse order."""
    windows: dict[str, list[float]] = {name: [] for name in configs}
    with _started(configs) as stopwatches:
        logging.info("timing %d methods in turns, in %d rounds", len(configs), _ROUNDS)
        for number in range(_ROUNDS):
            for name in list(stopwatches)[:: -1 if number % 2 else 1]:
                windows[name].append(stopwatches[name].window())
    return windows


@contextlib.contextmanager
def _started(configs: Mapping[str, TrainConfig]) -> Iterator[dict[str, _Stopwatch]]:
    """Yields a stopwatch for each method, all on the same examples."""
    examples = build(next(iter(configs.values()))).load_examples()
    with contextlib.ExitStack() as stack:
        stopwatches = {}
        for place, (name, config) in enumerate(configs.items()):
            logging.info("timing: compiling method %d of %d, %s", place + 1, len(configs), name)
            stopwatches[name] = _Stopwatch(config, examples)
            stack.callback(stopwatches[name].close)
        yield stopwatches
