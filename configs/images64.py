r"""One's own photos at 64x64 pixels: a small StyleGAN2 with adaptive discriminator augmentation.

    python scripts/train.py --config configs/images64.py --workdir runs/photos \
        --config.dataset="images('photos/', resolution=64)"

The folder may hold any pictures; docs/data.md says what becomes of them. Follows the defaults of
github.com/NVlabs/stylegan2-ada-pytorch for 64 pixels and one GPU (`--cfg=auto` of its train.py): the loss, two
mapping layers, R1 of weight 0.0002 64^2 / 32 at every 16th step, the path length penalty at every 4th, a half-life
of the average of 10,000 images, batches of 32, and learning rates 0.0025 times 16/17 and 4/5, as penalties are lazy.
Where it differs:

- the networks are narrower (16 channels at 64x64 pixels to 128 at 8x8 and below; there 256 to 512), and latents and w have 256 numbers, there 512;
- penalties join a player's own step, while there they are steps of their own;
- images are mirrored, which is `--mirror=1` there; text in them is then mirrored too;
- 50,000 steps are 1.6 million images, there 25 million are the default.

The authors publish no score at this size. Ours: not yet run to its end; half as wide and for 4,000 steps, 55 minutes on
one core, docs/tutorial.md has it on photos cut to squares, with its samples.
On two cores of an AMD EPYC a step took 0.83 s (0.74 to 0.94, `scripts/benchmark.py --config images64 --noise --step_only
--rounds 4`), so that 50,000 would take 11 hours and a half, and its compilation 66 s.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "images('photos/', resolution=64)"
    config.data_augmentation = "flip"
    config.generator = "stylegan2(1024, 128, 2, w_dim=256)"
    config.discriminator = "stylegan2(1024, 128)"
    config.loss = "non_saturating"
    config.discriminator_augmentation = "ada(target=0.6, interval=4, kimg=500)"
    config.regularizers = ("r1(0.0256, every=16)", "path_length(2.0, every=4)")
    config.generator_optimizer = "adam(0.002, b1=0.0, b2=0.991992)"  # 0.99^(4/5)
    config.discriminator_optimizer = "adam(0.00235294, b1=0.0, b2=0.990585)"  # 0.99^(16/17)
    config.dynamics = "alternating"
    config.averaging = "ema_images(half_life=10_000, ramp_up=0.05)"
    config.batch_size = 32
    config.latent_dim = 256
    config.num_steps = 50_000
    config.log_every_steps = 100
    config.sample_every_steps = 1_000
    config.checkpoint_every_steps = 1_000
    return config
