"""The whole state of a run: a pytree, without functions and without keys."""

import zlib
from typing import Any

import jax
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
    """

    step: jax.Array
    players: Pair[PlayerState]
    dynamics: Any
    averages: dict[str, Any]


def stream_key(seed: int, stream: str, step: jax.Array | int) -> jax.Array:
    """The key of a named stream of random numbers at one step; no key is ever stored."""
    stream_key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    return jax.random.fold_in(stream_key, step)
