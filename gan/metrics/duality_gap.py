"""The duality gap of a game: how much each player could gain, if the other one stood still."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan.argument_bounds import AtLeast, BoundedFields
from gan.data.dataset import Batch, Examples, to_float
from gan.errors import UsageError
from gan.games import AdversarialGame, Game
from gan.metrics.game_metric import GameMetric, GameSetting, Measure
from gan.metrics.metric import METRICS, Score
from gan.optimizers import OPTIMIZERS, constraints_of
from gan.players import Pair, PlayerState, Role, pairwise, update
from gan.schedules import counted_from
from gan.sharding import replicated, split_batch
from gan.state import stream_key


@METRICS.register("duality_gap")
@dataclass(frozen=True)
class DualityGap(BoundedFields, GameMetric):
    """An estimate of max over phi of M(theta, phi) - min over theta of M(theta, phi).

    M is `Game.value`, minus the discriminator's loss. The worst discriminator phi_w is found by `steps`
    updates of the discriminator alone from the checkpoint, and the worst generator theta_w likewise.
    Each descends its own loss, as in training: with the penalties, which keep it among the players that
    the run accepts, and for the generator of a game that is not zero-sum in place of M, whose gradient
    may vanish. The gap is M(theta, phi_w) - M(theta_w, phi), the sum of the two gains

      discriminator_gain = M(theta, phi_w) - M(theta, phi)
      generator_gain = M(theta, phi) - M(theta_w, phi)

    M is a mean over the same batches in all four terms, of real examples and latents that the updates
    have not seen. At an equilibrium the gap is 0; as an estimate it is negative where the updates find
    nothing better.

    `discriminator_advantage` is M(theta, phi_w) - M*, where M* is the most that M can be for a generator
    that draws the data themselves. The gap of networks that can do so is at least as large. An estimate far
    below says that the generator's updates have failed, as where its gradient vanishes.

    Attributes:
      steps: Updates of each player.
      optimizer: Spec of the optimizer of both; what its schedules count are these updates. What keeps
        a player's parameters in a set in training, such as `clip_weights`, does so here too.
      num_batches: Batches of the run's size in the estimate of M.

    Grnarova et al., "A Domain Agnostic Measure for Monitoring and Evaluating GANs", NeurIPS 2019
    (arXiv 1811.05512).
    """

    steps: Annotated[int, AtLeast(1)] = 200
    optimizer: str = "adam(1e-3, b1=0.5)"
    num_batches: Annotated[int, AtLeast(1)] = 32

    scores = (
        Score("duality_gap", higher_is_better=False),
        Score("discriminator_gain", higher_is_better=False),
        Score("generator_gain", higher_is_better=False),
        Score("discriminator_advantage", higher_is_better=False),
    )
    order = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            OPTIMIZERS.build(self.optimizer)
        except UsageError as error:
            raise ValueError(f"optimizer: {error}") from error

    def prepare(self, setting: GameSetting, examples: Examples, seed: int) -> Measure:  # noqa: D102
        size = setting.batch_size
        to_learn, held_out = _split(examples, self.steps * size, self.num_batches * size, seed)
        optimizers = pairwise(
            lambda own: optax.chain(OPTIMIZERS.build(self.optimizer), *constraints_of(own)),
            setting.optimizers,
        )
        move, value = _compile(setting, optimizers, seed)
        guessing = _value_of_guessing(setting.game)

        def play_alone(role: Role, players: Pair[PlayerState], step: int) -> Pair[PlayerState]:
            start = players.of(role)
            opt_state = optimizers.of(role).init(start.params)
            players = players.put(role, PlayerState(start.params, start.variables, opt_state))
            for place in range(self.steps):
                players = move(role, players, *_batch(to_learn, size, place), place, step)
            end = players.of(role)
            return players.put(role, PlayerState(end.weights, end.variables, ()))

        def value_of(players: Pair[PlayerState], step: int) -> float:
            places = range(self.num_batches)
            values = [value(players, *_batch(held_out, size, i), i, step) for i in places]
            return float(np.mean(jax.device_get(values), dtype=np.float64))

        def measure(players: Pair[PlayerState], step: int) -> dict[str, float]:
            with jax.set_mesh(setting.mesh):
                now = value_of(players, step)
                highest = value_of(play_alone("discriminator", players, step), step)
                lowest = value_of(play_alone("generator", players, step), step)
            return {
                "duality_gap": highest - lowest,
                "discriminator_gain": highest - now,
                "generator_gain": now - lowest,
                "discriminator_advantage": highest - guessing,
            }

        return measure

    def warnings(self, scores: Mapping[str, float]) -> list[str]:  # noqa: D102
        gap, advantage = scores["duality_gap"], scores["discriminator_advantage"]
        if not gap < advantage / 2:
            return []
        line = (
            f"the duality gap is estimated as {gap:.3g}, and is at least {advantage:.3g} if the generator "
            f"can draw the data: its {self.steps} steps have found too little, as where its gradient vanishes"
        )
        return [line]


def _value_of_guessing(game: Game) -> float:
    """Returns M*: the value of the best constant logit, of losses that are convex in their logits."""
    if not isinstance(game, AdversarialGame):
        return math.nan
    logits = jnp.linspace(-5, 5, 1_001)
    losses = jax.vmap(lambda c: game.losses.discriminator(c[None], c[None]))(logits)
    return -float(losses.min())


def _compile(
    setting: GameSetting, optimizers: Pair[optax.GradientTransformation], seed: int
) -> tuple[Callable[..., Pair[PlayerState]], Callable[..., jax.Array]]:
    """Compiles an update of one player alone, and M of a batch."""
    game, sharding = setting.game, replicated(setting.mesh)

    def batch_of(examples: jax.Array, labels: jax.Array, update: jax.Array) -> Batch:
        return Batch(split_batch(to_float(examples)), split_batch(labels), update)

    @partial(jax.jit, static_argnums=0, out_shardings=sharding)
    def move(
        role: Role, players: Pair[PlayerState], examples: jax.Array, labels: jax.Array,
        place: jax.Array, step: jax.Array,
    ) -> Pair[PlayerState]:  # fmt: skip
        key, number = stream_key(seed, "play_alone", place), step + place
        with counted_from(
            number
        ):  # the run's schedules go on, and so does what is done now and then
            batch = batch_of(examples, labels, number)
            gradient = game.gradient(role, players, batch, key)
        return players.put(role, update(optimizers.of(role), players.of(role), gradient))

    @partial(jax.jit, out_shardings=sharding)
    def value(
        players: Pair[PlayerState], examples: jax.Array, labels: jax.Array,
        place: jax.Array, step: jax.Array,
    ) -> jax.Array:  # fmt: skip
        with counted_from(step):
            batch = batch_of(examples, labels, step)
            return game.value(players, batch, stream_key(seed, "held_out", place))

    return move, value


def _split(
    examples: Examples, num_to_learn: int, num_held_out: int, seed: int
) -> tuple[Examples, Examples]:
    """Returns examples for the updates, and others for M: as many as are asked for, or half of all."""
    order = np.random.default_rng(seed).permutation(len(examples.labels))
    num_held_out = min(num_held_out, len(order) // 2)
    held_out, to_learn = order[:num_held_out], order[num_held_out:][:num_to_learn]
    return _take(examples, to_learn), _take(examples, held_out)


def _take(examples: Examples, indices: np.ndarray) -> Examples:
    """Returns some examples, which are read in the order in which they may lie in a file."""
    there, places = np.unique(indices, return_inverse=True)
    return Examples(examples.examples[there][places], examples.labels[there][places])


def _batch(examples: Examples, size: int, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns examples and labels of a batch; after the last example comes the first."""
    indices = np.arange(place * size, (place + 1) * size) % len(examples.labels)
    return examples.examples[indices], examples.labels[indices]
