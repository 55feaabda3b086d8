"""What brings a dataset to the devices: all of it once, or batch by batch ahead of the steps."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan.data.batches import Block, Data, Resident, indices_of
from gan.data.dataset import Examples
from gan.sharding import replicated

_BLOCK_BYTES = 16 * 2**20
_MAX_BLOCK_STEPS = 256
_READING_THREADS = 4
_FOREVER = 2**31 - 1  # steps or batches


class Supply(NamedTuple):
    """The data of some steps.

    Attributes:
      data: On the devices.
      num_steps: For how many steps it will do.
    """

    data: Data
    num_steps: int


class Feed(Protocol):
    """Brings a run its data."""

    def at(self, seed: int, step: int) -> Supply:
        """The data of the steps from `step` on, for the batches of this seed."""

    def close(self) -> None:
        """Ends what works in the background."""


class Whole:
    """Everything is on the devices from the start, and nothing comes from the host any more.

    Args:
      examples: To copy there.
      mesh: The devices.
      split: Whether each holds a part of the rows, instead of a copy of all.
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
                there = array[begin:end]
                rows[: len(there)] = there
                return rows

            return jax.make_array_from_callback(shape, NamedSharding(mesh, spec), part)

        self._supply = Supply(
            Resident(put(examples.examples), put(examples.labels), len(examples.labels)), _FOREVER
        )

    def at(self, seed: int, step: int) -> Supply:
        """The whole dataset."""
        return self._supply

    def close(self) -> None:
        """Nothing: nothing works in the background."""


class Stream:
    """Grain reads the batches of the next steps while the devices are busy with these.

    A batch is a pure function of (seed, number), whatever the number of processes: there is nothing
    to save and nothing to rewind. Each process reads the rows of its own devices.

    Args:
      examples: In files, of which only what is asked for is read.
      batch_size: Over all devices.
      num_batches: A step.
      mesh: The devices.
    """

    def __init__(self, examples: Examples, batch_size: int, num_batches: int, mesh: Mesh):
        self._examples, self._batch_size, self._mesh = examples, batch_size, mesh
        self._num_batches = num_batches
        step_bytes = num_batches * batch_size * examples.examples[:1].nbytes
        self._num_steps = max(1, min(_BLOCK_BYTES // step_bytes, _MAX_BLOCK_STEPS))
        self._blocks: Any = None  # an iterator of Grain's
        self._block: Block | None = None
        self._place = (-1, 0)  # seed and first step of the block

    def at(self, seed: int, step: int) -> Supply:
        """The block of batches in which these steps are; another is read if it has to be."""
        old_seed, first = self._place
        if self._block is None or seed != old_seed or not first <= step <= first + self._num_steps:
            self.close()
            self._blocks = self._read(seed, step)
            first = step - self._num_steps
        if step == first + self._num_steps:
            first, self._block = step, next(self._blocks)
        self._place = (seed, first)
        assert self._block is not None
        return Supply(self._block, first + self._num_steps - step)

    def close(self) -> None:
        """Ends the reading ahead; it starts again when it is asked for data."""
        if self._blocks is not None:
            self._blocks.close()
        self._blocks = self._block = None

    def _read(self, seed: int, step: int) -> Any:
        """Blocks from a step on, some of them ahead."""
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

        def block(read: _Read) -> Block:
            number = np.asarray(read.first, np.int32)
            first = jax.make_array_from_callback((), replicated(self._mesh), lambda _: number)
            return Block(put(read.examples), put(read.labels), first)

        first, count = step * self._num_batches, self._num_steps * self._num_batches
        source = _Blocks(self._examples, self._batch_size, seed, rows, first, count)
        ahead = grain.ReadOptions(
            num_threads=_READING_THREADS, prefetch_buffer_size=_READING_THREADS
        )
        blocks = grain.MapDataset.source(source).to_iter_dataset(ahead).map(block)
        return iter(grain.experimental.ThreadPrefetchIterDataset(blocks, prefetch_buffer_size=1))


class _Read(NamedTuple):
    """Of K batches, the rows of this process."""

    examples: np.ndarray  # [K, rows, ...]
    labels: np.ndarray  # [K, rows]
    first: int


@dataclass(frozen=True)
class _Blocks:
    """Grain's source: record j is the j-th block of batches, or of it the rows of this process.

    With an example, or even a batch a record, most of the time would go into what is done for each.
    """

    examples: Examples
    batch_size: int
    seed: int
    rows: slice
    first: int  # batch of the first block
    count: int  # batches a block

    def __len__(self) -> int:
        return _FOREVER

    def __getitem__(self, record: int) -> _Read:
        first = self.first + record * self.count
        # Not where the steps are made: there it would wait for them.
        with jax.default_device(_host()):
            places = indices_of(
                len(self.examples.labels), self.batch_size, self.seed, first, self.count
            )
        mine = np.asarray(places)[:, self.rows]  # [K, rows]
        return _Read(np.asarray(self.examples.examples[mine]), self.examples.labels[mine], first)


def _host() -> jax.Device | None:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        return None


def _local_rows(split: NamedSharding, batch_size: int) -> slice:
    """From the first to the last row of a batch that a device of this process takes."""
    places = split.addressable_devices_indices_map((1, batch_size)).values()
    rows = [index[1].indices(batch_size) for index in places if index is not None]
    return slice(min(begin for begin, _, _ in rows), max(end for _, end, _ in rows))
