"""Measures what evaluation costs: of a run, of nearest neighbours, and of Inception's features.

python -m tests.benchmarks.evaluation --workdir RUN

RUN is a run of configs/mnist.py. Each line but the last gives the time and the peak memory of a
process of its own; for the last, the two networks take turns in one process, with random weights, and
the ratio is the median of the rounds, with the least and the greatest. Takes about 8 minutes on two cores; torch is optional.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from unittest import mock

import jax
import numpy as np

from gan.models.inception import InceptionV3, tf1
from tests.benchmarks.turns import Spread, ratio, take_turns

_ROOT = pathlib.Path(__file__).parents[2]
_NEIGHBOURS = """
import numpy as np
from gan.metrics.prdc import prdc
rng = np.random.default_rng(0)
real, fake = (rng.standard_normal([10_000, 2_048], np.float32) for _ in range(2))
print(prdc(real, fake))
"""
_BATCH = 32


def main() -> None:
    """Prints a line for each cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", required=True, help="a run of configs/mnist.py")
    parser.add_argument(
        "--repeats", type=int, default=5, help="turns of each Inception network (5)"
    )
    flags = parser.parse_args()
    script = str(_ROOT / "scripts" / "evaluate.py")
    run([script, "--workdir", flags.workdir, "--num_images", "1000"])  # fills the cache
    for count in ("10000", "50000"):
        cost = run([script, "--workdir", flags.workdir, "--num_images", count])
        print(f"evaluate.py, {int(count):,} images: {cost}", flush=True)
    print(f"importing only: {run(['-c', 'import gan.trainers.evaluation.evaluate'])}")
    print(
        f"neighbours of 10,000 x 10,000 in 2,048 features: {run(['-c', _NEIGHBOURS])}", flush=True
    )
    inception(flags.repeats)


def run(arguments: list[str]) -> str:
    """Runs Python with some arguments, and describes its time and peak memory."""
    begin = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} failed")
    return f"{time.monotonic() - begin:.0f} s, {usage.ru_maxrss / 1024:,.0f} MB"


def inception(repeats: int) -> None:
    """Prints the images per second of each Inception network, resizing included, and their ratio."""
    images = np.random.default_rng(0).integers(0, 256, [_BATCH, 32, 32, 3]).astype(np.uint8)
    network = InceptionV3()
    params = network.init(jax.random.key(0), tf1(images[:1]))
    apply = jax.jit(lambda images: network.apply(params, tf1(images)).pool)
    sides = {"ours": timer(lambda: apply(images).block_until_ready())}
    if (reference := torch_fidelity()) is not None:
        sides["torch-fidelity's"] = timer(lambda: reference(images))
    times = take_turns(sides, repeats)
    for name, seconds in times.items():
        print(f"Inception, {name}: {Spread.of([_BATCH / t for t in seconds]):.1f} images/s")
    if len(times) == 2:
        ours, theirs = times.values()
        print(f"ours is {ratio(theirs, ours):.2f} times as fast, of {repeats} rounds")


def timer(call: Callable[[], object]) -> Callable[[], float]:
    """Returns a function that measures the time of a call."""

    def seconds() -> float:
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin

    return seconds


def torch_fidelity() -> Callable[[np.ndarray], object] | None:
    """Returns torch-fidelity's network, or None where torch is not installed."""
    try:
        import torch
    except ImportError:
        return None
    below = ("", ".datasets", ".io", ".models", ".transforms", ".transforms.functional", ".utils")
    with mock.patch.dict(sys.modules, {f"torchvision{name}": mock.MagicMock() for name in below}):
        from torch_fidelity import feature_extractor_inceptionv3 as module
    with (
        mock.patch.object(torch, "load"),
        mock.patch.object(module.FeatureExtractorInceptionV3, "load_state_dict"),
    ):
        network = module.FeatureExtractorInceptionV3("inception", ["2048"], "random.pth")

    def extract(images: np.ndarray) -> object:
        with torch.no_grad():
            return network(torch.tensor(images.transpose(0, 3, 1, 2)))

    return extract


if __name__ == "__main__":
    main()
