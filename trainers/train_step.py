"""The training step: one jitted, donated, sharded call that makes any number of steps."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import optax
from clu import metrics as clu_metrics
from jax.sharding import Mesh

from gan.data import batch_at
from gan.players import ROLES, Pair, PlayerState
from gan.sharding import replicated
from gan.state import GANState, stream_key
from gan.trainers.experiment import Experiment

Data: TypeAlias = tuple[jax.Array, jax.Array]  # examples [N, ...], labels [N]


@dataclass(frozen=True)
class TrainStep:
    """`(state, data, num_steps) -> (state, metrics)`, compiled at the first call.

    The state is donated. `num_steps` is a run-time number, so that one compiled program makes one
    step or a thousand, and the same steps either way. The metrics are averages over these steps and
    stay on the device.
    """

    jitted: Any
    mesh: Mesh

    def __call__(
        self, state: GANState, data: Data, num_steps: jax.Array | int
    ) -> tuple[GANState, clu_metrics.Collection]:
        """Makes `num_steps` steps."""
        with jax.set_mesh(self.mesh):
            return self.jitted(state, data, num_steps)


def make_train_step(experiment: Experiment) -> TrainStep:
    """The step of an experiment."""
    config, dynamics = experiment.config, experiment.dynamics

    def step(state: GANState, data: Data) -> tuple[GANState, dict[str, jax.Array]]:
        first = state.step * dynamics.num_batches
        moved = dynamics.step(
            experiment.game,
            experiment.optimizers,
            state.players,
            state.dynamics,
            [
                batch_at(
                    *data,
                    config.batch_size,
                    config.seed,
                    first + i,
                    update=(first + i) // dynamics.batches_per_update,
                )
                for i in range(dynamics.num_batches)
            ],
            stream_key(config.seed, "step", state.step),
        )
        number = state.step + 1
        averages = {
            name: averaging.update(state.averages[name], moved.players.generator, number)
            for name, averaging in experiment.averaging.items()
        }
        metrics = moved.metrics | _update_norms(state.players, moved.players)
        return GANState(number, moved.players, moved.memory, averages), metrics

    def steps(
        state: GANState, data: Data, num_steps: jax.Array
    ) -> tuple[GANState, clu_metrics.Collection]:
        collection = _collection(jax.eval_shape(step, state, data)[1])

        def body(_: jax.Array, carry: tuple[GANState, clu_metrics.Collection]):  # type: ignore[no-untyped-def]
            state, total = carry
            state, metrics = step(state, data)
            return state, total.merge(collection.single_from_model_output(**metrics))

        return jax.lax.fori_loop(0, num_steps, body, (state, collection.empty()))

    jitted = jax.jit(steps, donate_argnums=0, out_shardings=replicated(experiment.mesh))
    return TrainStep(jitted, experiment.mesh)


def scalars(metrics: clu_metrics.Collection) -> dict[str, float]:
    """The averages as numbers by name; waits for the steps that they come from."""
    values = jax.device_get(metrics.compute())
    return {field.replace("__", "/"): float(value) for field, value in values.items()}


def _collection(metrics: dict[str, jax.ShapeDtypeStruct]) -> type[clu_metrics.Collection]:
    """An average for each metric; a field's name must be an identifier, so `/` becomes `__`."""
    return clu_metrics.Collection.create(
        **{
            name.replace("/", "__"): clu_metrics.Average.from_output(name)
            for name in sorted(metrics)
        }
    )


def _update_norms(old: Pair[PlayerState], new: Pair[PlayerState]) -> dict[str, jax.Array]:
    """How far each player moved."""
    return {
        f"update_norm/{role}": optax.global_norm(
            jax.tree.map(lambda a, b: a - b, new.of(role).params, old.of(role).params)
        )
        for role in ROLES
    }
