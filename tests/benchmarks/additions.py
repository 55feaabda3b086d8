"""Measures what regularizers, augmentations and bfloat16 add to a step.

python -m tests.benchmarks.additions

It trains a DCGAN on random 32x32 images in colour, batch size 64, Optimistic Adam. All rows take turns,
round by round, in one process; a row's ratio is the median of those of its times to the plain step's
in the same rounds, with the least and the greatest. Takes about 10 minutes on two cores.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from gan.config import TrainConfig
from gan.text_tables import format_table
from gan.trainers.experiment import build
from gan.trainers.train_step import make_train_step

ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "r1": {"regularizers": ("r1",)},
    "r1(every=16)": {"regularizers": ("r1(every=16)",)},
    "r1(approximate=True)": {"regularizers": ("r1(approximate=True)",)},
    "gradient_penalty": {"regularizers": ("gradient_penalty",)},
    "dragan": {"regularizers": ("dragan",)},
    "lecam": {"regularizers": ("lecam",)},
    "bcr": {"regularizers": ("bcr",)},
    "zcr": {"regularizers": ("zcr",)},
    "path_length": {"regularizers": ("path_length",)},
    "diffaugment": {"discriminator_augmentation": "diffaugment"},
    "ada(p=0.5)": {"discriminator_augmentation": "ada(p=0.5)"},
    "ada(p=0.5), r1(every=16)": {
        "discriminator_augmentation": "ada(p=0.5)", "regularizers": ("r1(every=16)",),
    },
    "microbatches=4": {"microbatches": 4},
    "bfloat16": {"precision": "bfloat16"},
}  # fmt: skip


def main() -> None:
    """Prints a line for each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=32, help="channels of the DCGAN (32)")
    parser.add_argument(
        "--only", nargs="+", choices=list(ROWS), help="these rows, beside the plain one"
    )
    flags = parser.parse_args()
    names = [name for name in ROWS if not flags.only or name in ("plain", *flags.only)]
    sides = {name: timed_step(ROWS[name], flags.width) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(flags.rounds):
        for name in names[:: 1 - 2 * (number % 2)]:
            times[name].append(sides[name]())
    rows = [["added", "ms a step", "over the plain one"]]
    for name in names:
        ratios = [one / plain for one, plain in zip(times[name], times["plain"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append([name, f"{1000 * statistics.median(times[name]):.0f}", spread])
    print(format_table(rows, "lrr"))


def timed_step(changes: dict[str, Any], width: int) -> Callable[[], float]:
    """Compiles a config's step; returns a function that makes 16 steps and gives the time of one."""
    config = TrainConfig(
        **{
            "dataset": "noise(32, num_images=256)",
            "generator": f"dcgan({width}, batch_norm=False)",
            "discriminator": f"dcgan({width})",
            "generator_optimizer": "optimistic_adam(1e-6)",
            "discriminator_optimizer": "optimistic_adam(1e-6)",
            "mesh": "data(1)",
        }
        | changes
    )
    experiment = build(config)
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data
    step = make_train_step(experiment)
    state = step(experiment.init_on_mesh(), data, 1).state

    def seconds() -> float:
        nonlocal state
        begin = time.perf_counter()
        state = jax.block_until_ready(step(state, data, 16).state)
        return (time.perf_counter() - begin) / 16

    return seconds


if __name__ == "__main__":
    main()
