"""Symplectic gradient adjustment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

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
    differentiable_field,
    step_along,
)
from gan.games.game import Game
from gan.players import Pair, Params, PlayerState


@DYNAMICS.register("sga")
@dataclass(frozen=True)
class SGA(Dynamics):
    """Symplectic gradient adjustment: simultaneous steps along F + lambda A^T F, A = (J - J^T) / 2.

    Attributes:
      weight: |lambda|, 0 or more.
      align: Whether lambda takes the sign of <F, J^T F> <A^T F, J^T F> / d + 0.1, so that the
        adjustment keeps away from unstable points; otherwise it is positive. An inner product that
        rounding may have given its sign counts as 0.

    Balduzzi et al., "The Mechanics of n-Player Differentiable Games", ICML 2018, Algorithm 1.
    """

    weight: Annotated[float, AtLeast(0)] = 1.0
    align: bool = True
    updates_in_sequence: ClassVar[bool] = True

    @property
    def gradients_per_step(self) -> int:  # noqa: D102
        return 6  # of F, J^T F and J F

    @property
    def needs_derivative(self) -> bool:  # noqa: D102
        return True

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        value, vjp, field = differentiable_field(game, players, batches[0], key)
        (transposed,) = vjp(value)  # J^T F
        # u -> J^T u is linear, and its own transpose is u -> J u: reverse mode is all that it takes.
        _, transpose = jax.vjp(lambda u: vjp(u)[0], value)
        (forward,) = transpose(value)  # J F
        adjustment = jax.tree.map(lambda jtf, jf: (jtf - jf) / 2, transposed, forward)  # A^T F
        weight: Any = self.weight
        if self.align:
            dimensions = sum(leaf.size for leaf in jax.tree.leaves(value))
            product = _certain_vdot(value, transposed) * _certain_vdot(adjustment, transposed)
            weight = weight * jnp.sign(product / dimensions + 0.1)
        direction = jax.tree.map(lambda f, a: f + weight * a, value, adjustment)
        return step_along(direction, field, optimizers, players, dynamics_state)

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns I - rate (J + weight A^T J), for plain SGD: close to the solution lambda > 0."""
        if not optimizer.is_plain:
            return None
        antisymmetric = (jacobian - jacobian.T) / 2
        direction = jacobian + self.weight * antisymmetric.T @ jacobian
        return LinearMap(np.eye(len(jacobian)) - optimizer.rate * direction)


def _certain_vdot(u: Pair[Params], v: Pair[Params]) -> jax.Array:
    """Returns <u, v>, or 0 where the cosine of u and v is within half of the digits.

    In a bilinear game F and J^T F are orthogonal, and what rounding leaves of their product grows with
    |F|^4 in Algorithm 1: some way from the solution it is more than 0.1, with either sign.
    """
    product = optax.tree.vdot(u, v)
    finfo: Any = jnp.finfo  # has no types
    doubt = jnp.sqrt(finfo(product.dtype).eps) * optax.tree.norm(u) * optax.tree.norm(v)
    return jnp.where(jnp.abs(product) > doubt, product, 0)
