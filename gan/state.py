"""The whole state of a run: a pytree, without functions and without keys."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from gan.players import Pair, PlayerState


@struct.dataclass
class GANState:
    """All that the future of a run depends on, besides its config.

    Attributes:
      step: Generator updates so far, an int32 scalar.
      players: Both players.
      dynamics: What the dynamics remembers.
      averages: The averages of the generator, by name.
      rollbacks: How often the run has gone back to an older state, an int32 scalar; each time its
        batches and its noise become others.
    """

    step: jax.Array
    players: Pair[PlayerState]
    dynamics: Any
    averages: dict[str, Any]
    rollbacks: jax.Array


def seed_after(seed: int, rollbacks: jax.Array) -> jax.Array:
    """The seed of batches and noise after so many rollbacks, a uint32; with none the seed itself."""
    words = jax.random.key_data(jax.random.fold_in(jax.random.key(seed), rollbacks))
    return jnp.where(rollbacks == 0, np.uint32(seed), words[-1])


def stream_key(seed: jax.Array | int, stream: str, step: jax.Array | int) -> jax.Array:
    """The key of a named stream of random numbers at one step; no key is ever stored."""
    stream_key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    return jax.random.fold_in(stream_key, step)
