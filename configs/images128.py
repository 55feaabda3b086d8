r"""One's own photos at 128x128 pixels: a small StyleGAN2 with adaptive discriminator augmentation.

    python scripts/train.py --config configs/images128.py --workdir runs/photos \
        --config.dataset="images('photos/', resolution=128)"

The folder may hold any pictures; docs/data.md says what becomes of them. Follows the defaults of
github.com/NVlabs/stylegan2-ada-pytorch for 128 pixels and one GPU (`--cfg=auto` of its train.py): the loss, two
mapping layers, R1 of weight 0.0002 128^2 / 32 at every 16th step, the path length penalty at every 4th, a half-life
of the average of 10,000 images, batches of 32, and learning rates 0.0025 times 16/17 and 4/5, as penalties are lazy.
Where it differs:

- the networks are narrower (16 channels at 128x128 pixels to 128 at 16x16 and below; there 128 to 512), and latents and w have 256 numbers, there 512;
- penalties join a player's own step, while there they are steps of their own;
- images are mirrored, which is `--mirror=1` there; text in them is then mirrored too;
- 50,000 steps are 1.6 million images, there 25 million are the default.

The authors publish no score at this size. Ours: not yet run.
It is meant for a GPU.
"""

from ml_collections import ConfigDict

from gan.configs import images64


def get_config() -> ConfigDict:
    config = images64.get_config()
    config.dataset = "images('photos/', resolution=128)"
    config.generator = "stylegan2(2048, 128, 2, w_dim=256)"
    config.discriminator = "stylegan2(2048, 128)"
    config.regularizers = ("r1(0.1024, every=16)", "path_length(2.0, every=4)")
    return config
