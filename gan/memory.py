"""How much memory there is, and refusals of what cannot fit into it.

They come before anything is allocated: an allocation that is too large, inside a program that runs
asynchronously, never returns.
"""

import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from gan.argument_bounds import NUMBERS_END
from gan.errors import UsageError, brief


def host_memory() -> int:
    """Returns the memory that this process can have, in bytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    container = pathlib.Path("/sys/fs/cgroup/memory.max")
    if container.is_file() and (limit := container.read_text().strip()).isdigit():
        memory = min(memory, int(limit))
    return memory


def device_memory(mesh: Mesh) -> int:
    """Returns the memory of a device of this process in bytes; CPU devices share the host's."""
    device = mesh.local_devices[0]
    if stats := device.memory_stats():
        return int(stats["bytes_limit"])
    return host_memory() // len(mesh.local_devices)


def tree_bytes(tree: Any) -> int:
    """Returns the size of all arrays of a tree in bytes; their shapes and types are enough."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def with_unit(num_bytes: float) -> str:
    """Writes a number of bytes with three digits and a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1_000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1_000
    return f"{num_bytes:.3g} TB"


def check_fits(needs: Mapping[str, int], memory: int, where: str) -> None:
    """Checks that things fit into a memory together.

    Args:
      needs: What they need at the least, in bytes, each by the words that a user chose it with.
      memory: What there is, in bytes.
      where: Where it is, such as "on this machine".

    Raises:
      UsageError: where they do not; with all that need a hundredth of the whole or more.
    """
    total = sum(needs.values())
    if total > memory:
        large = {what: size for what, size in needs.items() if 100 * size >= total}
        listed = "; ".join(f"{what} needs {with_unit(size)}" for what, size in large.items())
        raise UsageError(f"{listed}; there is {with_unit(memory)} {where}: choose smaller numbers")


def check_fits_host(what: str, num_bytes: int) -> None:
    """Checks that one thing fits into this machine's memory; see `check_fits`."""
    check_fits({what: num_bytes}, host_memory(), "on this machine")


def check_num_images(num_images: int, shape: tuple[int, ...], name: str = "num_images") -> None:
    """Checks that samples can be held in memory, all at once and as they are drawn.

    Args:
      num_images: How many.
      shape: Shape of one of them, uint8 `(H, W, C)` or float32; `()` where only labels are held.
      name: What the user calls their number.

    Raises:
      UsageError: where they cannot, or are too few or more than can be counted.
    """
    if not isinstance(num_images, int) or not 1 <= num_images < NUMBERS_END:
        raise UsageError(f"{name} must be from 1 to {NUMBERS_END - 1}, given {brief(num_images)}")
    size = math.prod(shape) * (1 if len(shape) == 3 else 4) if shape else 0
    # Batches are joined, so that there are two copies; of the labels too, one of them of int64.
    check_fits_host(f"{name} = {num_images}", num_images * (2 * size + 12))
