"""Runge-Kutta: the flow of both players' gradients, followed more exactly than by one gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan.argument_bounds import AtLeast
from gan.dynamics.dynamics import (
    DYNAMICS,
    Dynamics,
    LinearMap,
    LinearOptimizer,
    StepOutput,
    step_along,
)
from gan.games.game import Game
from gan.players import Gradient, Pair, Params, PlayerState, pairwise, update

# By order: how far each stage after the first looks ahead along the one before, and all weights.
_TABLEAUS = {
    2: ((1.0,), (1 / 2, 1 / 2)),
    4: ((1 / 2, 1 / 2, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}


@DYNAMICS.register("rk")
@dataclass(frozen=True)
class RungeKutta(Dynamics):
    """A Runge-Kutta step of both players along dw/dt = -F(w): ODE-GAN.

    Each stage takes F, on a fresh batch, where the players would be if their optimizers stepped along
    the F of the stage before, or half of the way there; what the optimizers would then remember is
    dropped. Then they step once, from where the players were, along the weighted mean of all F. With
    `sgd(h)` this is the classical method with step size h, and with two rates that of the players'
    scaled gradients.

    Attributes:
      order: 2 is Heun's method with two gradients of each player a step, 4 the classical one with four.
      penalty: Weight, 0 or more, in the discriminator's direction of the gradient of
        |gradient of the generator's loss|^2 in the discriminator's parameters, at the first stage.

    Qin et al., "Training Generative Adversarial Networks by Solving Ordinary Differential Equations",
    NeurIPS 2020, and the authors' code (github.com/google-deepmind/deepmind-research, `ode_gan` and
    `cs_gan/main_ode.py`).
    """

    order: Literal[2, 4] = 4
    penalty: Annotated[float, AtLeast(0)] = 0.0
    updates_in_sequence: ClassVar[bool] = True

    @property
    def num_batches(self) -> int:  # noqa: D102
        return self.order

    @property
    def batches_per_update(self) -> int:  # noqa: D102
        return self.order

    @property
    def gradients_per_step(self) -> int:  # noqa: D102
        return 2 * self.order + (self.penalty > 0)

    @property
    def needs_derivative(self) -> bool:  # noqa: D102
        return self.penalty > 0

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        keys = jax.random.split(key, self.order)
        ahead, weights = _TABLEAUS[self.order]
        if self.penalty:
            pull, first = _penalty_gradient(game, players, batches[0], keys[0])
        else:
            first = game.vector_field(players, batches[0], keys[0])

        def stage(before: tuple[Pair[Gradient], Pair[Params]], drawn: Any) -> tuple[Any, None]:
            field, mean = before
            part, weight, batch, key = drawn
            stepped = pairwise(update, optimizers, players, field)
            field = game.vector_field(_between(players, stepped, part), batch, key)
            return (field, _plus(mean, weight, _values(field))), None

        mean = optax.tree.scale(weights[0], _values(first))
        drawn = jax.tree.map(lambda *arrays: jnp.stack(arrays), *batches[1:])
        stages = jnp.asarray(ahead), jnp.asarray(weights[1:]), drawn, keys[1:]
        (last, mean), _ = jax.lax.scan(stage, (first, mean), stages)  # a loop compiles faster
        if self.penalty:
            total = _plus(mean.discriminator, self.penalty, pull)
            mean = mean.put("discriminator", total)
        field = pairwise(lambda a, b: a.replace(variables=b.variables), first, last)
        return step_along(mean, field, optimizers, players, dynamics_state)

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns sum_k (-rate J)^k / k! up to the order, less the penalty's part, for plain SGD."""
        if not optimizer.is_plain:
            return None
        matrix = term = np.eye(len(jacobian))
        for k in range(1, self.order + 1):
            term = -optimizer.rate / k * jacobian @ term
            matrix = matrix + term
        size = len(jacobian) // 2
        generator = jacobian[:size]  # of its gradient
        pull = 2 * generator[:, size:].T @ generator
        matrix[size:] -= optimizer.rate * self.penalty * pull
        return LinearMap(matrix)


def _values(field: Pair[Gradient]) -> Pair[Params]:
    return pairwise(lambda gradient: gradient.value, field)


def _plus(total: Params, scale: jax.typing.ArrayLike, tree: Params) -> Params:
    """Returns total + scale tree, in the types of the total: a traced scale would change them."""
    return jax.tree.map(lambda a, b: a + jnp.asarray(scale, a.dtype) * b, total, tree)


def _between(
    players: Pair[PlayerState], stepped: Pair[PlayerState], part: jax.Array
) -> Pair[PlayerState]:
    """Returns the players a part of the way to where they stepped, with the variables there."""

    def point(player: PlayerState, moved: PlayerState) -> PlayerState:
        way = optax.tree.sub(moved.params, player.params)
        return moved.at(_plus(player.params, part, way))

    return pairwise(point, players, stepped)


def _penalty_gradient(
    game: Game, players: Pair[PlayerState], batch: Any, key: jax.Array
) -> tuple[Params, Pair[Gradient]]:
    """Returns the gradient of |F of the generator|^2 in the discriminator's parameters, and F."""

    def squared_norm(params: Params) -> tuple[jax.Array, Pair[Gradient]]:
        point = players.put("discriminator", players.discriminator.at(params))
        field = game.vector_field(point, batch, key)
        return optax.tree.vdot(field.generator.value, field.generator.value), field

    return jax.grad(squared_norm, has_aux=True)(players.discriminator.params)
