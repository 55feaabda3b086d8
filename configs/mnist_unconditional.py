"""MNIST, 28x28, without classes: the networks and settings of `configs/mnist.py`, but for the labels.

    python scripts/prepare_data.py --dataset mnist
    python scripts/train.py --config configs/mnist_unconditional.py --workdir runs/mnist_unconditional

Its 10,000 steps took 10.7 minutes on two cores of an AMD EPYC, by the time of a step (64 ms). FID 1.98
to 2.99 from three seeds, in the features of MNIST's classifier and with 10,000 samples (10,000 real test
images: 1.8), but the classifier is sure of 87% of the samples only (of the test images: 97.9%): about
one of eight is not clearly one digit. docs/results.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "mnist"
    config.generator = "dcgan(width=24, down_to=4)"
    config.discriminator = "dcgan(width=24, down_to=4)"
    config.loss = "non_saturating"
    config.regularizers = ("r1(weight=0.5)",)
    config.generator_optimizer = "adam(linear_schedule(2e-3, 0.0, 5_000, 5_000), b1=0.5)"
    config.discriminator_optimizer = "adam(linear_schedule(2e-3, 0.0, 5_000, 5_000), b1=0.5)"
    config.dynamics = "alternating"
    config.averaging = "ema(decay=0.999)"
    config.batch_size = 64
    config.latent_dim = 64
    config.num_steps = 10_000
    config.log_every_steps = 200
    config.sample_every_steps = 1_000
    config.checkpoint_every_steps = 1_000
    return config
