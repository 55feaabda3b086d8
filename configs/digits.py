"""digits"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "digits"
    config.generator = "dcgan(width=64)"
    config.discriminator = "dcgan(width=64)"
    config.loss = "non_saturating"
    config.generator_optimizer = "optimistic_adam(2e-4, b1=0.5)"
    config.discriminator_optimizer = "optimistic_adam(2e-4, b1=0.5)"
    config.dynamics = "simultaneous"
    config.averaging = "ema(decay=0.999)"
    config.num_steps = 5_000
    return config
