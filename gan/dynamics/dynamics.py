"""The interface of a dynamics: how both players move. It knows games and optimizers, not images."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan import schedule_free
from gan.argument_bounds import BoundedFields
from gan.errors import UsageError
from gan.games.game import Game
from gan.players import Gradient, Pair, Params, PlayerState, pairwise, update
from gan.registry import Registry


class StepOutput(NamedTuple):
    """The result of one step of a dynamics.

    Attributes:
      players: The new point.
      dynamics_state: What the dynamics remembers for its next step.
      metrics: Scalars to log, by name.
    """

    players: Pair[PlayerState]
    dynamics_state: Any
    metrics: dict[str, jax.Array]


@dataclass(frozen=True)
class LinearOptimizer:
    """SGD with a constant learning rate, and with momentum or optimism where they are not 0.

    Momentum:  m_t = g_t + momentum m_{t-1},  w_{t+1} = w_t - rate m_t
    Optimism:  w_{t+1} = w_t - (rate + strength) g_t + strength g_{t-1}
    """

    rate: float
    momentum: float = 0.0
    strength: float = 0.0

    @property
    def is_plain(self) -> bool:
        """True for SGD alone, w_{t+1} = w_t - rate g_t."""
        return self.momentum == 0 and self.strength == 0


class LinearMap(NamedTuple):
    """The linear map that a dynamics applies to points close to the solution of a game.

    Attributes:
      matrix: `[N, N]`; acts on the parameters w `[2 D]`, the generator's first, and on what is
        remembered of the past, which follows them.
      num_steps: Number of steps that one application of the matrix stands for.
    """

    matrix: np.ndarray
    num_steps: int = 1


class Dynamics(BoundedFields, abc.ABC):
    """A rule by which both players move once.

    Attributes:
      updates_in_sequence: Whether a player's parameters change by its optimizer's updates alone, each
        of which starts where its last one ended. A schedule-free optimizer needs that.
    """

    updates_in_sequence: ClassVar[bool] = False

    @property
    def num_batches(self) -> int:
        """Number of batches that one step draws."""
        return 1

    @property
    def batches_per_update(self) -> int:
        """Number of these batches that one update of the discriminator takes."""
        return 1

    @property
    def gradients_per_step(self) -> int | None:
        """Number of gradients, of either player, that one step computes; None where it is not said.

        A product of a vector with the Jacobian of the vector field, or with its transpose, counts as
        two: it is a derivative of both players' gradients.
        """
        return None

    @property
    def period(self) -> int:
        """Number of steps after which the rule repeats itself."""
        return 1

    @property
    def needs_derivative(self) -> bool:
        """True if a step differentiates the vector field, and so the losses twice."""
        return False

    @property
    def reuses_fakes(self) -> bool:
        """True if both players' gradients in a step may be of the same fake examples, made once."""
        return False

    @property
    def scales_gradients(self) -> bool:
        """True if a step divides gradients by their size: an optimizer that does so again undoes it."""
        return False

    def init(self, players: Pair[PlayerState]) -> Any:
        """Returns the first `dynamics_state`, a pytree; its leaves must not be those of `players`."""
        return ()

    def extra_weights(self, dynamics_state: Any) -> dict[str, Pair[Params]]:
        """Returns parameters besides the players' own that samples can be drawn from, by name."""
        return {}

    @abc.abstractmethod
    def step(
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        """Moves both players once.

        Args:
          game: The game that is played.
          optimizers: Each player's own optimizer.
          players: The point to start from.
          dynamics_state: From `init` or the last step.
          batches: As many as `num_batches`.
          key: A random key for this step alone.
        """

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns the map of a step where the vector field is F(w) = J w; None if not known.

        It predicts the rate of convergence, with which tests compare the steps.

        Args:
          jacobian: J `[2 D, 2 D]`, the generator's D parameters first.
          optimizer: Both players' optimizer.
        """
        return None


_WARM_UP = 8  # RAdam and ADOPT are SGD in their first steps
DYNAMICS: Registry[Dynamics] = Registry("dynamics", Dynamics)


def check_optimizer(dynamics: Dynamics, opt_state: optax.OptState) -> None:
    """Checks that a dynamics leaves an optimizer its own parameters, where it needs them.

    Raises:
      UsageError: for a schedule-free optimizer under a dynamics whose updates are not in sequence.
    """
    if dynamics.updates_in_sequence or schedule_free.find_state(opt_state) is None:
        return
    accepted = [
        name for name in DYNAMICS if getattr(DYNAMICS.maker(name), "updates_in_sequence", False)
    ]
    raise UsageError(
        f"a schedule-free optimizer loses its weights where parameters move otherwise than by its own "
        f"updates, and dynamics is {type(dynamics).__name__}; accepted are {', '.join(accepted)}"
    )


def is_proportional(optimizer: optax.GradientTransformation, params: Params) -> bool:
    """Returns whether an optimizer's steps grow with its gradients: SGD's do, and Adam's do not.

    Args:
      optimizer: The optimizer.
      params: Parameters with the names and ranks of those that it moves; their sizes do not matter.
    """
    ones = jax.tree.map(lambda leaf: jnp.ones([1] * leaf.ndim, leaf.dtype), params)
    optimizer = optax.with_extra_args_support(optimizer)

    def last_step(size: float) -> Params:
        gradient, state = optax.tree.scale(size, ones), optimizer.init(ones)
        for _ in range(_WARM_UP):
            updates, state = optimizer.update(gradient, state, ones, value=jnp.ones([]))
        return updates

    def grows(still: jax.Array, one: jax.Array, two: jax.Array) -> bool:
        return bool(jnp.sum(jnp.abs(two - one)) >= 0.75 * jnp.sum(jnp.abs(one - still)))

    # What does not depend on the gradient, such as weight decay, cancels.
    return all(jax.tree.leaves(jax.tree.map(grows, *map(last_step, (0.0, 1.0, 2.0)))))


def params_of(players: Pair[PlayerState]) -> Pair[Params]:
    """Returns both players' parameters."""
    return pairwise(lambda player: player.params, players)


def extrapolate(start: Params, end: Params, factor: float) -> Params:
    """Returns start + factor (end - start); for a factor of 1 that is `end`, bit by bit."""
    if factor == 1:
        return end
    return jax.tree.map(lambda a, b: a + factor * (b - a), start, end)


def metrics_of(field: Pair[Gradient]) -> dict[str, jax.Array]:
    """Returns both players' metrics in one mapping."""
    return field.generator.metrics | field.discriminator.metrics


def differentiable_field(
    game: Game, players: Pair[PlayerState], batch: Any, key: jax.Array
) -> tuple[Pair[Params], Any, Pair[Gradient]]:
    """Evaluates the vector field F so that products with its Jacobian J can be taken.

    Returns:
      F at the players' parameters, the function u -> (J^T u,), and both players' gradients.
    """

    def values(params: Pair[Params]) -> tuple[Pair[Params], Pair[Gradient]]:
        point = pairwise(lambda player, own: player.replace(params=own), players, params)
        field = game.vector_field(point, batch, key)
        return pairwise(lambda gradient: gradient.value, field), field

    return jax.vjp(values, params_of(players), has_aux=True)


def step_along(
    direction: Pair[Params],
    field: Pair[Gradient],
    optimizers: Pair[optax.GradientTransformation],
    players: Pair[PlayerState],
    dynamics_state: Any,
) -> StepOutput:
    """Steps both optimizers along a direction in place of the gradient."""
    adjusted = pairwise(lambda gradient, value: gradient.replace(value=value), field, direction)
    return StepOutput(
        pairwise(update, optimizers, players, adjusted), dynamics_state, metrics_of(field)
    )
