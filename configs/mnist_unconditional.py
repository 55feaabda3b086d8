"""MNIST, 28x28, without classes: the networks and settings of `configs/mnist.py`, but for the labels.

    python scripts/prepare_data.py --dataset mnist
    python scripts/train.py --config configs/mnist_unconditional.py --workdir runs/mnist_unconditional

Its 10,000 steps took 8.9 minutes on two cores of an AMD EPYC, by the time of a step (53 ms). FID 1.98
to 2.99 from three seeds, in the features of MNIST's classifier and with 10,000 samples (10,000 real test
images: 1.8), but the classifier is sure of 87% of the samples only (of the test images: 97.9%): about
one of eight is not clearly one digit. docs/results.md.
"""

from ml_collections import ConfigDict

from gan.configs import mnist


def get_config() -> ConfigDict:
    config = mnist.get_config()
    config.generator = "dcgan(width=24, down_to=4)"
    config.discriminator = "dcgan(width=24, down_to=4)"
    return config
