"""Data parallelism: a mesh with one axis, `data`, along which every batch is split."""

import re

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gan.errors import UsageError
from gan.registry import Registry

MESHES: Registry[Mesh] = Registry("mesh", Mesh)


@MESHES.register("data")
def data_mesh(devices: int | None = None) -> Mesh:
    """Makes a mesh of the first `devices` devices, or all of them, along the axis `data`."""
    there = jax.devices()
    count = len(there) if devices is None else devices
    if not 1 <= count <= len(there):
        raise ValueError(f"devices must be 1 to {len(there)}, the devices there are; given {count}")
    return jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=there[:count])


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device has a copy of: the state, a small dataset."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(x: jax.Array) -> jax.Array:
    """Splits the first axis over the mesh of `jax.set_mesh`; without one, returns x as it is.

    Computations follow their inputs: the input of a forward pass has to be split, or every device
    would do all of it.
    """
    if "data" not in jax.sharding.get_abstract_mesh().axis_names:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec("data"))


def barrier(name: str) -> None:
    """Waits until every process has come this far."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(value: int) -> int:
    """Returns the first process's value; every process must call it."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int64(value)))


def join_processes(where: str) -> None:
    """Joins the processes of a run; to be called before anything else uses devices.

    Args:
      where: `auto`, where JAX knows the cluster (Slurm, Open MPI, Kubernetes, Cloud TPU), or
        `HOST:PORT,PROCESS/COUNT`: where the first process listens, and which of how many this is.

    Raises:
      UsageError: where it is neither, or no cluster is found.
    """
    if where == "auto":
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise UsageError(
                "--distributed: JAX finds no cluster here; --distributed=HOST:PORT,PROCESS/COUNT "
                "says where the first process listens, and which of how many this is"
            ) from error
        return
    match = re.fullmatch(r"(.+:\d+),(\d+)/(\d+)", where)
    if match is None or int(match[2]) >= int(match[3]):
        raise UsageError(
            f"--distributed={where}: HOST:PORT,PROCESS/COUNT is accepted, with processes from 0"
        )
    jax.distributed.initialize(match[1], int(match[3]), int(match[2]))
