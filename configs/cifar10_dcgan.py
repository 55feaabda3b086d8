"""CIFAR-10, 32x32, unconditional: DCGAN with batch normalisation in both networks.

    python scripts/prepare_data.py --dataset cifar10
    python scripts/train.py --config configs/cifar10_dcgan.py --workdir runs/cifar10_dcgan

Follows Radford et al., "Unsupervised Representation Learning with DCGANs", ICLR 2016, section 4, and
the authors' code (github.com/Newmu/dcgan_code, faces/train_uncond_dcgan.py): Adam at 2e-4 with b1 = 0.5,
batches of 128, 100 latents, 128 channels next to the image, non-saturating loss, a step of each player
in turn. It differs in these: kernels of 4x4 (theirs 5x5; PyTorch's DCGAN has 4x4 too), normal latents
(theirs uniform), no weight decay (theirs 1e-5), one layer less, since theirs is for 64x64, and an
average of the generator (`--weights raw` draws from its last iterate, as they do).

Published: the paper has no score of samples. Inception score 6.16 +- 0.07 of a DCGAN on CIFAR-10
(Gulrajani et al., NeurIPS 2017, table 3); 6.27 +- 0.10 and FID 56.3 of another network with batch
normalisation after 100,000 steps (Miyato et al., ICLR 2018, table 2), whose number of steps is used here.
Ours: not yet run. It is meant for a GPU.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "cifar10"
    config.generator = "dcgan(width=128)"
    config.discriminator = "dcgan(width=128, norm='batch')"
    config.loss = "non_saturating"
    config.generator_optimizer = "adam(2e-4, b1=0.5)"
    config.discriminator_optimizer = "adam(2e-4, b1=0.5)"
    config.dynamics = "alternating"
    config.averaging = "ema(decay=0.999)"
    config.batch_size = 128
    config.latent_dim = 100
    config.num_steps = 100_000
    config.log_every_steps = 200
    config.sample_every_steps = 2_000
    config.checkpoint_every_steps = 2_000
    return config
