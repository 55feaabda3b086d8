"""Measures the convolutions of a CPU: XLA's own lowering, our forms for XLA, and oneDNN where it is installed.

python tests/benchmarks/convolutions.py
python tests/benchmarks/convolutions.py --dtype bfloat16

Each pass is measured by itself, with batch size 64, inside a loop as in training, which hands the
whole result on. The sides take turns; each figure is the median of the rounds in ms (of one round where XLA's own takes
over a second). Beside them stands the time that a matrix product of as many operations would take,
at the speed of such products in the same run. Takes about 4 minutes on two cores, most of it XLA's
own gradients of kernels; leave the machine alone meanwhile.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from gan.models import convolutions, cpu_convolutions, onednn
from gan.models.geometry import Geometry

BATCH = 64
TURNS = 2
STRIDED = ((4, 4), (2, 2), ((1, 1), (1, 1)))
SAME = ((3, 3), (1, 1), ((1, 1), (1, 1)))
SHAPES = [  # geometry, input channels, output channels
    (Geometry((32, 32), *STRIDED), 3, 64),
    (Geometry((16, 16), *STRIDED), 64, 128),
    (Geometry((8, 8), *STRIDED), 128, 256),
    (Geometry((16, 16), *SAME), 128, 128),
    (Geometry((32, 32), *SAME), 64, 64),
]


def main() -> None:
    """Prints a table with a row for each convolution and pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    flags = parser.parse_args()
    a = jnp.ones([2048, 2048], flags.dtype)
    product = timer(lambda a, b: a @ b, a, a)
    print(
        "| convolution | pass | product | XLA's own | our forms | oneDNN | our forms over oneDNN |"
    )
    print("|---|---|---|---|---|---|---|")
    for geometry, channels, features in SHAPES:
        for row in rows(geometry, channels, features, product, flags.rounds, flags.dtype):
            print(f"| {' | '.join(row)} |", flush=True)


def rows(
    geometry: Geometry,
    channels: int,
    features: int,
    product: Callable[[], float],
    rounds: int,
    dtype: str,
) -> list[list[str]]:
    """Measures the three passes of a convolution, and formats a row of each."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], [BATCH, *geometry.image, channels], dtype)
    y = jax.random.normal(keys[1], [BATCH, *geometry.output, features], dtype)
    w = jax.random.normal(keys[2], [*geometry.kernel, channels, features], dtype)
    multiplications = y.size * w.size // features
    (height, width), (h, k) = geometry.image, geometry.kernel
    name = f"{height}x{width}, {channels} to {features}, {h}x{k} / {geometry.stride[0]}"
    formatted = []
    for pass_name, which, arrays in (
        ("forward", "convolve", (x, w)),
        ("to the input", "input_gradient", (y, w)),
        ("to the kernel", "kernel_gradient", (x, y)),
    ):
        forms = [
            getattr(convolutions, f"_native_{which}"),
            getattr(cpu_convolutions, which),
            partial(convolutions._on_cpu, which),
        ]
        sides = [product, *(timer(partial(form, geometry), *arrays) for form in forms)]
        turns = rounds if sides[1]() < 1 else 1  # so long a time need not be known better
        times = list(zip(*([side() for side in sides] for _ in range(turns)), strict=True))
        floor, *others = (statistics.median(side) for side in times)
        cells = [f"{t * 1e3:.1f}" for t in (floor * multiplications / 2048**3, *others)]
        ratio = statistics.median(a / b for a, b in zip(times[2], times[3], strict=True))
        if onednn.load() is None:
            cells[-1], ratio = "", 1.0
        formatted.append([name, pass_name, *cells, f"{ratio:.2f}"])
    return formatted


Function: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]


def timer(function: Function, a: jax.Array, b: jax.Array) -> Callable[[], float]:
    """Returns a function that measures a call in seconds, in a loop of dependent turns."""
    program = compile_loop(function, a, b)
    jax.block_until_ready(program(a, b))

    def seconds() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(program(a, b))
        return (time.perf_counter() - begin) / TURNS

    return seconds


def compile_loop(function: Function, a: jax.Array, b: jax.Array) -> Callable[..., jax.Array]:
    """Compiles the loop, which returns all of the last result, and in each turn needs all of the one before."""

    def looped(a: jax.Array, b: jax.Array) -> jax.Array:
        def body(_: int, before: jax.Array) -> jax.Array:
            return function(a + jnp.max(before) * 1e-9, b)

        result = jax.eval_shape(function, a, b)
        return lax.fori_loop(0, TURNS, body, jnp.zeros(result.shape, result.dtype))

    return jax.jit(looped).lower(a, b).compile()


if __name__ == "__main__":
    main()
