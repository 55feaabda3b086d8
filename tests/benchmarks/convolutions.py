"""What the forms of gan/models/layers.py save on a CPU, pass by pass, against XLA's own lowering.

python tests/benchmarks/convolutions.py

Batch 64, float32, inside a loop as in training. The two sides take turns; each figure is the median of
the rounds (of one, where XLA's own takes over a second), in ms, and beside them stands what a product of matrices with as many operations would take
at the speed that such products reach in the same run. About 4 minutes on two cores, most of it XLA's
own gradients of kernels; leave the machine alone meanwhile.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from gan.models import layers
from gan.models.layers import Geometry

BATCH = 64
STRIDED = ((4, 4), (2, 2), ((1, 1), (1, 1)))
SAME = ((3, 3), (1, 1), ((1, 1), (1, 1)))
SHAPES = [  # geometry, C, C'
    (Geometry((32, 32), *STRIDED), 3, 64),
    (Geometry((16, 16), *STRIDED), 64, 128),
    (Geometry((8, 8), *STRIDED), 128, 256),
    (Geometry((16, 16), *SAME), 128, 128),
    (Geometry((32, 32), *SAME), 64, 64),
]


def main() -> None:
    """Flags in, a table out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    a = jnp.ones([2048, 2048])
    product = timer(lambda a, b: a @ b, a, a)
    print("| convolution | pass | product | XLA's own | ours | times as fast |")
    print("|---|---|---|---|---|---|")
    for geometry, channels, features in SHAPES:
        for row in rows(geometry, channels, features, product, rounds):
            print(f"| {' | '.join(row)} |", flush=True)


def rows(
    geometry: Geometry,
    channels: int,
    features: int,
    product: Callable[[], float],
    rounds: int,
) -> list[list[str]]:
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], [BATCH, *geometry.image, channels])
    y = jax.random.normal(keys[1], [BATCH, *geometry.output, features])
    w = jax.random.normal(keys[2], [*geometry.kernel, channels, features])
    multiplications = y.size * w.size // features
    (height, width), (h, k) = geometry.image, geometry.kernel
    name = f"{height}x{width}, {channels} to {features}, {h}x{k} / {geometry.stride[0]}"
    found = []
    for which, ours, native, arrays in (
        ("forward", layers.convolve, layers._native, (x, w)),
        ("to the input", layers.convolve_input, layers._native_input, (y, w)),
        ("to the kernel", layers.convolve_kernel, layers._native_kernel, (x, y)),
    ):
        sides = [timer(partial(f, geometry), *arrays) for f in (native, ours)] + [product]
        turns = rounds if sides[0]() < 1 else 1  # what takes so long need not be known better
        times = list(zip(*([side() for side in sides] for _ in range(turns)), strict=True))
        theirs, mine, floor = (statistics.median(side) for side in times)
        floor *= multiplications / 2048**3
        ratio = statistics.median(a / b for a, b in zip(times[0], times[1], strict=True))
        found.append(
            [name, which, *(f"{t * 1e3:.1f}" for t in (floor, theirs, mine)), f"{ratio:.1f}"]
        )
    return found


def timer(
    function: Callable[[jax.Array, jax.Array], jax.Array], a: jax.Array, b: jax.Array
) -> Callable[[], float]:
    """How long a call takes, inside a loop whose turns depend on one another."""

    def looped(a: jax.Array, b: jax.Array) -> jax.Array:
        def body(_: int, total: jax.Array) -> jax.Array:
            return jnp.max(function(a + total * 1e-9, b))  # all of it is needed

        return lax.fori_loop(0, 2, body, jnp.zeros([]))

    program = jax.jit(looped).lower(a, b).compile()
    jax.block_until_ready(program(a, b))

    def seconds() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(program(a, b))
        return (time.perf_counter() - begin) / 2

    return seconds


if __name__ == "__main__":
    main()
