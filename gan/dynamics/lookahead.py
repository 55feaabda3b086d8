"""Lookahead: both players go back part of the way now and then."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan.argument_bounds import AtLeast, Within
from gan.dynamics.dynamics import (
    DYNAMICS,
    Dynamics,
    LinearMap,
    LinearOptimizer,
    StepOutput,
    params_of,
)
from gan.dynamics.simultaneous import Simultaneous
from gan.games.game import Game
from gan.players import Pair, Params, PlayerState, pairwise


class LookaheadState(NamedTuple):
    """The `dynamics_state` of `Lookahead`.

    Attributes:
      slow: Both players' slow weights.
      step: Inner steps since the start, an int32 scalar.
      inner: The `dynamics_state` of the inner dynamics.
    """

    slow: Pair[Params]
    step: jax.Array
    inner: Any


@DYNAMICS.register("lookahead")
@dataclass(frozen=True)
class Lookahead(Dynamics):
    """Both players go back part of the way after every `steps` inner steps.

    w <- slow + alpha (w - slow), then slow <- w, for both players together; the slow weights start
    as those before step 1, and the optimizers' states are kept.

    Attributes:
      inner: The dynamics that makes the steps.
      steps: Inner steps between two such returns.
      alpha: How much of the way is kept; 1 is the inner dynamics alone.

    Chavdarova et al., "Taming GANs with Lookahead-Minmax", ICLR 2021, Algorithm 1.
    """

    inner: Dynamics = Simultaneous()
    steps: Annotated[int, AtLeast(1)] = 5
    alpha: Annotated[float, Within(0, 1)] = 0.5

    @property
    def num_batches(self) -> int:  # noqa: D102
        return self.inner.num_batches

    @property
    def batches_per_update(self) -> int:  # noqa: D102
        return self.inner.batches_per_update

    @property
    def gradients_per_step(self) -> int | None:  # noqa: D102
        return self.inner.gradients_per_step

    @property
    def period(self) -> int:  # noqa: D102
        return self.steps * self.inner.period

    @property
    def needs_derivative(self) -> bool:  # noqa: D102
        return self.inner.needs_derivative

    @property
    def reuses_fakes(self) -> bool:  # noqa: D102
        return self.inner.reuses_fakes

    @property
    def scales_gradients(self) -> bool:  # noqa: D102
        return self.inner.scales_gradients

    def init(self, players: Pair[PlayerState]) -> LookaheadState:
        """Starts from a copy of the parameters as slow weights, since the state may be donated."""
        slow = pairwise(lambda player: jax.tree.map(jnp.copy, player.params), players)
        return LookaheadState(slow, jnp.zeros([], jnp.int32), self.inner.init(players))

    def extra_weights(self, dynamics_state: LookaheadState) -> dict[str, Pair[Params]]:
        """Returns the inner dynamics' weights and, as `slow`, the slow ones."""
        return self.inner.extra_weights(dynamics_state.inner) | {"slow": dynamics_state.slow}

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        output = self.inner.step(game, optimizers, players, dynamics_state.inner, batches, key)
        step = dynamics_state.step + 1
        returns = step % self.steps == 0

        def go_back(slow: jax.Array, fast: jax.Array) -> jax.Array:
            return jnp.where(returns, slow + self.alpha * (fast - slow), fast)

        def keep(slow: jax.Array, fast: jax.Array) -> jax.Array:
            return jnp.where(returns, fast, slow)

        fast = jax.tree.map(go_back, dynamics_state.slow, params_of(output.players))
        slow = jax.tree.map(keep, dynamics_state.slow, fast)
        after = pairwise(lambda player, params: player.replace(params=params), output.players, fast)
        return StepOutput(after, LookaheadState(slow, step, output.dynamics_state), output.metrics)

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns (1 - alpha) I + alpha M^steps, where the inner step M remembers nothing."""
        inner = self.inner.linear_map(jacobian, optimizer)
        if inner is None or inner.num_steps > 1 or inner.matrix.shape != jacobian.shape:
            return None
        fast = np.linalg.matrix_power(inner.matrix, self.steps)
        identity = np.eye(len(jacobian))
        return LinearMap((1 - self.alpha) * identity + self.alpha * fast, self.steps)
