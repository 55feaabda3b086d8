"""The whole state of a run: a pytree that holds no functions and no random keys."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from gan.players import Pair, PlayerState


@struct.dataclass
class GANState:
    """Everything, besides the config, that the rest of a run depends on.

    Attributes:
      step: Generator updates so far, an int32 scalar.
      players: Both players.
      dynamics_state: What the dynamics remembers from step to step, a pytree.
      averages: The averages of the generator, by name.
      rollbacks: Number of times that the run has gone back to an older state, an int32 scalar; each
        of them changes the batches and the noise that follow.
    """

    step: jax.Array
    players: Pair[PlayerState]
    dynamics_state: Any
    averages: dict[str, Any]
    rollbacks: jax.Array


def seed_after(seed: jax.Array | int, rollbacks: jax.Array) -> jax.Array:
    """Returns the seed of batches and noise, a uint32; before any rollback it is `seed` itself."""
    key_data = jax.random.key_data(jax.random.fold_in(jax.random.key(seed), rollbacks))
    return jnp.where(rollbacks == 0, jnp.asarray(seed, jnp.uint32), key_data[-1])


def stream_key(seed: jax.Array | int, stream: str, step: jax.Array | int) -> jax.Array:
    """Returns the key of a named stream of random numbers at one step; no key is ever stored."""
    stream_key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    return jax.random.fold_in(stream_key, step)
