"""Measures what one backward pass through the discriminator saves in simultaneous steps, over two.

python tests/benchmarks/one_pass.py

It trains two DCGANs on random images with batch size 64 and Optimistic Adam: 28x28 with 32 and 64
channels, and 32x32 in colour with 64, 128 and 256 channels. The two sides take turns in one
process; each line is the median of the ratios of their times, with the least and the greatest.
Takes about 3 minutes on two cores.
"""

import argparse
import statistics
import time
from unittest import mock

import jax
import numpy as np

from gan.config import TrainConfig
from gan.data.dataset import Dataset, Examples
from gan.trainers.experiment import build
from gan.trainers.train_step import make_train_step


def main() -> None:
    """Prints a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10, help="steps of a side in its turn (10)")
    flags = parser.parse_args()
    for shape, width in (((28, 28, 1), 32), ((32, 32, 3), 64)):
        ratios = compare(shape, width, flags.pairs, flags.steps)
        print(
            f"{' x '.join(map(str, shape))}, width {width}: two passes over one "
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, "
            f"{len(ratios)} pairs)",
            flush=True,
        )


def compare(shape: tuple[int, int, int], width: int, pairs: int, steps: int) -> list[float]:
    """Computes ratios of a step's time, with two backward passes over one."""
    images = np.random.default_rng(0).integers(0, 256, [256, *shape]).astype(np.uint8)
    examples = Examples(images, np.zeros(256, np.int32))
    dataset = Dataset("noise", shape, 1, lambda: examples)
    config = TrainConfig(
        generator=f"dcgan({width})",
        discriminator=f"dcgan({width})",
        generator_optimizer="optimistic_adam(1e-6)",
        discriminator_optimizer="optimistic_adam(1e-6)",
        mesh="data(1)",
    )
    with mock.patch("gan.data.DATASETS.build", lambda *_, **__: dataset):
        experiment = build(config)
    data = experiment.make_loader(examples).at(0, 0).data
    sides = {}
    for per_sample in (True, False):
        player = type(experiment.game.discriminator)
        with mock.patch.object(player, "per_sample", per_sample):
            step = make_train_step(experiment)
            sides[per_sample] = (step, step(experiment.init_on_mesh(), data, 1).state)

    def seconds(per_sample: bool) -> float:
        step, state = sides[per_sample]
        begin = time.perf_counter()
        state = jax.block_until_ready(step(state, data, steps).state)
        sides[per_sample] = (step, state)
        return time.perf_counter() - begin

    ratios = []
    for pair in range(pairs):
        times = {side: seconds(side) for side in (True, False)[:: 1 - 2 * (pair % 2)]}
        ratios.append(times[False] / times[True])
    return ratios


if __name__ == "__main__":
    main()
