"""TiAda: adaptive steps whose time scales are adaptive too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan.argument_bounds import AtLeast, Within
from gan.dynamics.dynamics import DYNAMICS, Dynamics, StepOutput, step_along
from gan.games.game import Game
from gan.optax_bounds import DECAY, MOMENTUM
from gan.players import Pair, Params, PlayerState, pairwise

Exponent = Annotated[float, Within(0, 1, open_end=True)]


class TiAdaState(NamedTuple):
    """The `dynamics_state` of `TiAda`.

    Attributes:
      step: Steps so far, an int32 scalar.
      mu: The means of both players' gradients, m.
      nu: The sums or means of their squares, v.
    """

    step: jax.Array
    mu: Pair[Params]
    nu: Pair[Params]


@DYNAMICS.register("tiada")
@dataclass(frozen=True)
class TiAda(Dynamics):
    """Simultaneous steps along gradients over powers of their sizes, the generator's no sooner than both.

    With x the generator, y the discriminator, g their gradients and v their squares summed so far:

        v^x_t = v^x_{t-1} + (g^x_t)^2,  v^y_t = v^y_{t-1} + (g^y_t)^2
        x_{t+1} = x_t - eta_x g^x_t / max(v^x_t, v^y_t)^alpha,  y_{t+1} = y_t - eta_y g^y_t / (v^y_t)^beta

    So the generator's steps shrink faster, and with the discriminator's gradients too, which makes its
    time scale the slower one whatever the rates. Rates are those of the players' optimizers, which have
    to move in proportion to what they are given: `sgd`, `optimistic_sgd`.

    Of several parameters, v is that of each by itself, as in the authors' code, and of both players
    compared is its sum V: the generator's step is g^x / (v^x)^alpha, times (V^x / V^y)^alpha where that
    is below 1. With `b2`, v is a running mean of squares and g is replaced by the running mean m of
    decay `b1`, as in Adam: TiAda-Adam. Both are corrected for their start, m / (1 - b1^t) and
    v / (1 - b2^t), before the power; the authors' code divides v^alpha by (1 - b2^t)^(1/2) instead,
    which differs in the first steps alone.

    Attributes:
      alpha: The generator's exponent; above 1/2 in the paper's theory of stochastic gradients.
      beta: The discriminator's, at most alpha; below 1/2 there.
      b1: Decay of the mean m of gradients; 0 is the gradient itself.
      b2: Decay of the mean v of squares; None sums them.
      eps: Number added to v^alpha and v^beta.

    Li, Yang, He, "TiAda: A Time-scale Adaptive Algorithm for Nonconvex Minimax Optimization", ICLR 2023,
    Algorithm 1; github.com/ShawnLixx/time-scale_adaptive_minimax, `optimizer/tiada.py`, whose GAN has
    alpha 0.6, beta 0.4, b1 0.5 and b2 0.9.
    """

    alpha: Exponent = 0.6
    beta: Exponent = 0.4
    b1: Annotated[float, MOMENTUM] = 0.0
    b2: Annotated[float, DECAY] | None = None
    eps: Annotated[float, AtLeast(0)] = 1e-8
    updates_in_sequence: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha < self.beta:
            raise ValueError(
                f"alpha must be at least beta, so that the generator is the slower player, given "
                f"{self.alpha} and {self.beta}"
            )

    @property
    def gradients_per_step(self) -> int:  # noqa: D102
        return 2

    @property
    def scales_gradients(self) -> bool:  # noqa: D102
        return True

    def init(self, players: Pair[PlayerState]) -> TiAdaState:
        """Returns zeros, twice as many as parameters."""

        def zeros() -> Pair[Params]:
            return pairwise(lambda player: optax.tree.zeros_like(player.params), players)

        return TiAdaState(jnp.zeros([], jnp.int32), zeros(), zeros())

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        field = game.vector_field(players, batches[0], key)
        after = self._remember(dynamics_state, pairwise(lambda own: own.value, field))
        direction = self._direction(after)
        return step_along(direction, field, optimizers, players, after)

    def _remember(self, state: TiAdaState, gradients: Pair[Params]) -> TiAdaState:
        mu = optax.tree.update_moment(gradients, state.mu, self.b1, 1)
        if self.b2 is None:
            nu = jax.tree.map(lambda v, g: v + g**2, state.nu, gradients)
        else:
            nu = optax.tree.update_moment(gradients, state.nu, self.b2, 2)
        return TiAdaState(optax.safe_increment(state.step), mu, nu)

    def _direction(self, state: TiAdaState) -> Pair[Params]:
        mean = optax.tree.bias_correction(state.mu, self.b1, state.step)
        squares = state.nu
        if self.b2 is not None:
            squares = optax.tree.bias_correction(squares, self.b2, state.step)
        of_x, of_y = optax.tree.sum(squares.generator), optax.tree.sum(squares.discriminator)
        slower = jnp.where(of_y > of_x, (of_x / of_y) ** self.alpha, 1.0)

        def over_power(exponent: float, scale: Any, mean: Params, squares: Params) -> Params:
            return jax.tree.map(
                lambda m, v: (scale * m / (v**exponent + self.eps)).astype(m.dtype), mean, squares
            )

        return Pair(
            generator=over_power(self.alpha, slower, mean.generator, squares.generator),
            discriminator=over_power(self.beta, 1.0, mean.discriminator, squares.discriminator),
        )
