r"""A trained run goes on with pictures of your own, few or many: 32x32 in colour, from one of CIFAR-10 without classes.

    python scripts/train.py --config configs/cifar10_unconditional.py --workdir runs/cifar10_unconditional
    python scripts/train.py --config configs/finetune.py --workdir runs/photos \
        --init_from runs/cifar10_unconditional --reset_step --on_optimizer_change=keep_moments \
        --config.dataset="images('photos/', resolution=32, channels=3)"

Without `--init_from` it trains from nothing. The networks, latents and optimizers are those of the run it
starts from, so that weights, averages and optimizers' states are kept; their learning rates fall over a run of
another length, which is what `keep_moments` allows. For a run of another recipe, give its own config (`--config
runs/mnist/config.json`) and change there what is changed here. `channels=3` makes colour of grey pictures.
Pictures with other classes, or of another size: add `--on_shape_mismatch=reset`, and a line says which arrays
start anew; at another size those are nearly all of DCGAN's.

What else is changed is what Karras et al. change ("Training GANs with Limited Data", NeurIPS 2020; their code,
NVlabs/stylegan2-ada-pytorch, train.py: `ada_kimg` where a network is resumed): ADA with kimg = 100, by which
the augmentation follows the overfitting five times as fast. To freeze layers of the discriminator too:
`--config.discriminator_optimizer="by_path(optimistic_adam(1e-3, b1=0.0), ('Conv_0', set_to_zero))"`.

There is no score to reach: it depends on the pictures. Ours: not yet run to its end, only its first steps.
A step takes 0.14 to 0.15 s on two cores of an AMD EPYC.
"""

from ml_collections import ConfigDict

from gan.configs import cifar10_unconditional


def get_config() -> ConfigDict:
    config = cifar10_unconditional.get_config()
    config.dataset = "images('photos/', resolution=32, channels=3)"
    config.discriminator_augmentation = "ada(kimg=100)"
    optimizer = "optimistic_adam(linear_schedule(1e-3, 0.0, 5_000, 5_000), b1=0.0)"
    config.generator_optimizer = config.discriminator_optimizer = optimizer
    config.num_steps = 10_000
    config.sample_every_steps = 500
    config.checkpoint_every_steps = 500
    return config
