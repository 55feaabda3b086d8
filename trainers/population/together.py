"""One call makes the steps of all runs of a population, on accelerators or on several devices.

Each run has its own loop, in a thread of its own, and its own state on one of the devices. A call of the
train step waits until all runs have called it that have not ended: their states are then stacked, one program
makes their steps, each device those of its own runs, and each loop goes on with what is its own.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gan.config import TrainConfig
from gan.data import Data
from gan.data.batches import DeviceDataset
from gan.errors import UsageError
from gan.sharding import replicated
from gan.state import GANState
from gan.trainers.population.program import Program
from gan.trainers.train_step import TrainStep, TrainStepOutput

_AXIS = "runs"
_SPLIT = PartitionSpec(_AXIS)


@dataclass(frozen=True)
class _Call:
    """What a run calls the train step with."""

    state: GANState
    data: Data
    num_steps: int


class Together:
    """The train step of several runs.

    Args:
      program: What they execute.
      configs: Their configs.
      devices: Where they are; of each device there are as many runs, in their order.

    Raises:
      UsageError: where they do not divide over the devices.
    """

    def __init__(
        self, program: Program, configs: Sequence[TrainConfig], devices: Sequence[jax.Device]
    ) -> None:
        if len(configs) % len(devices):
            raise UsageError(
                f"{len(configs)} runs with one program do not divide over {len(devices)} devices: "
                f"mesh = 'data(1)' takes one of them"
            )
        self._program, self._each = program, len(configs) // len(devices)
        self._meshes = [
            jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=[device]) for device in devices
        ]
        self._seeds, self._numbers = zip(*map(program.arguments, configs), strict=True)
        mesh = jax.make_mesh((len(devices),), (_AXIS,), (AxisType.Auto,), devices=devices)
        self._split = NamedSharding(mesh, _SPLIT)
        self._everywhere = replicated(mesh)
        self._on_cpu = devices[0].platform == "cpu"
        self._programs: dict[bool, Any] = {}
        self._stack, self._unstack = jax.jit(_stack), jax.jit(partial(_unstack, self._each))
        self._condition = threading.Condition()
        self._active = set(range(len(configs)))
        self._calls: dict[int, _Call] = {}
        self._outputs: dict[int, TrainStepOutput | Exception] = {}

    def expect(self, numbers: Iterable[int]) -> None:
        """Waits from now on for these runs alone."""
        self._active = set(numbers)

    def mesh_of(self, number: int) -> Mesh:
        """Returns the device of a run, as a mesh."""
        return self._meshes[number // self._each]

    def call(self, number: int, state: GANState, data: Data, num_steps: int) -> TrainStepOutput:
        """Makes steps of a run, when all others have called too."""
        with self._condition:
            self._calls[number] = _Call(state, data, num_steps)
            self._run_if_all_have_called()
            while number not in self._outputs:
                self._condition.wait()
            output = self._outputs.pop(number)
        if isinstance(output, Exception):
            raise output
        return output

    def leave(self, number: int) -> None:
        """Ends the waiting for a run."""
        with self._condition:
            self._active.discard(number)
            self._run_if_all_have_called()

    def _run_if_all_have_called(self) -> None:
        if not self._calls or self._active - set(self._calls):
            return
        calls, self._calls = self._calls, {}
        try:
            self._outputs |= self._run(calls)
        except Exception as error:  # noqa: BLE001 - each of the loops raises it
            self._outputs |= dict.fromkeys(calls, error)
        self._condition.notify_all()

    def _run(self, calls: dict[int, _Call]) -> dict[int, TrainStepOutput]:
        """Makes the steps; the runs that have ended are stood in for by another, which stands still."""
        stand_in = next(iter(calls.values()))
        shared = isinstance(stand_in.data, DeviceDataset)
        if shared not in self._programs:
            self._programs[shared] = self._compile(shared)

        def call_of(number: int) -> _Call:
            if number in calls:
                return calls[number]
            here = replicated(self.mesh_of(number))
            state, data = jax.device_put((stand_in.state, stand_in.data), here)
            return _Call(state, data, 0)

        all_calls = [call_of(number) for number in range(len(self._seeds))]
        by_device = [all_calls[i : i + self._each] for i in range(0, len(all_calls), self._each)]
        states = [self._stack([call.state for call in own]) for own in by_device]
        data = [
            own[0].data if shared else self._stack([call.data for call in own]) for own in by_device
        ]
        output = self._programs[shared](
            self._joined(states, self._split),
            self._joined(data, self._everywhere if shared else self._split),
            np.array([call.num_steps for call in all_calls], np.int32),
            np.array(self._seeds),
            tuple(zip(*self._numbers, strict=True)),
        )
        outputs: list[TrainStepOutput] = []
        for mesh in self._meshes:
            (device,) = mesh.devices.flat
            outputs += self._unstack(jax.tree.map(partial(_shard, device=device), output))
        return {number: outputs[number] for number in calls}

    def _joined(self, trees: Sequence[Any], sharding: NamedSharding) -> Any:
        """Returns the array over all devices for what each of them has."""

        def join(*leaves: jax.Array) -> jax.Array:
            shape = leaves[0].shape
            if sharding is self._split:
                shape = (len(leaves) * shape[0], *shape[1:])
            shards = [leaf.addressable_data(0) for leaf in leaves]
            return jax.make_array_from_single_device_arrays(shape, sharding, shards)

        return jax.tree.map(join, *trees)

    def _compile(self, shared: bool) -> Any:
        """Makes the program of all runs; each device makes the steps of its own.

        Args:
          shared: Whether the runs have the same data.
        """
        each, program = self._each, self._program

        def one(data: Data, own: tuple[Any, ...]) -> TrainStepOutput:
            state, num_steps, seed, numbers = own
            return program.steps(state, data, num_steps, seed, numbers)

        def local(states: GANState, data: Any, num_steps: Any, seeds: Any, numbers: Any) -> Any:
            index = jax.lax.axis_index(_AXIS) * each + jnp.arange(each)
            own = (states, num_steps, seeds, tuple(_choose(index, column) for column in numbers))
            if self._on_cpu:  # whose products of small matrices are slower in a batch
                if shared:
                    return jax.lax.map(lambda own: one(data, own), own)
                return jax.lax.map(lambda pair: one(*pair), (data, own))
            return jax.vmap(one, (None if shared else 0, 0))(data, own)

        specs = (_SPLIT, PartitionSpec() if shared else _SPLIT, _SPLIT, _SPLIT, PartitionSpec())
        mapped = jax.shard_map(
            local, mesh=self._split.mesh, in_specs=specs, out_specs=_SPLIT, check_vma=False
        )
        return jax.jit(mapped, donate_argnums=0)


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _unstack(size: int, tree: Any) -> list[Any]:
    leaves, structure = jax.tree.flatten(tree)
    return [
        jax.tree.unflatten(structure, [leaf[place] for leaf in leaves]) for place in range(size)
    ]


def _choose(index: jax.Array, values: Sequence[Any]) -> jax.Array:
    """Returns `values[index]`, whose type is as weak as that of Python's numbers: float32 stays optional."""
    chosen: Any = values[0]
    for place, value in enumerate(values):
        chosen = jnp.where(index == place, value, chosen)
    return chosen


def _shard(leaf: jax.Array, device: jax.Device) -> jax.Array:
    """Returns what a device has of an array."""
    return next(shard.data for shard in leaf.addressable_shards if shard.device == device)


@dataclass(frozen=True)
class TogetherStep(TrainStep):
    """The train step of one of several runs, which waits for the others."""

    together: Together = field(kw_only=True)
    number: int = field(kw_only=True)

    def check_fits(self, state: GANState, data: Data) -> None:
        """Does nothing: `gan.trainers.population.members.plan` has looked at the states."""

    def __call__(self, state: GANState, data: Data, num_steps: Any) -> TrainStepOutput:
        """Makes `num_steps` steps."""
        return self.together.call(self.number, state, data, num_steps)
