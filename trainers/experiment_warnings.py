"""Warnings of what a config says, and of what may not do what one expects of it."""

from bisect import bisect_left
from functools import partial
from typing import Any, TypeAlias

import jax.numpy as jnp

from gan.dynamics.dynamics import is_proportional
from gan.models import onednn
from gan.players import ROLES, network_variables
from gan.precision import product_types
from gan.trainers.experiment_checks import trace_networks

Experiment: TypeAlias = Any  # that of `gan.trainers.experiment`, which imports this module


def find_warnings(experiment: Experiment) -> list[str]:
    """Returns a line for each thing that a config says, and that may not do what one expects of it."""
    return [
        *_precision_warnings(experiment),
        *_regularizer_warnings(experiment),
        *_scale_warnings(experiment),
        *_schedule_warnings(experiment),
        *_microbatch_warnings(experiment),
    ]


def _precision_warnings(experiment: Experiment) -> list[str]:
    """Returns a line for each network that computes in float32 nevertheless, and for a slow device."""
    config, game, shape = experiment.config, experiment.game, experiment.dataset.shape
    if config.precision == "float32":
        return []
    inputs = {
        "generator": jnp.zeros([1, config.latent_dim]),
        "discriminator": jnp.zeros([1, *shape]),
    }
    labels, lines = jnp.zeros([1], jnp.int32), []
    networks = trace_networks(experiment)
    for role in ROLES:
        network, (params, variables) = getattr(game, role), networks.of(role)
        variables = network_variables(variables)
        apply = partial(network.apply, train=True, mutable=list(variables))
        types = product_types(apply, {"params": params, **variables}, inputs[role], labels)
        if types and jnp.bfloat16 not in types:
            lines.append(
                f"{role} = {getattr(config, role)!r} computes in float32, whatever precision = "
                f"{config.precision!r}: none of its layers has dtype=self.dtype"
            )
    on_cpu = experiment.mesh.devices.flat[0].platform == "cpu"
    if on_cpu and (why := onednn.slow_bfloat16(experiment.mesh.size)) is not None:
        lines.append(f"precision = {config.precision!r}: {why}")
    return lines


def _regularizer_warnings(experiment: Experiment) -> list[str]:
    """Returns a line for each regularizer that knows of a difficulty with the run's precision."""
    cautions = {
        name: own.caution(experiment.config.precision)
        for name, own in experiment.game.regularizers.items()
    }
    return [f"{name}: {caution}" for name, caution in cautions.items() if caution]


def _scale_warnings(experiment: Experiment) -> list[str]:
    """Returns a line for each optimizer that undoes what the dynamics does to the size of gradients."""
    if not experiment.dynamics.scales_gradients:
        return []
    networks, config = trace_networks(experiment), experiment.config
    return [
        f"dynamics = {config.dynamics!r} divides gradients by their size, and {role}_optimizer = "
        f"{getattr(config, f'{role}_optimizer')!r} does so again, which undoes it: sgd and "
        f"optimistic_sgd do not"
        for role in ROLES
        if not is_proportional(experiment.optimizers.of(role), networks.of(role)[0])
    ]


def _schedule_warnings(experiment: Experiment) -> list[str]:
    """Returns a line for each learning rate that a schedule has brought to 0 well before the run's end."""
    num_steps, lines = experiment.config.num_steps, []
    for role in ROLES:
        rates = experiment.rates.of(role)
        last = rates.at(num_steps - 1) if rates.has_schedule else {}
        for name in (n for n, rate in last.items() if n.startswith("learning_rate") and not rate):
            first = bisect_left(range(num_steps), True, key=lambda step: rates.at(step)[name] == 0)
            if num_steps - first > num_steps / 100:
                lines.append(
                    f"{role}_optimizer: {name} is 0 from step {first:,} on, and num_steps = {num_steps:,}: "
                    f"nothing is learned there; make its schedule as long as the run"
                )
    return lines


def _microbatch_warnings(experiment: Experiment) -> list[str]:
    """Returns a line that names what computes with a whole batch, if batches are divided."""
    config, game = experiment.config, experiment.game
    if config.microbatches == 1:
        return []
    networks = trace_networks(experiment)
    over_batch = [
        f"{role} = {getattr(config, role)!r}"
        for role in ROLES
        if network_variables(networks.of(role)[1])
        or (role == "discriminator" and not game.discriminator.per_sample)
    ]
    over_batch += [f"loss = {config.loss!r}"] if game.losses.over_batch else []
    over_batch += [name for name, own in game.regularizers.items() if own.over_batch]
    line = (
        f"microbatches = {config.microbatches} is not the same as the whole batch for "
        f"{', '.join(over_batch)}: each part is taken by itself there"
    )
    return [line] if over_batch else []
