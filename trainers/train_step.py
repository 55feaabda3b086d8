"""The train step: one jitted, donated, sharded call that makes any number of steps."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from jax.sharding import Mesh

from gan.data import Batch, Data, batch_at
from gan.dynamics.dynamics import StepOutput
from gan.memory import check_fits, device_memory
from gan.players import ROLES, Pair, PlayerState, Role
from gan.schedules import counted_from
from gan.second_moments import SecondMoment, second_moment_of
from gan.sharding import agree, replicated
from gan.state import GANState, seed_after, stream_key
from gan.trainers.experiment import Experiment

MAX_STEPS = 1024
"""A call makes at most so many steps."""

_CALL_SECONDS = 1.0  # short, so that a signal is soon obeyed


class NotFinite(NamedTuple):
    """The steps of a call in which something was not finite.

    Attributes:
      skipped: bool `[MAX_STEPS]`, by place in the call: steps that were not made.
      nonfinite_updates: bool `[MAX_STEPS]`: steps that were made, since their gradients were finite,
        but whose updates were not.
      causes: For each metric, whether it was not finite in any step: bool scalars.
    """

    skipped: jax.Array
    nonfinite_updates: jax.Array
    causes: dict[str, jax.Array]


class TrainStepOutput(NamedTuple):
    """The result of a call.

    Attributes:
      state: The state after the steps.
      metrics: Averages over the steps that were made; they stay on the device until they are read.
      not_finite: What was wrong with the others.
    """

    state: GANState
    metrics: clu_metrics.Collection
    not_finite: NotFinite


@dataclass(frozen=True)
class TrainStep:
    """`(state, data, num_steps) -> TrainStepOutput`, compiled at the first call.

    The state is donated. `num_steps`, at most `MAX_STEPS`, is a run-time number, so that one
    compiled program makes one step or a thousand, and the same steps either way. `arguments` are what
    else the program takes.
    """

    jitted: Any
    mesh: Mesh
    arguments: tuple[Any, ...] = ()

    def check_fits(self, state: GANState, data: Data) -> None:
        """Compiles the program, which the next call then has, and checks that it fits into memory.

        Raises:
          UsageError: where it does not; the call would never return.
        """
        with jax.set_mesh(self.mesh):
            sizes = self.jitted.lower(state, data, 0, *self.arguments).compile().memory_analysis()
        if sizes is not None:  # a backend need not know
            size = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
            size += sizes.temp_size_in_bytes - sizes.alias_size_in_bytes
            what = "a step with this batch_size and these networks"
            check_fits({what: size}, device_memory(self.mesh), "on each device")

    def __call__(self, state: GANState, data: Data, num_steps: jax.Array | int) -> TrainStepOutput:
        """Makes `num_steps` steps."""
        with jax.set_mesh(self.mesh):
            return self.jitted(state, data, num_steps, *self.arguments)


class Pace:
    """Finds from each call of the train step how many steps take about a second.

    The steps are the same however they are cut into calls, and a call costs about a millisecond
    beyond them. All processes take the first one's number.
    """

    def __init__(self) -> None:
        self._steps = 1
        self._begin = 0.0

    def begin_call(self, at_most: int) -> int:
        """Returns how many steps the next call makes, and starts its clock."""
        self._begin = time.monotonic()
        return agree(min(self._steps, at_most))

    def end_call(self, num_steps: int) -> None:
        """Stops the clock of a call that has made so many steps."""
        fitting = int(num_steps * _CALL_SECONDS / max(time.monotonic() - self._begin, 1e-6))
        self._steps = max(1, min(fitting, 4 * num_steps, MAX_STEPS))


class MetricWindow:
    """The averages of metrics over the steps from one log to the next.

    Args:
      experiment: What is trained.
      step: The last step before the window.
    """

    def __init__(self, experiment: Experiment, step: int):
        config = experiment.config
        self._rates = experiment.rates
        self._images_per_step = config.batch_size * experiment.dynamics.num_batches
        self._open(step)

    def _open(self, step: int) -> None:
        self._metrics: clu_metrics.Collection | None = None
        self._first, self._skipped, self._begin = step, 0, time.monotonic()

    def add(self, metrics: clu_metrics.Collection, num_skipped: int) -> None:
        """Adds the metrics of a call."""
        self._metrics = metrics if self._metrics is None else self._metrics.merge(metrics)
        self._skipped += num_skipped

    def close(self, step: int) -> dict[str, float]:
        """Returns the averages up to a step, and starts the next window.

        The speed is always among them, and so are the learning rate and the strength of optimism of
        the last step; the train step's metrics are only if any step was made.
        """
        num_steps = step - self._first
        assert self._metrics is not None
        values = scalars(self._metrics) if self._skipped < num_steps else {}
        images = num_steps * self._images_per_step
        values["images_per_second"] = images / (time.monotonic() - self._begin)
        for role in ROLES:
            rates = self._rates.of(role).at(step - 1)
            for name, value in rates.items():  # `learning_rate`, or `learning_rate/<part>`
                kind, *part = name.split("/", 1)
                values["/".join([kind, role, *part])] = value
        if self._skipped:
            values["skipped_steps"] = float(self._skipped)
        self._open(step)
        return values


def draw_batch(
    experiment: Experiment,
    data: Data,
    seed: jax.Array | int,
    index: jax.Array | int,
    batch_size: int | None = None,
) -> Batch:
    """Draws batch number `index` of a seed, with the augmentation of real examples.

    Args:
      experiment: The run's parts.
      data: Data that contain the batch.
      seed: The seed, below 2**32.
      index: The number, from 0.
      batch_size: B; None is the run's.
    """
    update = index // experiment.dynamics.batches_per_update
    drawn = batch_at(data, batch_size or experiment.config.batch_size, seed, index, update)
    key = stream_key(seed, "augmentation", index)
    for place, augment in enumerate(experiment.data_augmentation):
        examples = augment(drawn.examples, jax.random.fold_in(key, place))
        drawn = drawn.replace(examples=examples)  # type: ignore[attr-defined]
    return drawn


def make_train_step(experiment: Experiment) -> TrainStep:
    """Makes the train step of an experiment."""
    steps = make_step_function(experiment, experiment.config.seed)
    jitted = jax.jit(steps, donate_argnums=0, out_shardings=replicated(experiment.mesh))
    return TrainStep(jitted, experiment.mesh)


def make_step_function(
    experiment: Experiment, run_seed: jax.Array | int
) -> Callable[[GANState, Data, Any], TrainStepOutput]:
    """Makes the function of the train step, `(state, data, num_steps) -> TrainStepOutput`.

    Args:
      experiment: What is trained; numbers in it may be traced.
      run_seed: The run's seed, which may be traced.
    """
    config, dynamics = experiment.config, experiment.dynamics
    moments = {role: second_moment_of(getattr(config, f"{role}_optimizer")) for role in ROLES}

    def step(state: GANState, data: Data) -> tuple[GANState, dict[str, jax.Array]]:
        first = state.step * dynamics.num_batches
        seed = seed_after(run_seed, state.rollbacks)
        batches = [
            draw_batch(experiment, data, seed, first + i) for i in range(dynamics.num_batches)
        ]
        with counted_from(state.step):
            output = dynamics.step(
                experiment.game,
                experiment.optimizers,
                state.players,
                state.dynamics_state,
                batches,
                stream_key(seed, "step", state.step),
            )
            metrics = output.metrics | _moves(state.players, output, moments)
        number = state.step + 1
        averages = {
            name: averaging.update(state.averages[name], output.players.generator, number)
            for name, averaging in experiment.averaging.items()
        }
        new_state = GANState(
            number, output.players, output.dynamics_state, averages, state.rollbacks
        )
        return new_state, metrics

    def steps(state: GANState, data: Data, num_steps: jax.Array) -> TrainStepOutput:
        names = jax.eval_shape(step, state, data)[1]
        collection = _collection(names)

        def body(place: jax.Array, before: TrainStepOutput) -> TrainStepOutput:
            state, metrics = step(before.state, data)
            causes = not_finite(state, metrics)
            # What is known before the update decides about it: the choice is then a part of the
            # update's own pass over memory. With the update's norm it would be one more.
            skip = _any(cause for name, cause in causes.items() if name not in _AFTERWARDS)
            total = before.metrics.merge(collection.single_from_model_output(**metrics))
            stays = before.state.replace(step=state.step)  # type: ignore[attr-defined]
            return TrainStepOutput(
                jax.tree.map(partial(jnp.where, skip), stays, state),
                jax.tree.map(partial(jnp.where, skip), before.metrics, total),
                NotFinite(
                    before.not_finite.skipped.at[place].set(skip),
                    before.not_finite.nonfinite_updates.at[place].set(
                        ~skip & _any(causes.values())
                    ),
                    jax.tree.map(jnp.logical_or, before.not_finite.causes, causes),
                ),
            )

        causes = dict.fromkeys(jax.eval_shape(not_finite, state, names), jnp.zeros([], bool))
        nowhere = jnp.zeros([MAX_STEPS], bool)
        start = TrainStepOutput(state, collection.empty(), NotFinite(nowhere, nowhere, causes))
        return jax.lax.fori_loop(0, num_steps, body, start)

    return steps


_AFTERWARDS = {f"update_norm/{role}" for role in ROLES}
_NO_CAUSE = ("step_size/", "preconditioned_rms/")
"""Metrics that are made of others: what is not finite shows in these."""


def _any(flags: Iterable[jax.Array]) -> jax.Array:
    return jnp.any(jnp.stack(list(flags)))


def not_finite(state: GANState, metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns for each of a step's metrics, and of the players' variables, whether it is not finite.

    The norms of gradients and updates are among the metrics, so that no parameter is left out. The
    states of optimizers and dynamics are not examined: they show in the next update.
    """
    values = {
        name: jnp.isfinite(value)
        for name, value in metrics.items()
        if not name.startswith(_NO_CAUSE)
    }
    for role in ROLES:
        for leaf in jax.tree.leaves(state.players.of(role).variables):
            name = f"variables/{role}"
            values[name] = values.get(name, True) & jnp.all(jnp.isfinite(leaf))
    return jax.tree.map(jnp.logical_not, values)


def scalars(metrics: clu_metrics.Collection) -> dict[str, float]:
    """Returns the averages by name, as numbers; waits for the steps that they come from."""
    values = jax.device_get(metrics.compute())
    return {field.replace("__", "/"): float(value) for field, value in values.items()}


def _collection(metrics: dict[str, jax.ShapeDtypeStruct]) -> type[clu_metrics.Collection]:
    """Makes an average for each metric; a field's name must be an identifier, so `/` becomes `__`."""
    return clu_metrics.Collection.create(
        **{
            name.replace("/", "__"): clu_metrics.Average.from_output(name)
            for name in sorted(metrics)
        }
    )


def _moves(
    old: Pair[PlayerState], output: StepOutput, moments: dict[Role, SecondMoment | None]
) -> dict[str, jax.Array]:
    """Returns how far each player has moved, and what that says of its optimizer.

    The effective step size is the length of the move over that of the gradient, the last one of a step
    with several: the learning rate of a gradient descent that moves as far.
    """
    metrics = {}
    for role in ROLES:
        before, after = old.of(role), output.players.of(role)
        moved = optax.global_norm(jax.tree.map(lambda a, b: a - b, after.params, before.params))
        metrics[f"update_norm/{role}"] = moved
        if (length := output.metrics.get(f"grad_norm/{role}")) is not None:
            metrics[f"step_size/{role}"] = jnp.where(length > 0, moved / length, 0.0)
        if (moment := moments[role]) is not None:
            rms = moment.preconditioned_rms(before.opt_state, after.opt_state)
            metrics[f"preconditioned_rms/{role}"] = rms
    return metrics
