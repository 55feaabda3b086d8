"""CIFAR-10, 32x32 in colour, conditional on its ten classes: BigGAN's form for CIFAR, with the hinge loss.

    python scripts/prepare_data.py --dataset cifar10
    python scripts/train.py --config configs/cifar10_biggan.py --workdir runs/cifar10_biggan

It follows the author's scripts/launch_cifar_ema.sh of github.com/ajbrock/BigGAN-PyTorch, and the defaults
of its utils.py where that says nothing: no self-attention, a scale and a bias of each class in
each batch normalisation, latents that are not split, first values of deviation 0.02, four updates
of the discriminator, each on 50 new images, to one of the generator, and no flips. Its 500 epochs of 50,000
images are 125,000 updates of the generator at 200 images each. It differs in what normalises samples:
statistics over 50 batches of the averaged generator's own, where the script scores with those of
each batch of samples.

Published: FID 9.78 and inception score 8.70, the best of a run with the same settings, with 50,000 samples
(github.com/open-mmlab/mmgeneration, configs/biggan); 9.59 and 9.06 with flips and twice as many
epochs, with 10,000 samples (github.com/mit-han-lab/data-efficient-gans, DiffAugment-biggan-cifar).
Ours: not yet run, nor timed.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "cifar10"
    config.generator = (
        "biggan(64, embedding=0, hierarchical=False, initializer='normal', conditional=True)"
    )
    config.discriminator = "biggan(64, initializer='normal', conditional=True)"
    config.loss = "hinge"
    config.generator_optimizer = "adam(2e-4, b1=0.0, b2=0.999)"
    config.discriminator_optimizer = "adam(2e-4, b1=0.0, b2=0.999)"
    config.dynamics = "alternating(4)"
    config.averaging = "ema(decay=0.9999, start_step=1_000, recalibrate_batch_norm=50)"
    config.batch_size = 50
    config.latent_dim = 128
    config.num_steps = 125_000
    config.log_every_steps = 200
    config.sample_every_steps = 1_000
    config.checkpoint_every_steps = 2_000
    return config
