"""Benchmarks: programs that are run by hand, and what `scripts/benchmark.py` measures with."""

PLAIN_MNIST = {
    "generator": "dcgan(width=32)",
    "discriminator": "dcgan(width=32)",
    "regularizers": "()",
    "generator_optimizer": "optimistic_adam(1e-3, b1=0.0)",
    "discriminator_optimizer": "optimistic_adam(1e-3, b1=0.0)",
    "dynamics": "simultaneous",
}
"""Changes to `configs/mnist.py`: the unconditional GAN whose costs the docs give."""
