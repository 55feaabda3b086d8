"""The training step: one jitted, donated, sharded call that makes any number of steps."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from jax.sharding import Mesh

from gan.data import Batch, Data, batch_at
from gan.players import ROLES, Pair, PlayerState
from gan.sharding import replicated
from gan.state import GANState, seed_after, stream_key
from gan.trainers.experiment import Experiment

MAX_STEPS = 1024  # a call makes at most so many


class NotFinite(NamedTuple):
    """The steps of a call in which something was not finite.

    Attributes:
      skipped: bool `[MAX_STEPS]`, by place in the call: steps that were not made.
      spoilt: bool `[MAX_STEPS]`: steps that were made, since their gradients were finite, but whose
        updates were not.
      causes: By metric, whether it was among what was not finite: bool scalars.
    """

    skipped: jax.Array
    spoilt: jax.Array
    causes: dict[str, jax.Array]


class Called(NamedTuple):
    """What a call gives.

    Attributes:
      state: After the steps.
      metrics: Averages over the steps that were made; they stay on the device until they are read.
      not_finite: What was wrong with the others.
    """

    state: GANState
    metrics: clu_metrics.Collection
    not_finite: NotFinite


@dataclass(frozen=True)
class TrainStep:
    """`(state, data, num_steps) -> Called`, compiled at the first call.

    The state is donated. `num_steps`, at most `MAX_STEPS`, is a run-time number, so that one
    compiled program makes one step or a thousand, and the same steps either way.
    """

    jitted: Any
    mesh: Mesh

    def __call__(self, state: GANState, data: Data, num_steps: jax.Array | int) -> Called:
        """Makes `num_steps` steps."""
        with jax.set_mesh(self.mesh):
            return self.jitted(state, data, num_steps)


def make_train_step(experiment: Experiment) -> TrainStep:
    """The step of an experiment."""
    config, dynamics = experiment.config, experiment.dynamics

    def batch(data: Data, seed: jax.Array, index: jax.Array) -> Batch:
        update = index // dynamics.batches_per_update
        drawn = batch_at(data, config.batch_size, seed, index, update)
        key = stream_key(seed, "augmentation", index)
        for place, augment in enumerate(experiment.augmentation):
            examples = augment(drawn.examples, jax.random.fold_in(key, place))
            drawn = drawn.replace(examples=examples)  # type: ignore[attr-defined]
        return drawn

    def step(state: GANState, data: Data) -> tuple[GANState, dict[str, jax.Array]]:
        first = state.step * dynamics.num_batches
        seed = seed_after(config.seed, state.rollbacks)
        moved = dynamics.step(
            experiment.game,
            experiment.optimizers,
            state.players,
            state.dynamics,
            [batch(data, seed, first + i) for i in range(dynamics.num_batches)],
            stream_key(seed, "step", state.step),
        )
        number = state.step + 1
        averages = {
            name: averaging.update(state.averages[name], moved.players.generator, number)
            for name, averaging in experiment.averaging.items()
        }
        metrics = moved.metrics | _update_norms(state.players, moved.players)
        return GANState(number, moved.players, moved.memory, averages, state.rollbacks), metrics

    def steps(state: GANState, data: Data, num_steps: jax.Array) -> Called:
        names = jax.eval_shape(step, state, data)[1]
        collection = _collection(names)

        def body(place: jax.Array, before: Called) -> Called:
            state, metrics = step(before.state, data)
            causes = not_finite(state, metrics)
            # What is known before the update decides about it: the choice is then a part of the
            # update's own pass over memory. With the update's norm it would be one more.
            skip = _any(cause for name, cause in causes.items() if name not in _AFTERWARDS)
            total = before.metrics.merge(collection.single_from_model_output(**metrics))
            stays = before.state.replace(step=state.step)  # type: ignore[attr-defined]
            return Called(
                jax.tree.map(partial(jnp.where, skip), stays, state),
                jax.tree.map(partial(jnp.where, skip), before.metrics, total),
                NotFinite(
                    before.not_finite.skipped.at[place].set(skip),
                    before.not_finite.spoilt.at[place].set(~skip & _any(causes.values())),
                    jax.tree.map(jnp.logical_or, before.not_finite.causes, causes),
                ),
            )

        causes = dict.fromkeys(jax.eval_shape(not_finite, state, names), jnp.zeros([], bool))
        nowhere = jnp.zeros([MAX_STEPS], bool)
        start = Called(state, collection.empty(), NotFinite(nowhere, nowhere, causes))
        return jax.lax.fori_loop(0, num_steps, body, start)

    jitted = jax.jit(steps, donate_argnums=0, out_shardings=replicated(experiment.mesh))
    return TrainStep(jitted, experiment.mesh)


_AFTERWARDS = {f"update_norm/{role}" for role in ROLES}


def _any(flags: Iterable[jax.Array]) -> jax.Array:
    return jnp.any(jnp.stack(list(flags)))


def not_finite(state: GANState, metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """What is not finite after a step: of its metrics, and of the players' variables.

    The norms of gradients and updates are among the metrics, so that no parameter is left out. What an
    optimizer or a dynamics remembers is not looked at: it shows in the next update.
    """
    values = {name: jnp.isfinite(value) for name, value in metrics.items()}
    for role in ROLES:
        for leaf in jax.tree.leaves(state.players.of(role).variables):
            name = f"variables/{role}"
            values[name] = values.get(name, True) & jnp.all(jnp.isfinite(leaf))
    return jax.tree.map(jnp.logical_not, values)


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
