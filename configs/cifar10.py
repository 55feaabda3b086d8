"""CIFAR-10, 32x32 in colour, unconditional: an SN-DCGAN with the hinge loss.

    python scripts/prepare_data.py --dataset cifar10
    python scripts/train.py --config configs/cifar10.py --workdir runs/cifar10

The first command downloads the dataset, or reads the published files in `--raw_dir`. The recipe is
meant for a GPU and has not been run to its end: two cores of a 2.6 GHz Xeon make about four steps a
second, so that 50,000 steps would take three and a half hours. After 3,000 steps, without flips, the
samples were soft patches in the colours of photos, with skies and grounds but no objects yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "cifar10"
    config.data_augmentation = "flip"
    config.generator = "dcgan(width=64)"
    config.discriminator = "dcgan(width=64, norm='spectral')"
    config.loss = "hinge"
    config.generator_optimizer = "optimistic_adam(2e-4, b1=0.5)"
    config.discriminator_optimizer = "optimistic_adam(2e-4, b1=0.5)"
    config.dynamics = "simultaneous"
    config.averaging = "ema(decay=0.999)"
    config.batch_size = 64
    config.latent_dim = 128
    config.num_steps = 50_000
    config.log_every_steps = 200
    config.sample_every_steps = 1_000
    config.checkpoint_every_steps = 1_000
    return config
