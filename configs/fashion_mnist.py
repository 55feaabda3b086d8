"""Fashion-MNIST, 28x28, by class: the networks and settings of `configs/mnist.py`.

    python scripts/prepare_data.py --dataset fashion_mnist
    python scripts/train.py --config configs/fashion_mnist.py --workdir runs/fashion_mnist

The first command downloads the data, or reads the four published IDX files in `--raw_dir`, gzipped or not.
It follows no paper, so that there is no published score to reach; ours: not yet run. A step costs
what it does for MNIST, of which 10,000 take 8.8 minutes on two cores of an AMD EPYC, by the time of a step.
docs/evaluation.md says how to score it.
"""

from ml_collections import ConfigDict

from gan.configs import mnist


def get_config() -> ConfigDict:
    config = mnist.get_config()
    config.dataset = "fashion_mnist"
    return config
