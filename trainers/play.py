"""Plays one small game with several optimizers and dynamics at once, all in one scan."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan.dynamics import DYNAMICS, Moved
from gan.games import Game
from gan.optimizers import OPTIMIZERS
from gan.players import Pair, PlayerState, pairwise
from gan.state import stream_key


@dataclass(frozen=True)
class Contestant:
    """A way to play.

    Attributes:
      dynamics: Spec of the dynamics.
      optimizer: Spec of both players' optimizer.
    """

    dynamics: str
    optimizer: str

    @property
    def name(self) -> str:
        """For tables and pictures."""
        return (
            self.optimizer
            if self.dynamics == "simultaneous"
            else f"{self.dynamics}, {self.optimizer}"
        )


def play(
    game: Game, contestants: Sequence[Contestant], num_steps: int, scales: Sequence[float] = (1.0,)
) -> np.ndarray:
    """The paths of all contestants from the same starts.

    All of them are one scan, which is compiled once; the starts are a `vmap` over it.

    Args:
      game: With one vector of parameters a player; the solution is 0.
      contestants: C ways to play.
      num_steps: T.
      scales: Of the game's own start: S starts on the same line to the solution.

    Returns:
      `[S, C, T + 1, 2, D]`: the generator's and the discriminator's parameters after each step.

    Raises:
      UsageError: for a spec that names nothing.
    """
    rules = [DYNAMICS.build(contestant.dynamics) for contestant in contestants]
    optimizers = []
    for contestant in contestants:
        optimizer = OPTIMIZERS.build(contestant.optimizer)
        optimizers.append(Pair(generator=optimizer, discriminator=optimizer))
    networks = game.init(stream_key(0, "init", 0))

    def player(optimizer: optax.GradientTransformation, own: tuple[Any, Any]) -> PlayerState:
        params, variables = own
        return PlayerState(params, variables, optimizer.init(params))

    def step(points: list[Moved], number: jax.Array) -> tuple[list[Moved], jax.Array]:
        key = stream_key(0, "step", number)
        moved = [
            rule.step(game, pair, point.players, point.memory, [None] * rule.num_batches, key)
            for rule, pair, point in zip(rules, optimizers, points, strict=True)
        ]
        return [one._replace(metrics={}) for one in moved], _stack(moved)

    def path(scale: jax.Array) -> jax.Array:
        start = jax.tree.map(lambda leaf: scale * leaf.astype(scale.dtype), networks)
        begin = []
        for rule, pair in zip(rules, optimizers, strict=True):
            players = pairwise(player, pair, start)
            begin.append(Moved(players, rule.init(players), {}))
        _, points = jax.lax.scan(step, begin, jnp.arange(num_steps))
        return jnp.concatenate([_stack(begin)[None], points])  # [T + 1, C, 2, D]

    paths = jax.jit(jax.vmap(path))(jnp.asarray(scales, jnp.result_type(float)))
    return np.swapaxes(paths, 1, 2)


def _stack(points: list[Moved]) -> jax.Array:
    """`[C, 2, D]`."""
    return jnp.stack(
        [jnp.stack([p.players.generator.params, p.players.discriminator.params]) for p in points]
    )


def contraction(path: np.ndarray) -> float:
    """By which factor a step multiplies the distance to 0, from the slope of its logarithm.

    Args:
      path: `[T + 1, 2, D]`. The last two thirds count, as far as they are within the range of floats.
    """
    with np.errstate(over="ignore", under="ignore"):
        distance = np.linalg.norm(path.reshape(len(path), -1), axis=1)  # [T + 1]
    good = (distance > 1e-280) & (distance < 1e280)
    last = int(np.argmin(good)) if not good.all() else len(distance)
    window = np.arange(last // 3, last)
    return float(np.exp(np.polyfit(window, np.log(distance[window]), 1)[0]))
