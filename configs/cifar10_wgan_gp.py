"""CIFAR-10, 32x32, unconditional: a Wasserstein GAN with gradient penalty.

    python scripts/prepare_data.py --dataset cifar10
    python scripts/train.py --config configs/cifar10_wgan_gp.py --workdir runs/cifar10_wgan_gp

Follows Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, appendix F, and the
authors' code (github.com/igul222/improved_wgan_training, gan_cifar_resnet.py with CONDITIONAL = False):
residual networks of 128 channels, no normalisation in the critic, penalty weight 10, Adam at 2e-4 with
b1 = 0 and b2 = 0.9, five steps of the critic on 64 images each for one of the generator on 128, both
rates falling linearly to 0 over 100,000 steps. It differs in these: the critic's last layer takes the
sum over the pixels (theirs the mean) and has no bias, no noise is added to the 8-bit images, and there
is an average of the generator (`--weights raw` draws from its last iterate).

Published: inception score 7.86 +- 0.07 (table 3), without an FID; github.com/kwotsin/mimicry has 7.33
and FID 22.29 (50,000 samples and 50,000 training images). Ours: not yet run. It is meant for a GPU:
the penalty is a second derivative, and is taken five times a step.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "cifar10"
    config.generator = "resnet(width=128)"
    config.discriminator = "resnet(width=128, norm='none')"
    config.loss = "wasserstein"
    config.regularizers = ("gradient_penalty(weight=10.0)",)
    config.generator_optimizer = "adam(linear_schedule(2e-4, 0.0, 100_000), b1=0.0, b2=0.9)"
    config.discriminator_optimizer = "adam(linear_schedule(2e-4, 0.0, 100_000), b1=0.0, b2=0.9)"
    config.dynamics = "alternating(discriminator_steps=5)"
    config.averaging = "ema(decay=0.999)"
    config.batch_size = 64
    config.generator_batch_size = 128
    config.latent_dim = 128
    config.num_steps = 100_000
    config.log_every_steps = 200
    config.sample_every_steps = 1_000
    config.checkpoint_every_steps = 1_000
    return config
