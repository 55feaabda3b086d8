"""CIFAR-10, 32x32 in colour, by class: StyleGAN2 with adaptive discriminator augmentation.

    python scripts/prepare_data.py --dataset cifar10
    python scripts/train.py --config configs/cifar10_stylegan2_ada.py --workdir runs/cifar10_stylegan2_ada

Follows `--cfg=cifar --cond=1` of github.com/NVlabs/stylegan2-ada-pytorch (train.py): 512 channels at every
resolution, two mapping layers, a discriminator without residual connections, no style mixing, no path length
penalty, R1 of weight 0.01, and the authors' learning rates under lazy regularisation: 0.0025 times 4/5 for the
generator and 16/17 for the discriminator, whose second decays are 0.99 to the same powers. For a run without
classes leave out both `conditional=True`. Where it differs:

- R1 joins the discriminator's own step at every 16th one, while there it is a step of its own;
- a group of the minibatch deviation is every other image of the batch; there it is the batch of one of two GPUs;
- all layers can be in half precision (`--config.precision=bfloat16`); there those from 8x8 pixels on are, in float16.

Published: FID 2.42 (Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020,
abstract), the best of runs of 100 million images. Ours: not yet run. It is meant for a GPU.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "cifar10"
    config.generator = "stylegan2(mapping_layers=2, style_mixing=0.0, conditional=True)"
    config.discriminator = "stylegan2(architecture='orig', stddev_group=32, conditional=True)"
    config.loss = "non_saturating"
    config.discriminator_augmentation = "ada(target=0.6, interval=4, kimg=500)"
    config.regularizers = ("r1(weight=0.01, every=16)",)
    config.generator_optimizer = "adam(0.002, b1=0.0, b2=0.991992)"  # 0.99^(4/5)
    config.discriminator_optimizer = "adam(0.00235294, b1=0.0, b2=0.990585)"  # 0.99^(16/17)
    config.dynamics = "alternating"
    config.averaging = "ema_images(half_life=500_000, ramp_up=0.05)"
    config.batch_size = 64
    config.latent_dim = 512
    config.num_steps = 1_562_500
    config.log_every_steps = 500
    config.sample_every_steps = 10_000
    config.checkpoint_every_steps = 5_000
    return config
