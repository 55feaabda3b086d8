"""Measures what data cost: preparing them, starting with them, and bringing them to the device.

python -m tests.benchmarks.data --mnist FOLDER_WITH_IDX_FILES --cifar10 FOLDER_OR_TAR

It measures MNIST and CIFAR-10 as published, the first with an unconditional DCGAN, the second with its config, and a folder of 10,000 JPEGs of
96x96 (CIFAR-10's test images, enlarged), read at 64x64 and streamed. Each command is a process of
its own, of which the time and the peak memory are printed, mapped files included. The rate of
delivery is that of an epoch or of five seconds; a file is evicted from memory before it is
streamed. Takes about 6 minutes on two cores.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from PIL import Image

from gan import config_files
from gan.data import batch_at
from gan.data.placement import Placement
from gan.trainers.experiment import Experiment, build
from tests.benchmarks import PLAIN

_ROOT = pathlib.Path(__file__).parents[2]
_NUM_PHOTOS = 10_000


@dataclass(frozen=True)
class Cost:
    """The cost of a process.

    Attributes:
      seconds: Its duration.
      megabytes: Its peak memory.
      start_seconds: Time until it logs that it trains; 0 if it does not.
    """

    seconds: float
    megabytes: float
    start_seconds: float


def main() -> None:
    """Prints a line for each dataset and placement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", required=True, help="folder of MNIST's IDX files")
    parser.add_argument("--cifar10", required=True, help="CIFAR-10's folder or .tar.gz")
    flags = parser.parse_args()
    print("dataset | prepare | start, memory in training | the step needs | delivered")
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name in ("mnist", "cifar10"):
            raw = ["--dataset", name, "--data_dir", folder, "--raw_dir", getattr(flags, name)]
            prepared = run("prepare_data.py", *raw)
            for placement in ("replicated", "streamed"):
                report(root, name, prepared, {"data_dir": folder, "data_placement": placement})
        photos = make_photos(folder)
        spec = f"images({str(photos)!r}, resolution=64)"
        prepared = run("prepare_data.py", "--dataset", spec)
        report(root, "cifar10", prepared, {"dataset": spec, "data_placement": "streamed"})


def report(root: pathlib.Path, name: str, prepared: Cost, changes: dict[str, str]) -> None:
    """Trains shortly with a config, and prints a line of the table."""
    workdir = pathlib.Path(tempfile.mkdtemp(dir=root))
    changes = PLAIN[name] | changes
    short = {"num_steps": "60", "log_every_steps": "20", "sample_every_steps": "0"} | changes
    trained = run(
        "train.py", "--config", _ROOT / "configs" / f"{name}.py", "--workdir", workdir,
        *(f"--config.{key}={value}" for key, value in short.items()),
    )  # fmt: skip
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    needs = statistics.median(line["images_per_second"] for line in lines)
    experiment = build(config_files.load(_ROOT / "configs" / f"{name}.py", changes))
    print(
        f"{experiment.dataset.name}, {changes['data_placement']} | "
        f"{prepared.seconds:.0f} s, {prepared.megabytes:,.0f} MB | "
        f"{trained.start_seconds:.0f} s, {trained.megabytes:,.0f} MB | "
        f"{needs:,.0f} images/s | {delivered(experiment):,.0f} images/s",
        flush=True,
    )


def run(script: str, *args: object) -> Cost:
    """Runs one of the scripts, and returns its cost."""
    command = [sys.executable, str(_ROOT / "scripts" / script), *map(str, args)]
    begin = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lines, start_seconds = [], 0.0
        for line in process.stderr:
            lines.append(line)
            if "training from step" in line:
                start_seconds = time.monotonic() - begin
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("".join(lines))
    return Cost(time.monotonic() - begin, usage.ru_maxrss / 1024, start_seconds)


def delivered(experiment: Experiment) -> float:
    """Measures the images per second that reach the device when nothing else is done."""
    batch_size, seconds = experiment.config.batch_size, 5.0
    examples = experiment.load_examples()
    if streamed := experiment.data_placement is Placement.STREAMED:
        evict(examples.examples)
    loader = experiment.make_loader(examples)

    @jax.jit
    def total(data: object, first: jax.Array, count: jax.Array) -> jax.Array:
        def add(offset: jax.Array, sum_: jax.Array) -> jax.Array:
            batch = batch_at(data, batch_size, 0, first + offset)
            return sum_ + batch.examples.sum()

        return jax.lax.fori_loop(0, count, add, 0.0)

    step, most = 0, len(examples.labels) / batch_size if streamed else math.inf
    total(loader.at(0, step).data, step, 1).block_until_ready()
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds and step < most:
        data, num_steps = loader.at(0, step)
        count = min(num_steps, 256)
        total(data, step, count).block_until_ready()
        step += count
    return step * batch_size / spent


def evict(mapped: Any) -> None:
    """Evicts a mapped file from memory, on systems that can be asked to."""
    if hasattr(os, "posix_fadvise"):
        with open(mapped.filename, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def make_photos(data_dir: str) -> pathlib.Path:
    """Writes CIFAR-10's test images as JPEGs of 96x96 into a folder, and returns it."""
    loaded = config_files.load(
        _ROOT / "configs" / "cifar10.py",
        {"data_dir": data_dir, "dataset": "cifar10('test')"},
    )
    folder = pathlib.Path(data_dir) / "photos"
    folder.mkdir()
    for number, image in enumerate(build(loaded).load_examples().examples[:_NUM_PHOTOS]):
        photo = Image.fromarray(np.asarray(image)).resize((96, 96), Image.Resampling.BICUBIC)
        photo.save(folder / f"{number:05d}.jpg")
    return folder


if __name__ == "__main__":
    main()
