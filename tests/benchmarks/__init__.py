"""Benchmarks: programs that are run by hand, and what `scripts/benchmark.py` measures with."""

PLAIN_MNIST = {
    "generator": "dcgan(width=32)",
    "discriminator": "dcgan(width=32)",
    "regularizers": "()",
    "dynamics": "simultaneous",
}
"""Changes to `configs/mnist.py`: the unconditional GAN whose costs the docs give."""
