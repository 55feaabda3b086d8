"""How the two players move. A dynamics knows games and optimizers, and nothing of images."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan.games.game import Game
from gan.players import Gradient, Pair, Params, PlayerState, pairwise, update
from gan.specs import Registry


class Moved(NamedTuple):
    """What one step of a dynamics gives.

    Attributes:
      players: The new point.
      memory: The new memory.
      metrics: Scalars to log, by name.
    """

    players: Pair[PlayerState]
    memory: Any
    metrics: dict[str, jax.Array]


class Dynamics(abc.ABC):
    """A rule by which both players move once."""

    @property
    def num_batches(self) -> int:
        """How many batches one step draws."""
        return 1

    @property
    def batches_per_update(self) -> int:
        """How many of them one update of the discriminator draws."""
        return 1

    @property
    def needs_derivative(self) -> bool:
        """Whether a step takes the derivative of the vector field, the losses' second."""
        return False

    def init(self, players: Pair[PlayerState]) -> Any:
        """The first memory: what the dynamics must know of the past, a pytree."""
        return ()

    @abc.abstractmethod
    def step(
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        memory: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> Moved:
        """Moves both players once.

        Args:
          game: The game that is played.
          optimizers: Each player's own.
          players: The point to start from.
          memory: What `init` or the last step gave.
          batches: `num_batches` of them.
          key: For this step alone.
        """


DYNAMICS: Registry[Dynamics] = Registry("dynamics", Dynamics)


@DYNAMICS.register("simultaneous")
@dataclass(frozen=True)
class Simultaneous(Dynamics):
    """Both players step at once, each along its gradient at the same point."""

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        memory: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> Moved:
        field = game.vector_field(players, batches[0], key)
        moved = pairwise(update, optimizers, players, field)
        return Moved(moved, memory, _metrics(field))


@DYNAMICS.register("alternating")
@dataclass(frozen=True)
class Alternating(Dynamics):
    """The discriminator steps first, then the generator against the new discriminator.

    Attributes:
      discriminator_steps: How many steps the discriminator takes, each on a fresh batch, for one of
        the generator; the generator's own step sees the last of those batches and fresh latents.
    """

    discriminator_steps: int = 1

    def __post_init__(self) -> None:
        if self.discriminator_steps < 1:
            raise ValueError(
                f"discriminator_steps must be at least 1, given {self.discriminator_steps}"
            )

    @property
    def num_batches(self) -> int:  # noqa: D102
        return self.discriminator_steps

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        memory: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> Moved:
        *keys, generator_key = jax.random.split(key, self.discriminator_steps + 1)
        for batch, discriminator_key in zip(batches, keys, strict=True):
            gradient = game.gradient("discriminator", players, batch, discriminator_key)
            moved = update(optimizers.discriminator, players.discriminator, gradient)
            players = players.put("discriminator", moved)
        metrics = gradient.metrics
        gradient = game.gradient("generator", players, batches[-1], generator_key)
        moved = update(optimizers.generator, players.generator, gradient)
        return Moved(players.put("generator", moved), memory, metrics | gradient.metrics)


@DYNAMICS.register("extragradient")
@dataclass(frozen=True)
class Extragradient(Dynamics):
    """Both players look one step ahead, then step from where they were along the gradient there.

    w_{t+1/2} = w_t - eta F(w_t),  w_{t+1} = w_t - eta F(w_{t+1/2}), each F on a fresh batch. With
    Adam this is ExtraAdam: one pair of moments, updated at both half steps.

    Korpelevich, 1976; Gidel et al., "A Variational Inequality Perspective on GANs", ICLR 2019,
    Algorithms 3 and 4.
    """

    @property
    def num_batches(self) -> int:  # noqa: D102
        return 2

    @property
    def batches_per_update(self) -> int:  # noqa: D102
        return 2

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        memory: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> Moved:
        ahead_key, key = jax.random.split(key)
        field = game.vector_field(players, batches[0], ahead_key)
        ahead = pairwise(update, optimizers, players, field)
        field = game.vector_field(ahead, batches[1], key)
        moved = pairwise(update, optimizers, ahead, field, players)
        return Moved(moved, memory, _metrics(field))


@DYNAMICS.register("past_extragradient")
@dataclass(frozen=True)
class PastExtragradient(Dynamics):
    """Extragradient that looks ahead along the gradient of the last step: half the work.

    w_{t+1/2} = w_t - eta F(w_{t-1/2}),  w_{t+1} = w_t - eta F(w_{t+1/2}); the first look ahead stays
    where it is. With Adam this is PastExtraAdam.

    Popov, 1980; Gidel et al., ICLR 2019, equations 15 and 16.
    """

    def init(self, players: Pair[PlayerState]) -> Any:
        """The gradient and the loss at the last half step: none yet."""
        return pairwise(
            lambda player: (jax.tree.map(jnp.zeros_like, player.params), jnp.zeros([])), players
        )

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        memory: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> Moved:
        past = pairwise(
            lambda player, past: Gradient(past[0], past[1], player.variables, {}),
            players,
            memory,
        )
        ahead = pairwise(update, optimizers, players, past)
        field = game.vector_field(ahead, batches[0], key)
        moved = pairwise(update, optimizers, ahead, field, players)
        memory = pairwise(lambda gradient: (gradient.value, gradient.loss), field)
        return Moved(moved, memory, _metrics(field))


class LookaheadMemory(NamedTuple):
    """What `Lookahead` remembers.

    Attributes:
      slow: Both players' slow weights.
      step: Inner steps since the start, an int32 scalar.
      inner: The memory of the inner dynamics.
    """

    slow: Pair[Params]
    step: jax.Array
    inner: Any


@DYNAMICS.register("lookahead")
@dataclass(frozen=True)
class Lookahead(Dynamics):
    """After every `steps` inner steps both players go back part of the way.

    w <- slow + alpha (w - slow), then slow <- w, for both players together; the slow weights start
    as those before step 1, and the optimizers' states are kept.

    Attributes:
      inner: The dynamics that makes the steps.
      steps: Inner steps between two such returns.
      alpha: In [0, 1]: 1 is the inner dynamics alone.

    Chavdarova et al., "Taming GANs with Lookahead-Minmax", ICLR 2021, Algorithm 1.
    """

    inner: Dynamics = Simultaneous()
    steps: int = 5
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, given {self.steps}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], given {self.alpha}")

    @property
    def num_batches(self) -> int:  # noqa: D102
        return self.inner.num_batches

    @property
    def batches_per_update(self) -> int:  # noqa: D102
        return self.inner.batches_per_update

    @property
    def needs_derivative(self) -> bool:  # noqa: D102
        return self.inner.needs_derivative

    def init(self, players: Pair[PlayerState]) -> LookaheadMemory:
        """Slow weights are a copy: the state may be donated."""
        slow = pairwise(lambda player: jax.tree.map(jnp.copy, player.params), players)
        return LookaheadMemory(slow, jnp.zeros([], jnp.int32), self.inner.init(players))

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        memory: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> Moved:
        moved = self.inner.step(game, optimizers, players, memory.inner, batches, key)
        step = memory.step + 1
        returns = step % self.steps == 0

        def go_back(slow: jax.Array, fast: jax.Array) -> jax.Array:
            return jnp.where(returns, slow + self.alpha * (fast - slow), fast)

        def keep(slow: jax.Array, fast: jax.Array) -> jax.Array:
            return jnp.where(returns, fast, slow)

        fast = jax.tree.map(go_back, memory.slow, _params_of(moved.players))
        slow = jax.tree.map(keep, memory.slow, fast)
        after = pairwise(lambda player, params: player.replace(params=params), moved.players, fast)
        return Moved(after, LookaheadMemory(slow, step, moved.memory), moved.metrics)


@DYNAMICS.register("consensus")
@dataclass(frozen=True)
class Consensus(Dynamics):
    """Simultaneous steps along F + gamma J^T F, the gradient of each loss plus that of |F|^2 / 2.

    Attributes:
      gamma: Weight of the second, 0 or more.

    Mescheder et al., "The Numerics of GANs", NeurIPS 2017, equation 10.
    """

    gamma: float = 0.1

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise ValueError(f"gamma must be 0 or more, given {self.gamma}")

    @property
    def needs_derivative(self) -> bool:  # noqa: D102
        return True

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        memory: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> Moved:
        value, vjp, field = _differentiable_field(game, players, batches[0], key)
        (transposed,) = vjp(value)  # J^T F
        direction = jax.tree.map(lambda f, jf: f + self.gamma * jf, value, transposed)
        return _step_along(direction, field, optimizers, players, memory)


@DYNAMICS.register("sga")
@dataclass(frozen=True)
class SGA(Dynamics):
    """Symplectic gradient adjustment: simultaneous steps along F + lambda A^T F, A = (J - J^T) / 2.

    Attributes:
      weight: |lambda|, 0 or more.
      align: Whether lambda takes the sign of <F, J^T F> <A^T F, J^T F> / d + 0.1, so that the
        adjustment keeps away from unstable points; otherwise it is positive.

    Balduzzi et al., "The Mechanics of n-Player Differentiable Games", ICML 2018, Algorithm 1.
    """

    weight: float = 1.0
    align: bool = True

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight must be 0 or more, given {self.weight}")

    @property
    def needs_derivative(self) -> bool:  # noqa: D102
        return True

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        memory: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> Moved:
        value, vjp, field = _differentiable_field(game, players, batches[0], key)
        (transposed,) = vjp(value)  # J^T F
        # u -> J^T u is linear, and its own transpose is u -> J u: reverse mode is all that it takes.
        _, transpose = jax.vjp(lambda u: vjp(u)[0], value)
        (forward,) = transpose(value)  # J F
        adjustment = jax.tree.map(lambda jtf, jf: (jtf - jf) / 2, transposed, forward)  # A^T F
        weight: Any = self.weight
        if self.align:
            dimensions = sum(leaf.size for leaf in jax.tree.leaves(value))
            product = optax.tree.vdot(value, transposed) * optax.tree.vdot(adjustment, transposed)
            weight = weight * jnp.sign(product / dimensions + 0.1)
        direction = jax.tree.map(lambda f, a: f + weight * a, value, adjustment)
        return _step_along(direction, field, optimizers, players, memory)


def _params_of(players: Pair[PlayerState]) -> Pair[Params]:
    return pairwise(lambda player: player.params, players)


def _metrics(field: Pair[Gradient]) -> dict[str, jax.Array]:
    return field.generator.metrics | field.discriminator.metrics


def _differentiable_field(
    game: Game, players: Pair[PlayerState], batch: Any, key: jax.Array
) -> tuple[Pair[Params], Any, Pair[Gradient]]:
    """F at the players' parameters, the function u -> (J^T u,), and the whole evaluation."""

    def values(params: Pair[Params]) -> tuple[Pair[Params], Pair[Gradient]]:
        point = pairwise(lambda player, own: player.replace(params=own), players, params)
        field = game.vector_field(point, batch, key)
        return pairwise(lambda gradient: gradient.value, field), field

    return jax.vjp(values, _params_of(players), has_aux=True)


def _step_along(
    direction: Pair[Params],
    field: Pair[Gradient],
    optimizers: Pair[optax.GradientTransformation],
    players: Pair[PlayerState],
    memory: Any,
) -> Moved:
    """One step of both optimizers along a direction in place of the gradient."""
    adjusted = pairwise(lambda gradient, value: gradient.replace(value=value), field, direction)
    return Moved(pairwise(update, optimizers, players, adjusted), memory, _metrics(field))
