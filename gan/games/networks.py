"""How the game applies its networks."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from gan.errors import UsageError
from gan.players import Params, PlayerState, Role, Variables, network_variables
from gan.precision import at_least_float32


def apply_generator(
    module: nn.Module,
    player: PlayerState,
    latents: jax.Array,
    labels: jax.Array,
    keys: jax.Array,
) -> tuple[jax.Array, Variables]:
    """Returns fake examples `[B, *shape]` of latents `[B, Z]`, and the new variables.

    Args:
      module: The generator.
      player: Its parameters and variables.
      latents: `[B, Z]`.
      labels: `[B]`.
      keys: Of each sample, `[B]`, for a generator that is `stochastic`.
    """
    own = {"keys": keys} if getattr(module, "stochastic", False) else {}
    return apply_network(module, player, latents, labels, **own)


def split_generator(
    module: nn.Module,
    player: PlayerState,
    latents: jax.Array,
    labels: jax.Array,
    keys: jax.Array,
) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """Returns what the mapping network makes of the latents, and the function from there to examples.

    It is w `[B, L, W]`, one for each of L layers; without a mapping network it is the latents.
    The arguments are those of `apply_generator`.
    """
    if not has_mapping(module):
        return latents, lambda z: apply_generator(module, player, z, labels, keys)[0]
    w, _ = apply_network(module, player, latents, labels, keys=keys, method="map_latents")
    return w, lambda w: apply_network(module, player, w, keys=keys, method="synthesize")[0]


def has_mapping(module: Any) -> bool:
    """Returns whether a generator has a mapping network, from latents to w."""
    return hasattr(module, "map_latents") and hasattr(module, "synthesize")


def apply_network(
    module: nn.Module, player: PlayerState, *inputs: jax.Array | None, **options: Any
) -> tuple[Any, Variables]:
    """Returns a network's output in training mode, in at least float32, and its new variables."""
    own = network_variables(player.variables)
    output, variables = module.apply(
        {"params": player.params, **own}, *inputs, train=True, mutable=list(own), **options
    )
    return jax.tree.map(at_least_float32, output), variables


def draw_examples(
    module: nn.Module,
    params: Params,
    variables: Variables,
    latents: jax.Array,
    labels: jax.Array | None,
    truncation: Any = None,
) -> jax.Array:
    """Generates examples `[B, *shape]` in evaluation mode: see `AdversarialGame.sample`."""
    own = {"params": params, **network_variables(variables)}
    options = {} if truncation is None else {"truncation": truncation}
    examples: Any = module.apply(own, latents, labels, train=False, **options)
    return at_least_float32(examples)


def check_shape(role: Role, output: jax.Array, shape: tuple[int, ...]) -> None:
    """Raises UsageError for a network whose output has another shape: a loss might broadcast it."""
    if output.shape != shape:
        raise UsageError(
            f"the {role} must return {list(shape)} for a batch of {shape[0]}, and returns "
            f"{list(output.shape)}"
        )
