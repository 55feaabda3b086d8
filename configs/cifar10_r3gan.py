"""CIFAR-10, 32x32, by class: R3GAN's Config E.

    python scripts/prepare_data.py --dataset cifar10
    python scripts/train.py --config configs/cifar10_r3gan.py --workdir runs/cifar10_r3gan

Follows Huang et al., "The GAN is dead; long live the GAN!", NeurIPS 2024, table 9, and the authors' code
(github.com/brownvc/R3GAN, train.py: preset CIFAR10, with --cond=1 --mirror=1 --aug=1): 250 million images
in batches of 512. Over the first 20 million the rate, b2, the weight of both penalties, the half-life
of the average and the probability of the augmentation go along half a cosine from one value to another.
The networks have the published numbers of parameters, 20.78 and 21.28 million. It differs in these: the
generator's step sees the real images of the discriminator's (theirs a new batch), the stages all have
the run's precision (theirs, but the one of 4x4 pixels, bfloat16), and ADA's changes are as in gan/augmentation.

Published: FID 1.96, 50,000 samples against the training images (table 6), after four days on eight
NVIDIA L40. Ours: not yet run. On one GPU `--config.microbatches=4` needs less memory, and
`--config.precision=bfloat16` less time.
"""

from ml_collections import ConfigDict

BURN_IN = 39_062  # steps of 512 images: 20 million


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "cifar10"
    config.data_augmentation = "flip"
    config.discriminator_augmentation = (
        f"ada(p=cosine_schedule(0.0, 0.55, {BURN_IN}), brightness=0.5, contrast=0.5, lumaflip=0.5, "
        "hue=0.5, saturation=0.5, cutout=1.0)"
    )
    config.generator = "r3gan(width=768, blocks=2, cardinality=96, conditional=True)"
    config.discriminator = "r3gan(width=768, blocks=2, cardinality=96, conditional=True)"
    config.loss = "relativistic"
    weight = f"cosine_schedule(0.05, 0.005, {BURN_IN})"
    config.regularizers = (f"r1(weight={weight})", f"r2(weight={weight})")
    rate, b2 = f"cosine_schedule(2e-4, 5e-5, {BURN_IN})", f"cosine_schedule(0.9, 0.99, {BURN_IN})"
    config.generator_optimizer = f"adam({rate}, b1=0.0, b2={b2})"
    config.discriminator_optimizer = f"adam({rate}, b1=0.0, b2={b2})"
    config.dynamics = "alternating"
    config.averaging = (
        f"ema_images(half_life=cosine_schedule(0.0, 5_000_000.0, {BURN_IN}), ramp_up=None)"
    )
    config.batch_size = 512
    config.latent_dim = 64
    config.num_steps = 488_281
    config.log_every_steps = 100
    config.sample_every_steps = 1_000
    config.checkpoint_every_steps = 1_000
    return config
