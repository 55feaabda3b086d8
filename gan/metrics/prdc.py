"""Precision, recall, density and coverage, from the nearest neighbours of feature vectors."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gan.metrics.metric import METRICS, Metric, Need, Score
from gan.metrics.summary import Summary, paired_vectors

_BLOCK = 1_000  # rows of distances at a time


@METRICS.register("prdc")
class PRDC(Metric):
    """The four scores of the first real and fake feature vectors, as many of each."""

    needs = Need.VECTORS
    scores = (
        Score("precision", higher_is_better=True),
        Score("recall", higher_is_better=True),
        Score("density", higher_is_better=True),
        Score("coverage", higher_is_better=True),
    )
    order = 4

    def compute(self, real: Summary, fake: Summary) -> dict[str, float]:  # noqa: D102
        return prdc(*paired_vectors(real, fake))


def prdc(real: np.ndarray, fake: np.ndarray, ball: int = 3, wide_ball: int = 5) -> dict[str, float]:
    """Measures how realistic samples are, and how much of the data they cover.

    Each vector is the centre of a ball that reaches to its k-th nearest neighbour in its own set.

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
      in a ball of a sample; `density`, the mean number of wide balls of real vectors that a sample is
      in, over k: 1 for samples like the data; `coverage`, the share of real vectors with a sample in
      their wide ball.
    """
    centre = real.mean(axis=0)  # distances from a matrix product then lose fewer digits
    x, y = jnp.asarray(real - centre), jnp.asarray(fake - centre)
    radius, wide_radius = _radii(x, (ball, wide_ball))
    (fake_radius,) = _radii(y, (ball,))
    precise, num_balls = [], []
    recalled = covered = jnp.zeros(len(real), bool)
    for begin, distances in _distances(y, x):  # [block, N]
        precise.append((distances <= radius).any(axis=1))
        num_balls.append((distances <= wide_radius).sum(axis=1))
        block_radius = fake_radius[begin : begin + len(distances), None]
        recalled |= (distances <= block_radius).any(axis=0)
        covered |= (distances <= wide_radius).any(axis=0)
    return {
        "precision": float(jnp.concatenate(precise).mean()),
        "recall": float(recalled.mean()),
        "density": float(jnp.concatenate(num_balls).mean() / wide_ball),
        "coverage": float(covered.mean()),
    }


def _radii(vectors: jax.Array, balls: tuple[int, ...]) -> list[jax.Array]:
    """Returns the squared distance of each vector to its k-th nearest other one, `[N]` for each k."""
    nearest = [
        _nearest(distances, begin, max(balls)) for begin, distances in _distances(vectors, vectors)
    ]
    return [jnp.concatenate(nearest)[:, k - 1] for k in balls]


@partial(jax.jit, static_argnums=2)
def _nearest(distances: jax.Array, begin: int, count: int) -> jax.Array:
    """Returns the smallest distances of each row, ascending, without that of a vector to itself.

    Args:
      distances: `[block, N]`, squared.
      begin: The vector of the first row.
      count: Number of distances, `[block, count]`.
    """
    block, size = distances.shape
    itself = jnp.arange(size) == begin + jnp.arange(block)[:, None]
    return -jax.lax.top_k(-jnp.where(itself, jnp.inf, distances), count)[0]


def _distances(a: jax.Array, b: jax.Array) -> Iterator[tuple[int, jax.Array]]:
    """Yields blocks of rows of the squared distances of a to b, each with its first row."""
    for begin in range(0, len(a), _BLOCK):
        yield begin, _square_distances(a[begin : begin + _BLOCK], b)


@jax.jit
def _square_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    norms = jnp.square(a).sum(axis=1)[:, None] + jnp.square(b).sum(axis=1)
    products = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(norms - 2 * products, 0)
