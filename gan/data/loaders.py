"""Loaders bring a dataset to the devices: all of it at the start, or batches ahead of the steps."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan.data.batches import BatchBlock, Data, DeviceDataset
from gan.data.dataset import Examples
from gan.data.permutation import indices_of
from gan.sharding import replicated

_BLOCK_BYTES = 16 * 2**20
_MAX_BLOCK_STEPS = 256
_READING_THREADS = 4
_FOREVER = 2**31 - 1  # steps or blocks


class Chunk(NamedTuple):
    """The data of successive steps.

    Attributes:
      data: Data on the devices.
      num_steps: Number of steps for which the data suffice.
    """

    data: Data
    num_steps: int


class Loader(Protocol):
    """What brings a run its data."""

    def at(self, seed: int, step: int) -> Chunk:
        """Returns the data of the steps from `step` on, for the batches of this seed."""

    def close(self) -> None:
        """Ends the work in the background."""


class DeviceResident:
    """A loader that copies the whole dataset to the devices once.

    Args:
      examples: Examples to copy.
      mesh: The devices.
      split: Whether each device holds a part of the examples instead of all of them.
    """

    def __init__(self, examples: Examples, mesh: Mesh, split: bool = False):
        def put(array: np.ndarray) -> jax.Array:
            spec = PartitionSpec("data") if split else PartitionSpec()
            padding = -len(array) % mesh.size if split else 0
            shape = (len(array) + padding, *array.shape[1:])

            def part(index: tuple[slice, ...] | None) -> np.ndarray:
                assert index is not None
                begin, end, _ = index[0].indices(shape[0])
                rows = np.zeros((end - begin, *shape[1:]), array.dtype)
                unpadded = array[begin:end]
                rows[: len(unpadded)] = unpadded
                return rows

            return jax.make_array_from_callback(shape, NamedSharding(mesh, spec), part)

        self._chunk = Chunk(
            DeviceDataset(put(examples.examples), put(examples.labels), len(examples.labels)),
            _FOREVER,
        )

    def at(self, seed: int, step: int) -> Chunk:
        """Returns the whole dataset."""
        return self._chunk

    def close(self) -> None:
        """Does nothing, as nothing works in the background."""


class Streaming:
    """A loader that reads the next batches, with Grain, while the devices are busy.

    A batch is a pure function of (seed, number), whatever the number of processes: there is nothing
    to save and nothing to rewind. Each process reads the rows of its own devices.

    Args:
      examples: Examples mapped from files, of which only the requested ones are read.
      batch_size: Batch size over all devices.
      num_batches: Batches in a step.
      mesh: The devices.
    """

    def __init__(self, examples: Examples, batch_size: int, num_batches: int, mesh: Mesh):
        self._examples, self._batch_size, self._mesh = examples, batch_size, mesh
        self._num_batches = num_batches
        step_bytes = num_batches * batch_size * examples.examples[:1].nbytes
        self._num_steps = max(1, min(_BLOCK_BYTES // step_bytes, _MAX_BLOCK_STEPS))
        self._blocks: Any = None  # Grain's iterator
        self._block: BatchBlock | None = None
        self._position = (-1, 0)  # seed and first step of the block

    def at(self, seed: int, step: int) -> Chunk:
        """Returns the block that contains these steps; moves on to another if necessary."""
        old_seed, first = self._position
        if self._block is None or seed != old_seed or not first <= step <= first + self._num_steps:
            self.close()
            self._blocks = self._read_blocks(seed, step)
            first = step - self._num_steps
        if step == first + self._num_steps:
            first, self._block = step, next(self._blocks)
        self._position = (seed, first)
        assert self._block is not None
        return Chunk(self._block, first + self._num_steps - step)

    def close(self) -> None:
        """Stops reading ahead; the next request for data starts it again."""
        if self._blocks is not None:
            self._blocks.close()
        self._blocks = self._block = None

    def _read_blocks(self, seed: int, step: int) -> Any:
        """Iterates over the blocks from a step on, reading some of them ahead."""
        import grain

        split = NamedSharding(self._mesh, PartitionSpec(None, "data"))
        rows = _local_rows(split, self._batch_size)

        def put(array: np.ndarray) -> jax.Array:
            shape = (len(array), self._batch_size, *array.shape[2:])

            def part(index: tuple[slice, ...] | None) -> np.ndarray:
                assert index is not None
                begin, end, _ = index[1].indices(self._batch_size)
                return array[:, begin - rows.start : end - rows.start]

            return jax.make_array_from_callback(shape, split, part)

        def to_devices(block: _HostBlock) -> BatchBlock:
            number = np.asarray(block.first, np.int32)
            first = jax.make_array_from_callback((), replicated(self._mesh), lambda _: number)
            return BatchBlock(put(block.examples), put(block.labels), first)

        first, count = step * self._num_batches, self._num_steps * self._num_batches
        source = _BlockSource(self._examples, self._batch_size, seed, rows, first, count)
        options = grain.ReadOptions(
            num_threads=_READING_THREADS, prefetch_buffer_size=_READING_THREADS
        )
        blocks = grain.MapDataset.source(source).to_iter_dataset(options).map(to_devices)
        return iter(grain.experimental.ThreadPrefetchIterDataset(blocks, prefetch_buffer_size=1))


class _HostBlock(NamedTuple):
    """The rows of K batches that belong to this process."""

    examples: np.ndarray  # [K, rows, ...]
    labels: np.ndarray  # [K, rows]
    first: int  # number of the first batch


@dataclass(frozen=True)
class _BlockSource:
    """A source for Grain whose records are blocks of batches, with the rows of this process.

    If a record were an example, or even a batch, most of the time would be overhead per record.
    """

    examples: Examples
    batch_size: int
    seed: int
    rows: slice
    first: int  # number of the first batch of record 0
    count: int  # batches in a block

    def __len__(self) -> int:
        return _FOREVER

    def __getitem__(self, record: int) -> _HostBlock:
        first = self.first + record * self.count
        size = len(self.examples.labels)
        with jax.default_device(_host_device()):  # on the others it would wait for the steps
            indices = indices_of(size, self.batch_size, self.seed, first, self.count)
        mine = np.asarray(indices)[:, self.rows]  # [K, rows]
        images = np.asarray(self.examples.examples[mine])
        return _HostBlock(images, self.examples.labels[mine], first)


def _host_device() -> jax.Device | None:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS excludes it
        return None


def _local_rows(split: NamedSharding, batch_size: int) -> slice:
    """Returns the range of rows of a batch that the devices of this process hold."""
    parts = split.addressable_devices_indices_map((1, batch_size)).values()
    rows = [index[1].indices(batch_size) for index in parts if index is not None]
    return slice(min(begin for begin, _, _ in rows), max(end for _, end, _ in rows))
