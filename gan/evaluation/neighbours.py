"""Precision, recall, density and coverage: from the nearest neighbours of feature vectors."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

_BLOCK = 1_000  # rows of distances at a time


def neighbour_scores(
    real: np.ndarray, fake: np.ndarray, ball: int = 3, wide_ball: int = 5
) -> dict[str, float]:
    """How real samples are, and how much of the data they show.

    Around each vector is a ball that reaches to its k-th nearest neighbour in its own set.

    Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models",
    NeurIPS 2019 (k = 3); Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative
    Models", ICML 2020 (k = 5).

    Args:
      real: `[N, D]`, N above `wide_ball`.
      fake: `[M, D]`, M above `ball`.
      ball: k of precision and recall.
      wide_ball: k of density and coverage.

    Returns:
      `precision`, the share of samples in a ball of a real vector; `recall`, the share of real vectors
      in a ball of a sample; `density`, in how many wide balls of real vectors a sample is, over k, 1
      for samples like the data; `coverage`, the share of real vectors with a sample in their ball.
    """
    centre = real.mean(axis=0)  # distances from a matrix product then lose fewer digits
    there, drawn = jnp.asarray(real - centre), jnp.asarray(fake - centre)
    radius, wide_radius = _radii(there, (ball, wide_ball))
    (own_radius,) = _radii(drawn, (ball,))
    inside, wide = [], []
    recalled = covered = jnp.zeros(len(real), bool)
    for begin, distances in _distances(drawn, there):  # [block, N]
        inside.append((distances <= radius).any(axis=1))
        wide.append((distances <= wide_radius).sum(axis=1))
        own = own_radius[begin : begin + len(distances), None]
        recalled |= (distances <= own).any(axis=0)
        covered |= (distances <= wide_radius).any(axis=0)
    return {
        "precision": float(jnp.concatenate(inside).mean()),
        "recall": float(recalled.mean()),
        "density": float(jnp.concatenate(wide).mean() / wide_ball),
        "coverage": float(covered.mean()),
    }


def _radii(vectors: jax.Array, balls: tuple[int, ...]) -> list[jax.Array]:
    """Squared distances of each vector to its k-th nearest other one, `[N]` for each k."""
    nearest = [
        _nearest(distances, begin, max(balls)) for begin, distances in _distances(vectors, vectors)
    ]
    return [jnp.concatenate(nearest)[:, k - 1] for k in balls]


@partial(jax.jit, static_argnums=2)
def _nearest(distances: jax.Array, begin: int, count: int) -> jax.Array:
    """The smallest of each row, in order, but for that to itself: `[block, count]`."""
    block, size = distances.shape
    itself = jnp.arange(size) == begin + jnp.arange(block)[:, None]
    return -jax.lax.top_k(-jnp.where(itself, jnp.inf, distances), count)[0]


def _distances(a: jax.Array, b: jax.Array) -> Iterator[tuple[int, jax.Array]]:
    """Blocks of rows of the squared distances of a to b, and where they begin."""
    for begin in range(0, len(a), _BLOCK):
        yield begin, _square_distances(a[begin : begin + _BLOCK], b)


@jax.jit
def _square_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    norms = jnp.square(a).sum(axis=1)[:, None] + jnp.square(b).sum(axis=1)
    products = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(norms - 2 * products, 0)
