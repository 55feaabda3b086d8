"""Trees of arrays, as checkpoints store them: digests, differences, typed keys."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def named_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[str, Any]]:
    """Returns the leaves of a tree, each with its path, such as `generator.params.Dense_0.bias`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def digest(state: Any) -> str:
    """Returns the SHA-256 of a tree of arrays: of the path, type, shape and bytes of every leaf."""
    total = hashlib.sha256()
    for name, leaf in named_leaves(unwrap_keys(state)):
        array = np.asarray(leaf)
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def unwrap_keys(state: Any) -> Any:
    """Returns a tree with the uint32 array that a typed key consists of in the key's place."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, state)


def is_key(leaf: Any) -> bool:
    """Returns whether an array is one of typed keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def without_empty(tree: Any, make: Callable[[tuple[int, ...], Any], Any]) -> Any:
    """Returns a tree with a scalar for each empty array, which Orbax cannot save."""
    return jax.tree.map(lambda leaf: leaf if leaf.size else make((), leaf.dtype), tree)


def place_on_devices(array: np.ndarray, target: Any) -> jax.Array:
    """Puts an array on its devices, as a typed key where it is one."""
    if not is_key(target):
        return jax.device_put(array, target.sharding)
    return jax.device_put(jax.random.wrap_key_data(jnp.asarray(array)), target.sharding)


def difference(saved: Any, target: Any) -> str | None:
    """Says where a saved tree first differs from what is to be restored, or returns None."""

    def empty(node: Any) -> bool:
        return not jax.tree.leaves(node)

    def types(tree: Any) -> dict[str, Any]:
        return {
            name: "empty" if empty(leaf) else (tuple(leaf.shape), str(leaf.dtype))
            for name, leaf in named_leaves(tree, is_leaf=empty)
        }

    before, now = types(saved), types(target)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            return f"{name} is {before.get(name)} there and {now.get(name)} in this run"
    return None


def check_chunks(saved: Any) -> None:
    """Checks that no saved array is in chunks larger than itself: whole ones are unpacked to be read.

    Args:
      saved: Orbax's metadata of the arrays.

    Raises:
      ValueError: where one is.
    """
    for name, leaf in named_leaves(saved):
        chunk = getattr(leaf.storage, "chunk_shape", None) or ()
        if any(part > max(side, 1) for part, side in zip(chunk, leaf.shape, strict=True)):
            raise ValueError(f"{name} {leaf.shape} is in chunks of {chunk}")
