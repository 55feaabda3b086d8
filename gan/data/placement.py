"""Where a dataset lies while a run trains on it: on the devices, or in files."""

import enum

from absl import logging
from jax.sharding import Mesh

from gan.data.dataset import Examples
from gan.data.loaders import DeviceResident, Loader, Streaming
from gan.memory import device_memory, with_unit
from gan.registry import Registry
from gan.sharding import agree


class Placement(enum.Enum):
    """Where the examples lie; the batches are the same in any case."""

    AUTO = "by size"
    REPLICATED = "a copy on each device"
    SHARDED = "a part on each device"
    STREAMED = "streamed"


PLACEMENTS: Registry[Placement] = Registry("placement", Placement)


@PLACEMENTS.register("auto")
def auto() -> Placement:
    """Puts a copy on each device that takes at most a quarter of it, else a part, else streams."""
    return Placement.AUTO


@PLACEMENTS.register("replicated")
def replicated() -> Placement:
    """Puts a copy on each device."""
    return Placement.REPLICATED


@PLACEMENTS.register("sharded")
def sharded() -> Placement:
    """Puts a part on each device; the devices gather each batch together."""
    return Placement.SHARDED


@PLACEMENTS.register("streamed")
def streamed() -> Placement:
    """Leaves the examples in files; the next batches are read while the devices are busy."""
    return Placement.STREAMED


def make_loader(
    placement: Placement, examples: Examples, batch_size: int, num_batches: int, mesh: Mesh
) -> Loader:
    """Makes the loader for a placement, and logs where the examples lie.

    Args:
      placement: Where the examples should lie.
      examples: All examples, in memory or mapped from files.
      batch_size: Batch size over all devices.
      num_batches: Batches in a step.
      mesh: The devices.
    """
    size, reason = examples.nbytes, ""
    if placement is Placement.AUTO:
        limit = device_memory(mesh) // 4
        choices = list(Placement)
        placement = choices[agree(choices.index(choose_placement(size, mesh.size, limit)))]
        reason = f" (data_placement = 'auto'; up to {with_unit(limit)} a device)"
    logging.info("data: %s, %s%s", with_unit(size), placement.value, reason)
    if placement is Placement.STREAMED:
        return Streaming(examples, batch_size, num_batches, mesh)
    return DeviceResident(examples, mesh, split=placement is Placement.SHARDED)


def choose_placement(size: int, num_devices: int, limit: int) -> Placement:
    """Chooses the placement of a dataset by its size.

    Args:
      size: Size of the dataset in bytes.
      num_devices: Number of devices of the mesh.
      limit: Bytes that the dataset may take on a device.
    """
    if size <= limit:
        return Placement.REPLICATED
    return Placement.SHARDED if size <= limit * num_devices else Placement.STREAMED
