"""Data parallelism: a mesh with one axis, `data`, along which every batch is split."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gan.specs import Registry

MESHES: Registry[Mesh] = Registry("mesh", Mesh)


@MESHES.register("data")
def data_mesh(devices: int | None = None) -> Mesh:
    """The first `devices` devices, or all of them, along the axis `data`."""
    there = jax.devices()
    count = len(there) if devices is None else devices
    if not 1 <= count <= len(there):
        raise ValueError(f"devices must be 1 to {len(there)}, the devices there are; given {count}")
    return jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=there[:count])


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole: the state, a small dataset."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(x: jax.Array) -> jax.Array:
    """Splits the first axis over the mesh of `jax.set_mesh`; without one, x as it is.

    Computations follow their inputs: what starts a forward pass has to be split, or every device
    would do the whole of it.
    """
    if "data" not in jax.sharding.get_abstract_mesh().axis_names:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec("data"))
