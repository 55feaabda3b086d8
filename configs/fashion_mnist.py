"""Fashion-MNIST, 28x28, by class: the networks and settings of `configs/mnist.py`.

    python scripts/prepare_data.py --dataset fashion_mnist
    python scripts/train.py --config configs/fashion_mnist.py --workdir runs/fashion_mnist

The first command downloads the data, or reads the four published IDX files in `--raw_dir`, gzipped or not.
It follows no paper, so that there is no published score to reach; ours: not yet run. A step costs
what it does for MNIST, of which 10,000 take 9.2 minutes on two cores of an AMD EPYC, by the time of a step.
docs/evaluation.md says how to score it.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "fashion_mnist"
    config.generator = "dcgan(width=24, down_to=4, conditional=True)"
    config.discriminator = "dcgan(width=24, down_to=4, conditional=True)"
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
