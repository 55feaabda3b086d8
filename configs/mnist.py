"""MNIST, 28x28, unconditional: a DCGAN that is small enough for two CPU cores.

    python scripts/prepare_data.py --dataset mnist
    python scripts/train.py --config configs/mnist.py --workdir runs/mnist

The first command downloads it, or reads the published files in `--raw_dir`. Took 6 min 30 s on two cores
of a 2.6 GHz Xeon (27 steps a second), reading the data included. Strokes are seen after 1,000 steps;
at the end most of the 64 in the grid can be read, and some are none of the ten.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "mnist"
    config.generator = "dcgan(width=32)"
    config.discriminator = "dcgan(width=32)"
    config.loss = "non_saturating"
    config.generator_optimizer = "optimistic_adam(2e-4, b1=0.5)"
    config.discriminator_optimizer = "optimistic_adam(2e-4, b1=0.5)"
    config.dynamics = "simultaneous"
    config.averaging = "ema(decay=0.999)"
    config.batch_size = 64
    config.latent_dim = 64
    config.num_steps = 10_000
    config.log_every_steps = 200
    config.sample_every_steps = 1_000
    config.checkpoint_every_steps = 1_000
    return config
