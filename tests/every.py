"""A spec for every name in the registries that have many, and one for each network."""

import inspect

from gan.errors import UsageError
from gan.optimizers import OPTIMIZERS
from gan.schedules import SCHEDULES

_ARGUMENTS = {
    "learning_rate": "0.01", "inner": "sgd(0.01)", "others": "sgd(0.01)", "fast_optimizer": "sgd(0.01)",
    "base_optimizer": "sgd(0.01)", "optimizer": "sgd(0.01)", "adv_optimizer": "sgd(0.01)",
    "sync_period": "2", "slow_step_size": "0.5", "max_consecutive_errors": "3", "clipping": "0.1",
    "eta": "0.1", "gamma": "0.5", "max_delta": "0.1", "threshold": "0.1", "max_norm": "0.1",
    "decay": "0.9", "step_size": "-0.1", "max_abs": "2.0", "step_size_fn": "constant_schedule(-0.1)",
    "value": "0.1", "init_value": "0.1", "end_value": "0.0", "peak_value": "0.1",
    "decay_steps": "10", "transition_steps": "10", "warmup_steps": "2", "decay_rate": "0.9",
    "power": "1.0", "schedules": "(constant_schedule(0.1), constant_schedule(0.01))",
    "boundaries": "(3,)", "interpolate_type": "'linear'",
    "cosine_kwargs": "[{'init_value': 0.0, 'peak_value': 0.1, 'warmup_steps': 1, 'decay_steps': 3}]",
    "args": "sgd(0.01)", "key": "0", "boundaries_and_scales": "{3: 0.1}", "measure": "0.1",
}  # fmt: skip

TINY_NETWORKS = {  # by name; the same for generator and discriminator
    "mlp": "mlp(4, 1)",
    "dcgan": "dcgan(4)",
    "resnet": "resnet(4)",
    "r3gan": "r3gan(8, cardinality=2)",
    "biggan": "biggan(1)",
    "stylegan2": "stylegan2(64, 8, 1)",
}


def every_optimizer() -> list[str]:
    """Every optimizer with what it needs; a schedule as the learning rate of one."""
    return [_spec(name) for name in (*OPTIMIZERS, *SCHEDULES)]


def _spec(name: str) -> str:
    words = []
    for parameter in OPTIMIZERS.owner(name).parameters(name).values():
        needed = parameter.default is inspect.Parameter.empty
        if parameter.kind is parameter.VAR_POSITIONAL:
            words += [_ARGUMENTS[parameter.name]] if parameter.name in _ARGUMENTS else []
        elif needed or parameter.name in ("boundaries_and_scales", "key"):
            words.append(f"{parameter.name}={_ARGUMENTS[parameter.name]}")
    spec = f"{name}({', '.join(words)})"
    try:
        OPTIMIZERS.build(spec)
    except UsageError as error:
        assert "by itself" in str(error)
        return f"sgd({spec})"
    return spec
