"""What penalties see of a game, for tests: a critic and a generator that are plain functions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gan.players import Role
from gan.regularizers import PenaltyInputs


def seen(
    critic: Callable[[jax.Array], jax.Array],
    real: jax.Array,
    fake: jax.Array | None = None,
    *,
    role: Role = "discriminator",
    latents: jax.Array | None = None,
    generate: Callable[[jax.Array], jax.Array] = lambda latents: latents,
    split: Callable[[slice], tuple[jax.Array, Callable[[jax.Array], jax.Array]]] | None = None,
    step: int = 0,
    **logits: jax.Array,
) -> PenaltyInputs:
    """Returns the inputs of a penalty; labels count the samples, and so do the keys' seeds."""
    latents = real if latents is None else latents
    numbers = jnp.arange(len(real), dtype=jnp.int32)
    return PenaltyInputs(
        role,
        real,
        jnp.zeros_like(real) if fake is None else fake,
        latents,
        numbers,
        jax.vmap(jax.random.key)(numbers),
        critic,
        generate,
        split or (lambda rows: (latents[rows], generate)),
        jnp.asarray(step),
        **logits,
    )
