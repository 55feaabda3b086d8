"""Measures what reliability costs: saving every 100 steps, and checking that every step is finite.

python -m tests.benchmarks.reliability --data_dir DIR

It trains an unconditional DCGAN on MNIST. The two sides take turns in one process; each line is the
median of their ratios, with the least and the greatest. Takes about 8 minutes on two cores.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import statistics
import tempfile
import time
from unittest import mock

import jax

from gan import config_files
from gan.config import TrainConfig
from gan.trainers import train_step
from gan.trainers.experiment import build
from gan.trainers.train import train
from tests.benchmarks import PLAIN

_ROOT = pathlib.Path(__file__).parents[2]


def main() -> None:
    """Prints a line for each of the two costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", help="the folder in which TFDS prepared MNIST")
    parser.add_argument("--pairs", type=int, default=30)
    flags = parser.parse_args()
    overrides = PLAIN["mnist"] | ({"data_dir": flags.data_dir} if flags.data_dir else {})
    loaded = config_files.load(_ROOT / "configs" / "mnist.py", overrides)
    with tempfile.TemporaryDirectory() as folder:
        ratios = saving(loaded, folder, flags.pairs)
        print(_describe("a step with a save every 100, over one without", ratios))
    ratios = checking(loaded, flags.pairs)
    print(_describe("a step that is checked, over one that is not", ratios))


def saving(loaded: TrainConfig, folder: str, pairs: int) -> list[float]:
    """Computes ratios of the loop's time: 100 steps after a save, over the next 100 without.

    Both are of one run, which logs every 100 steps and saves every 200, so that the machine has
    little time to change in between.
    """
    steps = 200 * (pairs + 1)
    config_of_run = dataclasses.replace(
        loaded, num_steps=steps, log_every_steps=100, checkpoint_every_steps=200,
        sample_every_steps=0, eval_every_steps=0,
    )  # fmt: skip
    train(config_of_run, pathlib.Path(folder) / "run")
    lines = (pathlib.Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    speed = {line["step"]: line["images_per_second"] for line in map(json.loads, lines)}
    return [speed[step + 200] / speed[step + 100] for step in range(200, steps, 200)]


def checking(loaded: TrainConfig, pairs: int) -> list[float]:
    """Computes ratios of a bare step's time, with the check that it is finite over without."""
    experiment = build(loaded)
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data

    def compiled(checks: bool) -> tuple[train_step.TrainStep, object]:
        no_check = mock.patch.object(
            train_step, "not_finite", lambda state, metrics: {"none": jax.numpy.zeros([], bool)}
        )
        with contextlib.nullcontext() if checks else no_check:
            step = train_step.make_train_step(experiment)
            return step, step(experiment.init_on_mesh(), data, 20).state

    sides = {checks: compiled(checks) for checks in (True, False)}

    def seconds(checks: bool) -> float:
        step, state = sides[checks]
        begin = time.perf_counter()
        state = jax.block_until_ready(step(state, data, 60).state)
        sides[checks] = (step, state)
        return time.perf_counter() - begin

    ratios = []
    for pair in range(pairs):
        times = {checks: seconds(checks) for checks in (True, False)[:: 1 - 2 * (pair % 2)]}
        ratios.append(times[True] / times[False])
    return ratios


def _describe(name: str, ratios: list[float]) -> str:
    median = statistics.median(ratios)
    return f"{name}: {median:.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs)"


if __name__ == "__main__":
    main()
