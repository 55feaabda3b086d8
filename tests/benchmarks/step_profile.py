"""Breaks down the time of a step on a CPU by kind of operation, with JAX's profiler.

python -m tests.benchmarks.step_profile --row dcgan32_simultaneous

A kind's time is that which all threads spend in it, divided by the number of cores; a call of oneDNN
has all cores. XLA does not report when Eigen's convolutions run: they are part of what remains of the
step. Takes half a minute.
"""

import argparse
import collections
import os
import pathlib
import re
import tempfile
import time

import jax

from gan.config_files import load
from gan.trainers.experiment import build
from gan.trainers.train_step import make_train_step
from tests.benchmarks.performance import ROOT, ROWS

STEPS = 10
ONEDNN = "oneDNN's convolutions"
KINDS = {  # by the name of an operation in the compiled program and where it comes from
    ONEDNN: lambda name, origin: "onednn" in origin,
    "YNNPACK's convolutions and products": lambda name, origin: (
        "ynn" in name and "reduce" not in origin
    ),
    "moving axes, slicing, joining": lambda name, origin: re.search(
        "transpose|copy|slice|pad|concatenate", name
    ),
    "sums": lambda name, origin: "ynn" in name or "reduce" in name,
    "number by number": lambda name, origin: True,
}


def main() -> None:
    """Profiles some steps, and prints a line for each kind of operation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", choices=ROWS, default="dcgan32_simultaneous")
    flags = parser.parse_args()
    config = load(ROOT / "configs" / "mnist.py", ROWS[flags.row] | {"mesh": "data(1)"})
    experiment = build(config)
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data
    step = make_train_step(experiment)
    state = step(experiment.init_on_mesh(), data, 1).state
    with jax.set_mesh(step.mesh):
        program = step.jitted.lower(state, data, 1).compile().as_text()
    state = jax.block_until_ready(step(state, data, STEPS).state)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            begin = time.perf_counter()
            jax.block_until_ready(step(state, data, STEPS).state)
            whole = (time.perf_counter() - begin) / STEPS
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        trace = jax.profiler.ProfileData.from_file(str(path))
    pattern = r'%([\w.\-]+) = .*op_name="([^"]*)"'
    origins = dict(re.findall(pattern, program))
    spent: collections.Counter[str] = collections.Counter()
    cores = os.cpu_count() or 1
    for plane in trace.planes:
        for line in plane.lines:
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                if name is None or "while" in name or "conditional" in name:
                    continue
                origin = origins.get(name, "").rsplit("/", 1)[-1]
                kind = next(kind for kind, test in KINDS.items() if test(name, origin))
                spent[kind] += event.duration_ns * (cores if kind == ONEDNN else 1)
    share = {kind: ns / 1e9 / STEPS / cores / whole for kind, ns in spent.items()}
    print(f"{flags.row}: {whole * 1e3:.0f} ms a step, {cores} cores")
    for kind in KINDS:
        print(f"  {kind:36} {share.get(kind, 0):.0%}")
    print(f"  {'the rest, of it Eigen':36} {1 - sum(share.values()):.0%}")


if __name__ == "__main__":
    main()
