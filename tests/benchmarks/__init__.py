"""Benchmarks: programs that are run by hand, and what `scripts/benchmark.py` measures with."""

PLAIN = {
    "mnist": {
        "generator": "dcgan(width=32)",
        "discriminator": "dcgan(width=32)",
        "regularizers": "()",
        "generator_optimizer": "optimistic_adam(1e-3, b1=0.0)",
        "discriminator_optimizer": "optimistic_adam(1e-3, b1=0.0)",
        "dynamics": "simultaneous",
    },
    "cifar10": {
        "generator": "dcgan(width=64)",
        "discriminator": "dcgan(width=64, norm='spectral')",
        "generator_optimizer": "optimistic_adam(2e-4, b1=0.5)",
        "discriminator_optimizer": "optimistic_adam(2e-4, b1=0.5)",
        "dynamics": "simultaneous",
    },
}
"""Changes to recipes, by name: the unconditional GANs whose costs the docs give, whatever the recipes have become."""
