r"""A trained run goes on with pictures of your own, few or many: 32x32 in colour, from `configs/cifar10.py`.

    python scripts/train.py --config configs/cifar10.py --workdir runs/cifar10
    python scripts/train.py --config configs/finetune.py --workdir runs/photos \
        --init_from runs/cifar10 --reset_step \
        --config.dataset="images('photos/', resolution=32, channels=3)"

Without `--init_from` it trains from nothing. The networks, latents and optimizers are those of the run it
starts from, so that weights, averages and optimizers' states are kept; for a run of another recipe, give
its own config (`--config runs/mnist/config.json`) and change there what is changed here. `channels=3` makes
colour of grey pictures. Pictures with other classes, or of another size: add `--on_shape_mismatch=reset`,
and a line says which arrays start anew; at another size those are nearly all of DCGAN's.

What is changed is what Karras et al. change ("Training GANs with Limited Data", NeurIPS 2020; their code,
NVlabs/stylegan2-ada-pytorch, train.py: `ada_kimg` where a network is resumed): ADA with kimg = 100, by which
the augmentation follows the overfitting five times as fast. To freeze layers of the discriminator too:
`--config.discriminator_optimizer="by_path(optimistic_adam(2e-4, b1=0.5), ('Conv_0', set_to_zero))"` with
`--on_optimizer_change=keep_moments`.

There is no score to reach: it depends on the pictures. Ours: not yet run to its end, only its first steps,
on 180 pictures of MNIST. It is meant for a GPU: `configs/cifar10.py` makes four steps a second on two cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "images('photos/', resolution=32, channels=3)"
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
