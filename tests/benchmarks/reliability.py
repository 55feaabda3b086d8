"""What reliability costs: saving every 100 steps, and looking at every step's numbers.

python tests/benchmarks/reliability.py --data_dir DIR

MNIST's DCGAN of configs/mnist.py, batch 64. The two sides take turns in one process; each line is a
median of ratios with the smallest and the largest. About 12 minutes on two cores.
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
from gan.sharding import replicated
from gan.trainers import train_step
from gan.trainers.experiment import build
from gan.trainers.loop import train

_ROOT = pathlib.Path(__file__).parents[2]


def main() -> None:
    """Flags in, two lines out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", help="where TFDS prepared MNIST")
    parser.add_argument("--pairs", type=int, default=6)
    flags = parser.parse_args()
    overrides = {"data_dir": flags.data_dir} if flags.data_dir else {}
    loaded = config.load(_ROOT / "configs" / "mnist.py", overrides)
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", f"{folder}/cache")
        print(
            _words("a step with a save every 100, over none", saving(loaded, folder, flags.pairs))
        )
    print(
        _words("a step that is looked at, over one that is not", looking(loaded, 2 * flags.pairs))
    )


def saving(loaded: TrainConfig, folder: str, pairs: int) -> list[float]:
    """Ratios of the whole loop's time a step, from `images_per_second` of 800 steps."""

    def images_per_second(every: int, name: str) -> float:
        workdir = pathlib.Path(folder) / name
        one = dataclasses.replace(
            loaded, num_steps=1_000, log_every_steps=200, checkpoint_every_steps=every,
            sample_every_steps=0, eval_every_steps=0,
        )  # fmt: skip
        train(one, workdir)
        lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        # The first window has the pace still to find.
        return statistics.harmonic_mean([line["images_per_second"] for line in lines][1:])

    ratios = []
    for pair in range(pairs):
        order = [(100, f"{pair}_saving"), (10**6, f"{pair}_plain")]
        speeds = {
            every: images_per_second(every, name) for every, name in order[:: 1 - 2 * (pair % 2)]
        }
        ratios.append(speeds[10**6] / speeds[100])
        print(f"  {ratios[-1]:.3f}", flush=True)
    return ratios


def looking(loaded: TrainConfig, pairs: int) -> list[float]:
    """Ratios of the bare step's time, with and without the search for what is not finite."""
    experiment = build(loaded)
    data = jax.device_put(tuple(experiment.dataset.load()), replicated(experiment.mesh))

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
