"""Measures what evaluation costs: of a run, of nearest neighbours, and of Inception's features.

python -m tests.benchmarks.evaluation --workdir RUN

RUN is a run of configs/mnist.py. Each line but the last gives the time and the peak memory of a
process of its own; for the last, the two networks take turns, with random weights, each turn a process of its
own, since the threads of the one slow down the other; the ratio is the median of the rounds, with the least and the
greatest. `--inception_only` leaves out all but this line. Takes about 8 minutes on two cores; torch is optional.
"""

import argparse
import importlib.util
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
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
_INCEPTIONS = ("ours", "torch-fidelity")


def main() -> None:
    """Prints a line for each cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", help="a run of configs/mnist.py")
    parser.add_argument("--inception_only", action="store_true")
    parser.add_argument("--inception_turn", choices=_INCEPTIONS, help=argparse.SUPPRESS)
    parser.add_argument(
        "--repeats", type=int, default=5, help="turns of each Inception network (5)"
    )
    flags = parser.parse_args()
    if flags.inception_turn:
        print(inception_seconds(flags.inception_turn))
        return
    if flags.inception_only:
        inception(flags.repeats)
        return
    if not flags.workdir:
        parser.error("--workdir is needed")
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
    names = _INCEPTIONS if importlib.util.find_spec("torch") else _INCEPTIONS[:1]
    times = take_turns({name: partial(_turn, name) for name in names}, repeats)
    for name, seconds in times.items():
        print(f"Inception, {name}: {Spread.of([_BATCH / t for t in seconds]):.1f} images/s")
    if len(times) == 2:
        ours, theirs = times.values()
        print(f"ours is {ratio(theirs, ours):.2f} times as fast, of {repeats} rounds")


def _turn(name: str) -> float:
    """Measures a call of one network in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--inception_turn", name]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def inception_seconds(name: str) -> float:
    """Returns the time of a call of one network: the median of three."""
    images = np.random.default_rng(0).integers(0, 256, [_BATCH, 32, 32, 3]).astype(np.uint8)
    call = ours() if name == "ours" else torch_fidelity()
    call(images)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        call(images)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def ours() -> Callable[[np.ndarray], object]:
    """Returns our network."""
    network = InceptionV3()
    params = network.init(jax.random.key(0), tf1(np.zeros([1, 32, 32, 3], np.uint8)))
    apply = jax.jit(lambda images: network.apply(params, tf1(images)).pool)
    return lambda images: apply(images).block_until_ready()


def torch_fidelity() -> Callable[[np.ndarray], object]:
    """Returns torch-fidelity's network."""
    import torch

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
