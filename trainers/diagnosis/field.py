"""A run's game at its checkpoints, with fixed batches."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gan.data.placement import make_loader
from gan.errors import UsageError
from gan.games import AdversarialGame
from gan.players import Pair, PlayerState, pairwise, training_state, with_training_state
from gan.state import GANState, stream_key
from gan.trainers.experiment import Experiment, build
from gan.trainers.sampling import choose_name
from gan.trainers.train_step import draw_batch


@dataclass(frozen=True)
class Field:
    """A run's game and fixed batches of its data.

    Attributes:
      experiment: The run's parts, which compute in float32 whatever the run's precision.
      game: Its game. A lazy regularizer is applied at every step, with its own weight: the mean of what
        it is over the steps of a run.
      batches: B batches, stacked.
      keys: The random key of each, `[B]`.
    """

    experiment: Experiment
    game: AdversarialGame
    batches: Any
    keys: jax.Array


def make_field(experiment: Experiment, num_batches: int, batch_size: int, seed: int) -> Field:
    """Draws batches as the train step does, the first of a seed.

    Args:
      experiment: The run's parts.
      num_batches: B.
      batch_size: Examples in each.
      seed: The seed.

    Raises:
      UsageError: where the run's data are not there, or are fewer than a batch.
    """
    if batch_size < 1:
        raise UsageError(f"--batch_size must be at least 1, given {batch_size}")
    config = dataclasses.replace(
        experiment.config, precision="float32", mesh="data(1)", batch_size=batch_size
    )
    examples = experiment.load_examples()
    if batch_size > (count := len(examples.labels)):
        raise UsageError(f"--batch_size={batch_size}: the data have {count:,} examples")
    experiment = build(config, experiment.data)
    loader = make_loader(
        experiment.data_placement, examples, batch_size, num_batches, experiment.mesh
    )

    @jax.jit
    def draw(data: Any) -> tuple[Any, jax.Array]:
        batches = [draw_batch(experiment, data, seed, i) for i in range(num_batches)]
        keys = [stream_key(seed, "spectrum", i) for i in range(num_batches)]
        return jax.tree.map(lambda *own: jnp.stack(own), *batches), jnp.stack(keys)

    batches, keys = draw(loader.at(seed, 0).data)
    loader.close()
    regularizers = {
        name: dataclasses.replace(own, every=1)
        for name, own in experiment.game.regularizers.items()
    }
    game = dataclasses.replace(experiment.game, regularizers=regularizers)
    return Field(experiment, game, batches, keys)


def choose_point(experiment: Experiment, state: GANState, weights: str) -> Pair[PlayerState]:
    """Returns the players with the weights that a user names.

    Args:
      experiment: The run's parts.
      state: The run's state at some step.
      weights: `raw`, the parameters at which gradients are taken; an average of the generator, with the
        discriminator as it is; or what the dynamics has of both players, such as `slow`.

    Raises:
      UsageError: for weights that the run does not have.
    """
    players, name = state.players, choose_name(experiment, state, weights)
    if name == "raw":
        return players
    extra = experiment.dynamics.extra_weights(state.dynamics_state)
    if name in extra:
        return pairwise(lambda player, params: player.at(params), players, extra[name])
    generator, average = players.generator, state.averages[name]
    variables = with_training_state(average["variables"], training_state(generator.variables))
    averaged = generator.at(average["params"]).replace(variables=variables)  # type: ignore[attr-defined]
    return players.put("generator", averaged)
