"""Batch normalisation of averaged weights: statistics of their own activations.

The average of the statistics of many generators is not that of the averaged generator's activations.
These are found by forward passes in training mode over batches of latents: the mean, over the batches,
of each batch's means and variances.

Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", ICLR 2019, the
"standing statistics" of appendix C; their PyTorch code has the same two means
(github.com/ajbrock/BigGAN-PyTorch, layers.py). Izmailov et al., "Averaging Weights Leads to Wider Optima
and Better Generalization", UAI 2018, section 3.2, for averaged weights.
"""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from gan.players import Params, Variables

Path: TypeAlias = tuple[str, ...]
_STATISTICS = "batch_stats"  # linen's collection


def find_momenta(
    generator: nn.Module, params: Params, variables: Variables, latent_dim: int
) -> dict[Path, float]:
    """Returns the momentum of each `nn.BatchNorm` that has statistics, by its path; computes nothing.

    Args:
      generator: The network.
      params: Its parameters, or their shapes.
      variables: Its variables, or their shapes.
      latent_dim: Length of a latent vector.
    """
    momenta: dict[Path, float] = {}

    def note(function: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, nn.BatchNorm) and context.method_name == "__call__":
            given = args[1:] or (kwargs.get("use_running_average"),)
            if not any((module.use_running_average, *given)):  # else they are never updated
                momenta[module.path] = module.momentum
        return function(*args, **kwargs)

    def apply(params: Params, variables: Variables) -> Any:
        latents, labels = jnp.zeros([1, latent_dim]), jnp.zeros([1], jnp.int32)
        return _in_training(generator, params, variables, latents, labels)

    with nn.intercept_methods(note):
        jax.eval_shape(apply, params, variables)
    return momenta


def recalibrate(
    generator: nn.Module,
    params: Params,
    variables: Variables,
    latents: jax.Array,
    labels: jax.Array,
) -> Variables:
    """Returns variables with the statistics of batch normalisation over batches.

    What else a network updates in training, such as the vectors of spectral normalisation, goes through
    the batches as in training, so that statistics and samples are of the same function.

    Args:
      generator: The network.
      params: Its parameters.
      variables: Its variables.
      latents: `[N, B, Z]`, N batches.
      labels: `[N, B]`.
    """
    momenta = find_momenta(generator, params, variables, latents.shape[-1])

    def is_statistic(path: Path) -> bool:
        return path[:-1] in momenta

    def without(variables: Variables) -> tuple[Variables, dict[Path, jax.Array]]:
        """Returns variables with statistics of 0, and the statistics."""
        flat = traverse_util.flatten_dict(dict(variables[_STATISTICS]))
        zeros = {
            path: jnp.zeros_like(own) if is_statistic(path) else own for path, own in flat.items()
        }
        found = {path: own for path, own in flat.items() if is_statistic(path)}
        return {**variables, _STATISTICS: traverse_util.unflatten_dict(zeros)}, found

    def add(carry: tuple[Variables, Any], batch: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        variables, total = carry
        # With 0 before, a running mean is (1 - momentum) times the batch's own.
        variables, after = without(_in_training(generator, params, variables, *batch))
        own = {path: value / (1 - momenta[path[:-1]]) for path, value in after.items()}
        return (variables, jax.tree.map(jnp.add, total, own)), None

    start, zeros = without(variables)
    zeros = jax.tree.map(jnp.zeros_like, zeros)
    (variables, total), _ = jax.lax.scan(add, (start, zeros), (latents, labels))
    flat = traverse_util.flatten_dict(variables[_STATISTICS])
    flat |= {path: value / len(latents) for path, value in total.items()}
    return {**variables, _STATISTICS: traverse_util.unflatten_dict(flat)}


def _in_training(
    generator: nn.Module,
    params: Params,
    variables: Variables,
    latents: jax.Array,
    labels: jax.Array,
) -> Variables:
    """Returns the variables after a forward pass in training mode."""
    _, after = generator.apply(
        {"params": params, **variables}, latents, labels, train=True, mutable=list(variables)
    )
    return {**variables, **after}
