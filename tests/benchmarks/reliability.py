"""What reliability costs: saving every 100 steps, and looking at every step's numbers.

python tests/benchmarks/reliability.py --data_dir DIR

MNIST's DCGAN of configs/mnist.py, batch 64. The two sides take turns in one process; each line is a
median of ratios with the smallest and the largest. About 8 minutes on two cores.
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

from gan import config
from gan.config import TrainConfig
from gan.trainers import train_step
from gan.trainers.experiment import build
from gan.trainers.loop import train

_ROOT = pathlib.Path(__file__).parents[2]


def main() -> None:
    """Flags in, two lines out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", help="where TFDS prepared MNIST")
    parser.add_argument("--pairs", type=int, default=30)
    flags = parser.parse_args()
    overrides = {"data_dir": flags.data_dir} if flags.data_dir else {}
    loaded = config.load(_ROOT / "configs" / "mnist.py", overrides)
    with tempfile.TemporaryDirectory() as folder:
        print(
            _words("a step with a save every 100, over none", saving(loaded, folder, flags.pairs))
        )
    print(_words("a step that is looked at, over one that is not", looking(loaded, flags.pairs)))


def saving(loaded: TrainConfig, folder: str, pairs: int) -> list[float]:
    """Ratios of the whole loop's time a step, of 100 steps after a save over the 100 that follow.

    It is one run that logs every 100 steps and saves every 200: the machine has little time to change
    between the two.
    """
    steps = 200 * (pairs + 1)
    one = dataclasses.replace(
        loaded, num_steps=steps, log_every_steps=100, checkpoint_every_steps=200,
        sample_every_steps=0, eval_every_steps=0,
    )  # fmt: skip
    train(one, pathlib.Path(folder) / "run")
    lines = (pathlib.Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    speed = {line["step"]: line["images_per_second"] for line in map(json.loads, lines)}
    return [speed[step + 200] / speed[step + 100] for step in range(200, steps, 200)]


def looking(loaded: TrainConfig, pairs: int) -> list[float]:
    """Ratios of the bare step's time, with and without the search for what is not finite."""
    experiment = build(loaded)
    data = experiment.feed(experiment.dataset.load()).at(0, 0).data

    def compiled(looks: bool) -> tuple[train_step.TrainStep, object]:
        blind = mock.patch.object(
            train_step, "not_finite", lambda state, metrics: {"none": jax.numpy.zeros([], bool)}
        )
        with contextlib.nullcontext() if looks else blind:
            step = train_step.make_train_step(experiment)
            return step, step(experiment.init_on_mesh(), data, 20).state

    sides = {looks: compiled(looks) for looks in (True, False)}

    def seconds(looks: bool) -> float:
        step, state = sides[looks]
        begin = time.perf_counter()
        state = jax.block_until_ready(step(state, data, 60).state)
        sides[looks] = (step, state)
        return time.perf_counter() - begin

    ratios = []
    for pair in range(pairs):
        times = {looks: seconds(looks) for looks in (True, False)[:: 1 - 2 * (pair % 2)]}
        ratios.append(times[True] / times[False])
    return ratios


def _words(what: str, ratios: list[float]) -> str:
    middle = statistics.median(ratios)
    return f"{what}: {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs)"


if __name__ == "__main__":
    main()
