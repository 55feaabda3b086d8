"""The steps that dynamics make where the vector field is linear, F(w) = J w: linear maps themselves.

The maps are found by the dynamics' own `step`, not by a formula for each: a step of a state that is a
basis vector is a column of the map. So a new dynamics, or one of a user's own, is understood at once.

For many dynamics the eigenvalues of the map are functions of those of J, one of J at a time: the map is
made of polynomials in J. Where a step also uses J^T, or one player before the other, it is not.
`StepMap.is_polynomial` finds out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from gan.dynamics import Dynamics
from gan.games import Game
from gan.players import Gradient, Pair, Params, PlayerState, Role, Variables, pairwise


class Momentum(NamedTuple):
    """The numbers of an optimizer whose updates are linear in the gradients g_t.

    m_t = b1 m_{t-1} + (1 - b1) g_t, and with `nesterov` n_t = b1 m_t + (1 - b1) g_t in its place;
    w_t = w_{t-1} - rate ((1 + optimism) m_t - optimism m_{t-1}).

    Adam is this with g_t / (sqrt(v_hat) + eps) as the gradient, once its v has settled.

    Attributes:
      b1: Decay of the mean of the gradients; 0 is plain descent.
      optimism: The strength of optimism, as a multiple of the learning rate.
      nesterov: Whether the mean looks ahead.
    """

    b1: float = 0.0
    optimism: float = 0.0
    nesterov: bool = False

    def optimizer(self, rate: Any) -> optax.GradientTransformation:
        """Builds the optimizer; its state is what the last direction was, and the mean."""

        def init(params: Params) -> Any:
            zeros = jax.tree.map(jnp.zeros_like, params)
            return (zeros, zeros) if self.nesterov else zeros

        def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            mean, last = state if self.nesterov else (state, state)
            mean = self._mix(mean, gradient)
            now = self._mix(mean, gradient) if self.nesterov else mean
            updates = jax.tree.map(
                lambda new, old: -rate * ((1 + self.optimism) * new - self.optimism * old),
                now, last,
            )  # fmt: skip
            return updates, (mean, now) if self.nesterov else now

        return optax.GradientTransformation(init, update)

    def _mix(self, mean: Any, gradient: Any) -> Any:
        return jax.tree.map(lambda m, g: self.b1 * m + (1 - self.b1) * g, mean, gradient)


PLAIN = Momentum()
"""Plain descent."""


@dataclass(frozen=True)
class LinearGame(Game):
    """A game with the vector field F(w) = J w, of which no losses need exist.

    Attributes:
      product: `(w [N]) -> J w`.
      sizes: How many of the N parameters each player has, the generator's first.
    """

    product: Callable[[jax.Array], jax.Array]
    sizes: tuple[int, int]

    def init(self, key: jax.Array) -> Pair[tuple[Params, Variables]]:
        """Returns zeros, the solution."""
        generator, discriminator = (jnp.zeros(size) for size in self.sizes)
        return Pair(generator=(generator, {}), discriminator=(discriminator, {}))

    def loss(self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array) -> Any:
        """Raises NotImplementedError: there is a field alone."""
        raise NotImplementedError

    def gradient(
        self, role: Role, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> Gradient:
        """Returns a player's rows of J w."""
        return self.vector_field(players, batch, key).of(role)

    def vector_field(
        self, players: Pair[PlayerState], batch: Any, key: jax.Array
    ) -> Pair[Gradient]:
        """Returns J w."""
        point = jnp.concatenate([players.generator.params, players.discriminator.params])
        generator, discriminator = jnp.split(self.product(point), [self.sizes[0]])
        return Pair(
            generator=Gradient(generator, jnp.zeros([]), {}, {}),
            discriminator=Gradient(discriminator, jnp.zeros([]), {}, {}),
        )


class LinearSteps(NamedTuple):
    """A dynamics on a linear game, as a map of the parameters and of all that is remembered.

    Attributes:
      start: What is remembered besides vectors, such as counters.
      size: n, the number of parameters and of the numbers that are remembered.
      period: `(state [n], counters) -> (state [n], counters)`: the steps after which all repeats.
    """

    start: list[Any]
    size: int
    period: Callable[[jax.Array, list[Any]], tuple[jax.Array, list[Any]]]


def linear_steps(
    dynamics: Dynamics,
    product: Callable[[jax.Array], jax.Array],
    sizes: tuple[int, int],
    optimizer: optax.GradientTransformation,
) -> LinearSteps:
    """Makes a dynamics' map on the linear game with a product J w.

    Args:
      dynamics: The dynamics.
      product: `(w [N]) -> J w`, traced by JAX.
      sizes: The number of each player's parameters.
      optimizer: Both players', with updates that are linear in the gradients.
    """
    game = LinearGame(product, sizes)
    networks = game.init(jax.random.key(0))
    players = pairwise(lambda own: PlayerState(own[0], {}, optimizer.init(own[0])), networks)
    leaves, tree = jax.tree.flatten((players, dynamics.init(players)))
    is_float = [leaf.ndim > 0 and jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    flat, unravel = ravel_pytree([leaf for leaf, own in zip(leaves, is_float, strict=True) if own])
    optimizers = Pair(generator=optimizer, discriminator=optimizer)

    def period(state: jax.Array, counters: list[Any]) -> tuple[jax.Array, list[Any]]:
        numbers, others = iter(unravel(state)), iter(counters)
        point: tuple[Any, Any] = jax.tree.unflatten(
            tree, [next(numbers if own else others) for own in is_float]
        )
        for _ in range(dynamics.period):
            batches = [None] * dynamics.num_batches
            output = dynamics.step(game, optimizers, *point, batches, jax.random.key(0))
            point = output.players, output.dynamics_state
        after = list(zip(jax.tree.leaves(point), is_float, strict=True))
        return ravel_pytree([leaf for leaf, own in after if own])[0], [
            leaf for leaf, own in after if not own
        ]

    counters = [leaf for leaf, own in zip(leaves, is_float, strict=True) if not own]
    return LinearSteps(counters, flat.size, period)


class StepMap:
    """The matrices of a dynamics' steps on linear games.

    Args:
      dynamics: The dynamics.
      nesterov: Whether the optimizers' means look ahead.
    """

    def __init__(self, dynamics: Dynamics, nesterov: bool = False):
        self._dynamics = dynamics

        def matrices(
            jacobian: jax.Array, rate: jax.Array, b1: jax.Array, optimism: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            optimizer = Momentum(b1, optimism, nesterov).optimizer(rate)  # type: ignore[arg-type]
            half = len(jacobian) // 2
            steps = linear_steps(dynamics, lambda w: jacobian @ w, (half, half), optimizer)

            points = jnp.vstack([jnp.eye(steps.size), jnp.arange(1.0, steps.size + 1)])

            def columns(counters: list[Any]) -> tuple[jax.Array, list[Any]]:
                return jax.vmap(steps.period, (0, None), (1, 0))(points, counters)

            first, counters = columns(steps.start)
            return first, columns([counter[0] for counter in counters])[0]

        self._matrices = jax.jit(jax.vmap(matrices, (0, 0, None, None)))

    def matrices(
        self, jacobians: np.ndarray, rates: np.ndarray, momentum: Momentum
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the matrix of the steps after which all repeats, and that of as many steps more.

        Args:
          jacobians: J `[M, 2 D, 2 D]`, the generator's D parameters first.
          rates: Learning rates `[M]`.
          momentum: Both players' optimizer.

        Returns:
          Both `[M, n, n + 1]`, for D parameters of each player and what is remembered; where the steps
          are linear, the last column is the sum of the others times 1 to n.
        """
        with jax.enable_x64(True):
            b1, optimism = (jnp.asarray(x, float) for x in (momentum.b1, momentum.optimism))
            both = self._matrices(jnp.asarray(jacobians), jnp.asarray(rates, float), b1, optimism)
            return np.asarray(both[0]), np.asarray(both[1])

    def is_polynomial(self) -> bool:
        """Finds whether the eigenvalues of the steps depend on J through its eigenvalues alone.

        It compares the map of a J that is not normal with those of its eigenvalues; and the map of the
        first steps with that of the next ones, since steps that change as they are counted have no one map.
        """
        rng, momentum = np.random.default_rng(0), Momentum(0.3, 0.7)
        parts = _blocks(np.array([0.7 + 1.3j, -0.4 + 0.6j]))
        middle = np.zeros([4, 4])
        middle[:2, :2], middle[2:, 2:] = parts
        basis = rng.normal(size=[4, 4])
        whole = basis @ middle @ np.linalg.inv(basis)
        first, then = self.matrices(whole[None], np.full(1, 0.2), momentum)
        matrix, image = first[0, :, :-1], first[0, :, -1]
        if not np.isfinite(first).all() or not np.allclose(first, then, rtol=1e-9, atol=1e-12):
            return False
        if not np.allclose(matrix @ np.arange(1, len(matrix) + 1), image, rtol=1e-9, atol=1e-12):
            return False
        of_parts, _ = self.matrices(parts, np.full(2, 0.2), momentum)
        values = np.linalg.eigvals(of_parts[:, :, :-1]).ravel()
        # Equal characteristic polynomials: the same eigenvalues, in whatever order they are found.
        return len(matrix) == len(values) and np.allclose(
            np.poly(np.linalg.eigvals(matrix)), np.poly(values), rtol=1e-7, atol=1e-9
        )

    def multipliers(self, values: np.ndarray, rates: np.ndarray, momentum: Momentum) -> np.ndarray:
        """Computes by how much a step multiplies the distance to the solution, for each eigenvalue of J.

        It holds for a dynamics that `is_polynomial`.

        Args:
          values: Eigenvalues of J `[E]`.
          rates: Learning rates `[R]`.
          momentum: Both players' optimizer.

        Returns:
          The spectral radius of a step `[R, E]`, as a mean over the steps after which all repeats.
        """
        blocks = np.tile(_blocks(values), (len(rates), 1, 1))  # [R E, 2, 2]
        matrices, _ = self.matrices(blocks, np.repeat(rates, len(values)), momentum)
        radius = np.abs(np.linalg.eigvals(matrices[:, :, :-1])).max(-1)
        radius = radius.reshape(len(rates), len(values))
        return np.asarray(radius ** (1 / self._dynamics.period))


def _blocks(values: np.ndarray) -> np.ndarray:
    """Returns for each eigenvalue a + i b the real matrix [[a, -b], [b, a]], `[E, 2, 2]`."""
    a, b = np.real(values), np.imag(values)
    return np.moveaxis(np.array([[a, -b], [b, a]]), -1, 0)
