"""Trajectories of one small game under several dynamics and optimizers, all in one scan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan.dynamics import DYNAMICS, Dynamics, StepOutput
from gan.dynamics.dynamics import check_optimizer
from gan.errors import UsageError
from gan.games import Game
from gan.optimizers import OPTIMIZERS
from gan.players import Pair, Params, PlayerState, pairwise
from gan.schedules import counted_from
from gan.state import stream_key


@dataclass(frozen=True)
class Method:
    """A dynamics together with an optimizer.

    Attributes:
      dynamics: Spec of the dynamics.
      optimizer: Spec of both players' optimizer.
    """

    dynamics: str
    optimizer: str

    @property
    def name(self) -> str:
        """The label in tables and pictures."""
        if self.dynamics == "simultaneous":
            return self.optimizer
        return f"{self.dynamics}, {self.optimizer}"


def simulate(
    game: Game, methods: Sequence[Method], num_steps: int, scales: Sequence[float] = (1.0,)
) -> np.ndarray:
    """Computes the trajectories of all methods from the same starting points.

    All methods are steps of one scan, which is compiled once; the starting points are a `vmap` over
    it.

    Args:
      game: A game whose players have one vector of D parameters each, with the solution 0.
      methods: M methods.
      num_steps: T.
      scales: S factors; each is multiplied with the game's own starting point.

    Returns:
      `[S, M, T + 1, 2, D]`: the generator's and the discriminator's parameters at the start and
      after each step.

    Raises:
      UsageError: for a spec that names nothing.
    """
    rules = [DYNAMICS.build(method.dynamics) for method in methods]
    optimizers = [_pair_of(OPTIMIZERS.build(method.optimizer)) for method in methods]
    networks = game.init(stream_key(0, "init", 0))

    def start(scale: jax.Array) -> list[StepOutput]:
        scaled = jax.tree.map(lambda leaf: scale * leaf.astype(scale.dtype), networks)
        return [_start(rule, pair, scaled) for rule, pair in zip(rules, optimizers, strict=True)]

    def step(points: list[StepOutput], number: jax.Array) -> tuple[list[StepOutput], jax.Array]:
        key = stream_key(0, "step", number)
        moved = []
        for rule, pair, point in zip(rules, optimizers, points, strict=True):
            batches = [None] * rule.num_batches
            with counted_from(number):
                output = rule.step(game, pair, point.players, point.dynamics_state, batches, key)
            moved.append(output._replace(metrics={}))
        return moved, _params(moved)

    def trajectories(scale: jax.Array) -> jax.Array:
        first = start(scale)
        _, after = jax.lax.scan(step, first, jnp.arange(num_steps))
        return jnp.concatenate([_params(first)[None], after])  # [T + 1, M, 2, D]

    paths = jax.jit(jax.vmap(trajectories))(jnp.asarray(scales, jnp.result_type(float)))
    return np.swapaxes(paths, 1, 2)


def play(
    game: Game,
    optimizer: str | optax.GradientTransformation | Pair[optax.GradientTransformation],
    dynamics: str | Dynamics = "simultaneous",
    *,
    num_steps: int,
    batches: Callable[[jax.Array], Any] | None = None,
    seed: int = 0,
) -> Pair[Params]:
    """Plays a game, such as one of `gan.make_game`, and returns the parameters along the way.

    Args:
      game: The game.
      optimizer: Both players' optimizer, a spec or optax's own; or one for each, in a `Pair`.
      dynamics: How both players move, a spec or an object.
      num_steps: T.
      batches: `(number) -> batch` for games with data; number counts the batches that were drawn
        before. It is traced by JAX, as in `lambda k: jnp.asarray(data)[k % len(data)]`.
      seed: Seed of the keys that the losses are given.

    Returns:
      Both players' parameters (of a schedule-free optimizer, its weights x); each leaf has a new
      first axis of T + 1, the start and each step.

    Raises:
      UsageError: for a spec that names nothing, an optimizer that the dynamics does not suit, and
        batches that are no function.
    """
    if batches is not None and not callable(batches):
        raise UsageError("batches must be a function of the batch's number, traced by JAX")
    if isinstance(optimizer, str):
        optimizer = OPTIMIZERS.build(optimizer)
    optimizers = optimizer if isinstance(optimizer, Pair) else _pair_of(optimizer)
    rule = DYNAMICS.build(dynamics) if isinstance(dynamics, str) else dynamics
    start = _start(rule, optimizers, game.init(stream_key(seed, "init", 0)))

    def step(point: StepOutput, number: jax.Array) -> tuple[StepOutput, Pair[Params]]:
        first = number * rule.num_batches
        drawn = [batches(first + i) if batches else None for i in range(rule.num_batches)]
        key = stream_key(seed, "step", number)
        with counted_from(number):
            output = rule.step(game, optimizers, point.players, point.dynamics_state, drawn, key)
        return output._replace(metrics={}), _weights_of(output.players)

    _, after = jax.jit(lambda: jax.lax.scan(step, start, jnp.arange(num_steps)))()
    return jax.tree.map(
        lambda a, b: jnp.concatenate([a[None], b]), _weights_of(start.players), after
    )


def _pair_of(optimizer: optax.GradientTransformation) -> Pair[optax.GradientTransformation]:
    return Pair(generator=optimizer, discriminator=optimizer)


def _start(
    rule: Dynamics, optimizers: Pair[optax.GradientTransformation], networks: Pair[Any]
) -> StepOutput:
    """Returns the point before the first step; raises UsageError for parts that do not combine."""
    players = pairwise(_player, optimizers, networks)
    for player in (players.generator, players.discriminator):
        check_optimizer(rule, player.opt_state)
    return StepOutput(players, rule.init(players), {})


def _player(optimizer: optax.GradientTransformation, own: tuple[Any, Any]) -> PlayerState:
    params, variables = own
    return PlayerState(params, variables, optimizer.init(params))


def _params(points: list[StepOutput]) -> jax.Array:
    """Stacks the parameters of all players, `[M, 2, D]`."""
    weights = [_weights_of(point.players) for point in points]
    return jnp.stack([jnp.stack([pair.generator, pair.discriminator]) for pair in weights])


def _weights_of(players: Pair[PlayerState]) -> Pair[Params]:
    return pairwise(lambda player: player.weights, players)


def distances(path: np.ndarray) -> np.ndarray:
    """Computes the distances `[T + 1]` to the solution 0 along a trajectory `[T + 1, 2, D]`."""
    with np.errstate(over="ignore", under="ignore"):
        return np.linalg.norm(path.reshape(len(path), -1), axis=1)


def measured_contraction(path: np.ndarray) -> float:
    """Computes the factor by which a step multiplies the distance to the solution 0.

    It is the slope of the distance's logarithm over the last two thirds of the trajectory, up to
    where the distance leaves the range of floats.

    Args:
      path: `[T + 1, 2, D]`.
    """
    distance = distances(path)
    in_range = (distance > 1e-280) & (distance < 1e280)
    end = len(distance) if in_range.all() else int(np.argmin(in_range))
    steps = np.arange(end // 3, end)
    slope, _ = np.polyfit(steps, np.log(distance[steps]), 1)
    return float(np.exp(slope))
