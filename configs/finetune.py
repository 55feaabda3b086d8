"""A trained run goes on with a few pictures of one's own, 32x32 in colour.

python scripts/train.py --config configs/cifar10.py --workdir runs/cifar10
python scripts/train.py --config configs/finetune.py --workdir runs/photos \
        --init_from runs/cifar10 --reset_step --config.dataset="images('photos/', resolution=32)"
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "images('photos/', resolution=32)"
    config.data_augmentation = "flip"
    config.discriminator_augmentation = "ada(kimg=100)"
    config.generator = "dcgan(width=64)"
    config.discriminator = "dcgan(width=64, norm='spectral')"
    config.loss = "hinge"
    config.generator_optimizer = "optimistic_adam(2e-4, b1=0.5)"
    config.discriminator_optimizer = "optimistic_adam(2e-4, b1=0.5)"
    config.dynamics = "simultaneous"
    config.averaging = "ema(decay=0.999)"
    config.batch_size = 64
    config.latent_dim = 128
    config.num_steps = 10_000
    config.log_every_steps = 200
    config.sample_every_steps = 500
    config.checkpoint_every_steps = 500
    return config
