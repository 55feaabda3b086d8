"""Where a dataset is while a run trains on it: on the devices, or in files."""

import enum
import os
import pathlib

from absl import logging
from jax.sharding import Mesh

from gan.data.dataset import Examples
from gan.data.feeds import Feed, Stream, Whole
from gan.sharding import agree
from gan.specs import Registry


class Placement(enum.Enum):
    """Where the data are; the batches are the same anywhere."""

    AUTO = "by size"
    REPLICATED = "a copy on each device"
    SHARDED = "a part on each device"
    STREAMED = "streamed"


PLACEMENTS: Registry[Placement] = Registry("placement", Placement)


@PLACEMENTS.register("auto")
def auto() -> Placement:
    """A copy on each device if that takes at most a quarter of its memory, else a part, else streamed."""
    return Placement.AUTO


@PLACEMENTS.register("replicated")
def replicated() -> Placement:
    """A copy on each device."""
    return Placement.REPLICATED


@PLACEMENTS.register("sharded")
def sharded() -> Placement:
    """A part on each device; they gather each batch together."""
    return Placement.SHARDED


@PLACEMENTS.register("streamed")
def streamed() -> Placement:
    """In files, from which the next batches are read while the devices are busy."""
    return Placement.STREAMED


def make_feed(
    placement: Placement, examples: Examples, batch_size: int, num_batches: int, mesh: Mesh
) -> Feed:
    """What brings the examples to the devices; says where they are.

    Args:
      placement: Where they should be.
      examples: All of them, in memory or in files.
      batch_size: Over all devices.
      num_batches: A step.
      mesh: The devices.
    """
    size, why = examples.nbytes, ""
    if placement is Placement.AUTO:
        fits = device_memory(mesh) // 4
        choices = list(Placement)
        placement = choices[agree(choices.index(fitting(size, mesh.size, fits)))]
        why = f" (data_placement = 'auto'; up to {_units(fits)} a device)"
    logging.info("data: %s, %s%s", _units(size), placement.value, why)
    if placement is Placement.STREAMED:
        return Stream(examples, batch_size, num_batches, mesh)
    return Whole(examples, mesh, split=placement is Placement.SHARDED)


def fitting(size: int, num_devices: int, fits: int) -> Placement:
    """The placement of a dataset by its size.

    Args:
      size: Bytes.
      num_devices: Of the mesh.
      fits: Bytes that it may take on a device.
    """
    if size <= fits:
        return Placement.REPLICATED
    return Placement.SHARDED if size <= fits * num_devices else Placement.STREAMED


def device_memory(mesh: Mesh) -> int:
    """Bytes that a device of this process has; CPU devices share what the process may take."""
    device = mesh.local_devices[0]
    if stats := device.memory_stats():
        return int(stats["bytes_limit"])
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    container = pathlib.Path("/sys/fs/cgroup/memory.max")
    if container.is_file() and (limit := container.read_text().strip()).isdigit():
        there = min(there, int(limit))
    return there // len(mesh.local_devices)


def _units(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1_000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1_000
    return f"{num_bytes:.3g} TB"
