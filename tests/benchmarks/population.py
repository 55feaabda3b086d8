"""Compares a population with the same runs one after the other, start to end, with compiling.

    python -m tests.benchmarks.population
    python -m tests.benchmarks.population --config configs/mnist.py --size 4 --rounds 3 \
        --config.num_steps=200 --config.dataset='noise(28, 1)' \
        --config.generator='dcgan(32)' --config.discriminator='dcgan(32)'

Each round trains all runs twice, in new folders: by `train_population`, and by `gan.trainers.train.train` one by
one in the same process; every other round in reverse order. Compiled programs are dropped before each side,
and the persistent cache is off. Leave the machine alone meanwhile. GAN_ONEDNN=0 is without oneDNN.
"""

import argparse
import dataclasses
import pathlib
import sys
import tempfile
import time

import jax
from absl import logging

from gan import cli, config_files, environment
from gan.config import TrainConfig
from gan.trainers import sampling
from gan.trainers.population import train_population
from gan.trainers.train import train
from tests.benchmarks.recipes import FOLDER
from tests.benchmarks.turns import Spread, ratio, take_turns


def measure(config: TrainConfig, size: int, together: bool) -> float:
    """Returns how many seconds some seeds take."""
    jax.clear_caches()
    sampling._programs.cache_clear()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        if together:
            train_population(dataclasses.replace(config, population=size), scratch).check()
        else:
            for seed in range(config.seed, config.seed + size):
                own = dataclasses.replace(config, seed=seed)
                train(own, pathlib.Path(scratch) / f"seed_{seed}", tables=seed == config.seed)
                jax.clear_caches()
                sampling._programs.cache_clear()
    return time.monotonic() - begin


def main() -> None:
    """Measures, and prints medians with the least and the greatest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default=str(FOLDER / "digits.py"))
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    flags, overrides = cli.parse_with_overrides(parser, sys.argv[1:])
    jax.config.update("jax_enable_compilation_cache", False)
    config = config_files.load(flags.config, {"num_steps": "1_000"} | overrides)
    logging.set_verbosity(logging.WARNING)
    sides = {
        "population": lambda: measure(config, flags.size, together=True),
        "one after the other": lambda: measure(config, flags.size, together=False),
    }
    seconds = take_turns(sides, flags.rounds)
    for name, values in seconds.items():
        print(f"{name}: {Spread.of(values):.1f} s")
    print(f"ratio: {ratio(seconds['population'], seconds['one after the other']):.2f}")


if __name__ == "__main__":
    environment.prepare()
    main()
