"""What one pass back through the discriminator saves in simultaneous steps, against two.

python tests/benchmarks/one_pass.py

Two DCGANs on random images, batch 64, Optimistic Adam: 28x28 as in configs/mnist.py, and 32x32 in
colour with 64, 128, 256 channels. The two sides take turns in one process; each line is the median of
the ratios of their times, with the smallest and the largest. About 3 minutes on two cores.
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
    """Flags in, two lines out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10, help="of each side at a time (10)")
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
    """Ratios of the time of a step with two passes to one with one."""
    images = np.random.default_rng(0).integers(0, 256, [256, *shape]).astype(np.uint8)
    examples = Examples(images, np.zeros(256, np.int32))
    dataset = Dataset("noise", shape, 1, lambda: examples)
    config = TrainConfig(
        generator=f"dcgan({width})", discriminator=f"dcgan({width})", mesh="data(1)",
        generator_optimizer="optimistic_adam(1e-6)", discriminator_optimizer="optimistic_adam(1e-6)",
    )  # fmt: skip
    with mock.patch("gan.data.DATASETS.build", lambda *_, **__: dataset):
        experiment = build(config)
    data = experiment.feed(examples).at(0, 0).data
    sides = {}
    for samplewise in (True, False):
        player = type(experiment.game.discriminator)
        with mock.patch.object(player, "samplewise", samplewise):
            step = make_train_step(experiment)
            sides[samplewise] = (step, step(experiment.init_on_mesh(), data, 1).state)

    def seconds(samplewise: bool) -> float:
        step, state = sides[samplewise]
        begin = time.perf_counter()
        state = jax.block_until_ready(step(state, data, steps).state)
        sides[samplewise] = (step, state)
        return time.perf_counter() - begin

    ratios = []
    for pair in range(pairs):
        times = {side: seconds(side) for side in (True, False)[:: 1 - 2 * (pair % 2)]}
        ratios.append(times[False] / times[True])
    return ratios


if __name__ == "__main__":
    main()
