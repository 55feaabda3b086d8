"""The order in which a run sees its examples, computed on the devices from (seed, index) alone.

The examples of a run form an endless sequence: epoch after epoch, each a permutation of the
dataset. Batch k is at the positions k B to (k + 1) B - 1 of the sequence, so that every epoch shows
each example once and no tail is dropped. The permutation is computed position by position: a
Feistel network over the next power of four, applied until it lands inside the dataset.

Reference: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002 (cycle walking).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gan.errors import UsageError

_ROUNDS = 8


def indices_at(
    size: int, batch_size: int, seed: jax.Array | int, index: jax.Array | int
) -> jax.Array:
    """Returns which examples of a dataset of `size` are in batch number `index`, int32 `[B]`."""
    check_indices(size, batch_size)
    return _indices_at(size, batch_size, jnp.asarray(seed, jnp.uint32), index)


def indices_of(
    size: int, batch_size: int, seed: jax.Array | int, first: int, count: int
) -> jax.Array:
    """Returns `indices_at` of `count` batches from number `first` on, int32 `[count, B]`."""
    check_indices(size, batch_size)
    numbers = jnp.arange(first, first + count, dtype=jnp.uint32)
    indices_of_each = jax.vmap(_indices_at, (None, None, None, 0))
    return indices_of_each(size, batch_size, jnp.asarray(seed, jnp.uint32), numbers)


@partial(jax.jit, static_argnames=("size", "batch_size"))
def _indices_at(size: int, batch_size: int, seed: jax.Array, index: jax.Array | int) -> jax.Array:
    index = jnp.asarray(index, jnp.uint32)
    # Position index B + j is (index // N) N B + (index % N) B + j; the latter two do not overflow.
    rest = (index % size) * np.uint32(batch_size) + jnp.arange(batch_size, dtype=jnp.uint32)
    epoch = (index // size) * np.uint32(batch_size) + rest // size
    return permute(rest % size, size, _mix(epoch ^ _mix(seed))).astype(jnp.int32)


def check_indices(size: int, batch_size: int) -> None:
    """Raises UsageError if the indices would not fit into 32 bits."""
    if size * batch_size >= 2**32:
        raise UsageError(
            f"batch_size = {batch_size} is too large for {size} examples: "
            f"at most {(2**32 - 1) // size}"
        )


def permute(positions: jax.Array, size: int, key: jax.Array) -> jax.Array:
    """Maps positions in [0, size) one-to-one to indices in [0, size).

    Args:
      positions: uint32 of any shape.
      size: At most 2**32.
      key: uint32 of the shape of `positions`; each key selects another permutation.
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = np.uint32(2**half_bits - 1)

    def feistel(x: jax.Array) -> jax.Array:
        left, right = x >> half_bits, x & mask
        for turn in range(_ROUNDS):
            noise = _mix(right ^ _mix(key + np.uint32(turn * 0x9E3779B9 % 2**32)))
            left, right = right, left ^ (noise & mask)
        return (left << half_bits) | right

    def outside(x: jax.Array) -> jax.Array:
        return jnp.any(x >= size)

    def walk(x: jax.Array) -> jax.Array:
        return jnp.where(x >= size, feistel(x), x)

    return jax.lax.while_loop(outside, walk, feistel(positions))


def _mix(x: jax.Array | np.uint32) -> jax.Array:
    """Mixes the 32 bits of each number (the finalizer of MurmurHash3, by Austin Appleby)."""
    x = jnp.asarray(x, jnp.uint32)
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
