"""CIFAR-10, 32x32, unconditional: the residual networks of SNGAN.

    python scripts/prepare_data.py --dataset cifar10
    python scripts/train.py --config configs/cifar10_sngan.py --workdir runs/cifar10_sngan

Follows Miyato et al., "Spectral Normalization for GANs", ICLR 2018, table 4 and appendix B.2, and the
authors' code (github.com/pfnet-research/sngan_projection, configs/sn_cifar10_unconditional.yml): hinge
loss, Adam at 2e-4 with b1 = 0 and b2 = 0.9, five steps of the discriminator on 64 images each for one
of the generator on 128, both rates falling linearly to 0 over 50,000 steps. (The paper itself says
100,000 steps and nothing of a decay here.) It differs in these: no noise is added to the 8-bit
images, and there is an average of the generator (`--weights raw` draws from its last iterate).

Published: inception score 8.22 +- 0.05, FID 21.7 +- 0.21 (table 2: several seeds, scores of 5,000
samples, FID against 10,000 real images). Under another protocol (50,000 samples and 50,000 training
images, 100,000 steps) github.com/kwotsin/mimicry has 7.97 and 16.77. Ours: not yet run. It is meant
for a GPU.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "cifar10"
    config.generator = "resnet(width=256)"
    config.discriminator = "resnet(width=128, norm='spectral')"
    config.loss = "hinge"
    config.generator_optimizer = "adam(linear_schedule(2e-4, 0.0, 50_000), b1=0.0, b2=0.9)"
    config.discriminator_optimizer = "adam(linear_schedule(2e-4, 0.0, 50_000), b1=0.0, b2=0.9)"
    config.dynamics = "alternating(discriminator_steps=5)"
    config.averaging = "ema(decay=0.999)"
    config.batch_size = 64
    config.generator_batch_size = 128
    config.latent_dim = 128
    config.num_steps = 50_000
    config.log_every_steps = 200
    config.sample_every_steps = 1_000
    config.checkpoint_every_steps = 1_000
    return config
