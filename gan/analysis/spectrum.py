"""The leading eigenvalues of the Jacobian of a game's vector field, from products with it alone.

The players descend F, the gradients of their own losses: w <- w - rate F(w). So an eigenvalue of its
Jacobian J with a positive real part attracts, one with a negative real part repels, and an imaginary
part rotates. (Papers that write the flow w' = v(w) = -F(w) have the eigenvalues of -J.)

Arnoldi's method (ARPACK's) finds the eigenvalues at the rim of the spectrum, and sees nothing of those
inside, of which most are near 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

from gan.dynamics.dynamics import params_of
from gan.games import Game
from gan.players import Pair, PlayerState, pairwise

KINDS = {
    "LM": "largest modulus",
    "LR": "largest real part",
    "SR": "smallest real part",
    "LI": "largest imaginary part",
}
"""What an eigenvalue may be among the first of, by ARPACK's names."""

TOLERANCE = 1e-3
"""An eigenvalue is converged if ||J v - lambda v|| is at most this times |lambda|, for a unit vector v."""

_MAX_RESTARTS = 20
_SAME_DIRECTION = 0.9  # the cosine of two eigenvectors that are one

Product = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FieldJacobian:
    """The Jacobian of a vector field at a point, averaged over fixed batches; N parameters.

    Attributes:
      size: N, the generator's parameters first.
      num_batches: B.
      products: `(v [N]) -> [B, N]`: J_b v for each batch b.
      transposed: `(u [N]) -> [N]`: J^T u.
      traced: `(v [N]) -> [N]`: J v, for a function that JAX compiles.
    """

    size: int
    num_batches: int
    products: Product
    transposed: Product
    traced: Callable[[jax.Array], jax.Array] | None = None

    def product(self, v: np.ndarray) -> np.ndarray:
        """Returns J v `[N]`."""
        return self.products(v).mean(0)

    def scaled(self, scale: np.ndarray) -> "FieldJacobian":
        """Returns that of the field whose parts are multiplied by `scale` `[N]`."""
        traced = self.traced
        return replace(
            self,
            products=lambda v: scale * self.products(v),
            transposed=lambda u: self.transposed(scale * u),
            traced=traced and (lambda v: jnp.asarray(scale, v.dtype) * traced(v)),
        )


@dataclass(frozen=True)
class Eigenvalue:
    """An eigenvalue of J; of a complex pair, the one with the positive imaginary part.

    Attributes:
      value: lambda.
      residual: ||J v - lambda v|| / |lambda| for its unit eigenvector v.
      kinds: What it is among the first of, names of `KINDS`.
      error: Standard errors of its real and imaginary part over the batches, by first-order perturbation:
        the batch b moves it to x^T J_b v / x^T v, with the left eigenvector x. NaN for a single batch, or
        where no left eigenvector was found.
      condition: 1 / |x^T v| for unit x and v: by how much more than a normal matrix's it moves where J
        changes. NaN as above.
    """

    value: complex
    residual: float
    kinds: tuple[str, ...]
    error: tuple[float, float] = (float("nan"), float("nan"))
    condition: float = float("nan")

    @property
    def converged(self) -> bool:
        """Whether the residual is small enough."""
        return self.residual <= TOLERANCE


class Spectrum(NamedTuple):
    """The leading eigenvalues of J.

    Attributes:
      eigenvalues: The largest modulus first.
      found: How many of each kind Arnoldi's method has found, of those asked for.
      asked: How many those are.
      num_products: Products with J and J^T that it took.
    """

    eigenvalues: list[Eigenvalue]
    found: dict[str, int]
    asked: int
    num_products: int

    @property
    def rotation(self) -> float:
        """Rotation against attraction, max |Im lambda| / max |lambda|, in [0, 1].

        0 is a field that only attracts or repels, 1 one whose fastest motion is a rotation. Both maxima
        are at the rim of the spectrum, so the number does not depend on how many eigenvalues were asked for.
        """
        values = np.array([own.value for own in self.eigenvalues if own.converged])
        largest = np.abs(values).max(initial=0)
        return float(np.abs(values.imag).max(initial=0) / largest) if largest else float("nan")


def field_jacobian(
    game: Game, players: Pair[PlayerState], batches: Any, keys: jax.Array
) -> FieldJacobian:
    """Prepares products with the Jacobian of a game's vector field at a point.

    Only parameters are differentiated. The players' variables are held as they are: batch statistics that
    are running averages, and the vectors of spectral normalisation, through which nothing is
    differentiated in a train step either.

    Args:
      game: The game.
      players: The point.
      batches: B of them, stacked: each leaf `[B, ...]`.
      keys: The random key of each, `[B]`.
    """
    point, unravel = ravel_pytree(params_of(players))

    def field(flat: jax.Array, batch: Any, key: jax.Array) -> jax.Array:
        return flat_field(game, players, unravel(flat), batch, key)

    # Reverse over reverse, since convolutions may have no forward mode: u -> J^T u is linear, and its
    # transpose is v -> J v.
    def transposed_of(flat: jax.Array, batch: Any, key: jax.Array) -> Callable[[Any], Any]:
        _, vjp = jax.vjp(lambda w: field(w, batch, key), flat)
        return lambda u: vjp(u)[0]

    @jax.jit
    def products(flat: jax.Array, v: jax.Array, batches: Any, keys: jax.Array) -> jax.Array:
        def product(drawn: Any) -> jax.Array:
            return jax.vjp(transposed_of(flat, *drawn), jnp.zeros_like(flat))[1](v)[0]

        return jax.lax.map(product, (batches, keys))

    @jax.jit
    def transposed(flat: jax.Array, u: jax.Array, batches: Any, keys: jax.Array) -> jax.Array:
        return jax.lax.map(lambda drawn: transposed_of(flat, *drawn)(u), (batches, keys)).mean(0)

    def on_host(function: Any) -> Product:
        def product(v: np.ndarray) -> np.ndarray:
            return np.asarray(function(point, jnp.asarray(v, point.dtype), batches, keys), float)

        return product

    return FieldJacobian(
        point.size, len(keys), on_host(products), on_host(transposed),
        lambda v: products(point, v, batches, keys).mean(0),
    )  # fmt: skip


def flat_field(
    game: Game, players: Pair[PlayerState], params: Any, batch: Any, key: jax.Array
) -> jax.Array:
    """Evaluates the vector field, `[N]`, at other parameters of the players."""
    point = pairwise(lambda player, own: player.at(own), players, params)
    field = game.vector_field(point, batch, key)
    return ravel_pytree(pairwise(lambda gradient: gradient.value, field))[0]


def leading_spectrum(
    jacobian: FieldJacobian,
    k: int,
    kinds: Sequence[str] = tuple(KINDS),
    progress: Callable[[str], None] = lambda text: None,
) -> Spectrum:
    """Finds the leading eigenvalues of J.

    Args:
      jacobian: J, with B batches.
      k: How many of each kind are asked for, 1 or more; both of a complex pair count.
      kinds: Names of `KINDS`.
      progress: Is told what is being found, at each product.
    """
    count = 0

    def counted(product: Product, what: str) -> Product:
        def product_and_tell(v: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 1
            progress(what)
            return product(v)

        return product_and_tell

    found, right, left = {}, [], []
    for kind in kinds:
        what = KINDS[kind]
        values, vectors = _extreme(counted(jacobian.product, what), jacobian.size, k, kind)
        found[kind] = len(values)
        right += [(kind, *_upper(*pair)) for pair in zip(values, vectors.T, strict=True)]
        if jacobian.num_batches > 1 and len(values):
            product = counted(jacobian.transposed, f"{what}, left")
            values, vectors = _extreme(product, jacobian.size, k, kind)
            left += [_upper(*pair) for pair in zip(values, vectors.T, strict=True)]
    products = counted(jacobian.products, "residuals")
    eigenvalues = [
        _examined(products, value, vector, names, left)
        for value, vector, names in _without_repetition(right)
    ]
    eigenvalues.sort(key=lambda own: -abs(own.value))
    return Spectrum(eigenvalues, found, k, count)


def _extreme(product: Product, size: int, k: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first k eigenvalues of a kind and their unit vectors `[N, k]`; fewer where it fails.

    Arnoldi's vectors are in double precision, whatever that of the products.
    """
    basis = max(4 * k + 1, 20)
    if size <= 2 * basis:  # Arnoldi's method would span nearly the whole space
        matrix = np.stack([product(column) for column in np.eye(size)], axis=1)
        values, vectors = np.linalg.eig(matrix)
        order = np.argsort(-_RANKS[kind](values), kind="stable")[:k]
        return values[order], vectors[:, order]
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=size)
    try:
        values, vectors = eigs(
            operator, k, which=kind, v0=start, ncv=basis, maxiter=_MAX_RESTARTS, tol=TOLERANCE / 3
        )
    except ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
    return values, vectors


_RANKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "LM": np.abs,
    "LR": np.real,
    "SR": lambda values: -values.real,
    "LI": lambda values: np.abs(values.imag),
}


def _upper(value: complex, vector: np.ndarray) -> tuple[complex, np.ndarray]:
    """Returns of a complex pair the one with the positive imaginary part."""
    return (value, vector) if value.imag >= 0 else (value.conjugate(), vector.conj())


def _without_repetition(
    found: Sequence[tuple[str, complex, np.ndarray]],
) -> list[tuple[complex, np.ndarray, tuple[str, ...]]]:
    """Joins what was found as several kinds: the same value with the same vector."""
    joined: list[tuple[complex, np.ndarray, tuple[str, ...]]] = []
    for kind, value, vector in found:
        for place, (other, its_vector, kinds) in enumerate(joined):
            near = abs(value - other) <= 10 * TOLERANCE * abs(other)
            if near and abs(np.vdot(vector, its_vector)) > _SAME_DIRECTION:
                joined[place] = other, its_vector, tuple(dict.fromkeys((*kinds, kind)))
                break
        else:
            joined.append((value, vector, (kind,)))
    return joined


def _examined(
    products: Product,
    value: complex,
    vector: np.ndarray,
    kinds: tuple[str, ...],
    left: Sequence[tuple[complex, np.ndarray]],
) -> Eigenvalue:
    """Computes the residual of an eigenvalue, and its errors where it has a left eigenvector."""
    moved = products(vector.real)  # [B, N]
    if np.any(vector.imag):
        moved = moved + 1j * products(vector.imag)
    norm = np.linalg.norm(moved.mean(0) - value * vector)
    residual = float(norm / abs(value)) if value else float(norm > 0)
    near = [own for own in left if abs(own[0] - value) <= 10 * TOLERANCE * abs(value)]
    if not near:
        return Eigenvalue(complex(value), residual, kinds)
    # Of several close ones, the left vector that goes with v; the others are orthogonal to it.
    x = max((own[1] for own in near), key=lambda own: float(abs(own @ vector)))
    overlap = x @ vector
    of_batches = moved @ x / overlap  # [B]
    root = np.sqrt(len(of_batches))
    error = float(of_batches.real.std(ddof=1) / root), float(of_batches.imag.std(ddof=1) / root)
    return Eigenvalue(complex(value), residual, kinds, error, float(1 / abs(overlap)))
