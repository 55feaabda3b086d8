"""gaussians"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "gaussians(modes=8, layout='ring')"
    config.generator = "mlp(width=128, depth=3)"
    config.discriminator = "mlp(width=128, depth=3)"
    config.latent_dim = 16
    config.batch_size = 256
    config.generator_optimizer = "optimistic_adam(1e-3, b1=0.5)"
    config.discriminator_optimizer = "optimistic_adam(1e-3, b1=0.5)"
    config.num_steps = 5_000
    config.eval_every_steps = 500
    return config
