"""CIFAR-10, 32x32 in colour, by class: an SN-DCGAN with the hinge loss, for two CPU cores.

    python scripts/prepare_data.py --dataset cifar10
    python scripts/train.py --config configs/cifar10.py --workdir runs/cifar10

The first command downloads the dataset, or reads the published files in `--raw_dir`. The second took 88
minutes on two cores of an AMD EPYC, by the time of a step (0.18 s, without oneDNN; 0.13 to 0.16 s at other times). It was
run to its end from one seed: an FID of 3.3 in the features of CIFAR-10's classifier, with 10,000 samples (10,000
real test images: 0.18), of the last iterate 2.7, and a recall of 0.72 (test images: 0.82). docs/images/cifar10.png
shows ten of each class: ships, cars, trucks and horses are seen at once, cats and dogs are fur without a face.
docs/results.md has the curve, and what was tried.

For the first 1,000 steps the losses stand still, at 2.0 and near 0: that passes. The learning rate
is constant for half of the run and then falls to 0: for another `num_steps`, change the 15,000 too.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "cifar10"
    config.data_augmentation = "flip"
    config.generator = "dcgan(width=48, conditional=True)"
    config.discriminator = "dcgan(width=48, norm='spectral', conditional=True)"
    config.loss = "hinge"
    optimizer = "optimistic_adam(linear_schedule(1e-3, 0.0, 15_000, 15_000), b1=0.0)"
    config.generator_optimizer = config.discriminator_optimizer = optimizer
    config.dynamics = "alternating"
    config.averaging = "ema(decay=0.999)"
    config.batch_size = 64
    config.latent_dim = 128
    config.num_steps = 30_000
    config.log_every_steps = 200
    config.sample_every_steps = 1_000
    config.checkpoint_every_steps = 1_000
    return config
