"""The kernel distance of two sets of vectors: on Inception's, the KID."""

import math

import numpy as np

from gan.metrics.metric import METRICS, Metric, Need, Score
from gan.metrics.summary import Summary, paired_vectors


@METRICS.register("kid")
class KID(Metric):
    """The kernel distance of the first real and fake feature vectors, as many of each."""

    needs = Need.VECTORS
    scores = (Score("kid", higher_is_better=False, number_format=".4g", std="kid_std"),)
    order = 2

    def compute(self, real: Summary, fake: Summary) -> dict[str, float]:  # noqa: D102
        mean, std = kernel_inception_distance(*paired_vectors(real, fake))
        return {"kid": mean} if math.isnan(std) else {"kid": mean, "kid_std": std}


def kernel_inception_distance(
    real: np.ndarray,
    fake: np.ndarray,
    num_subsets: int = 100,
    subset_size: int = 1_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Estimates the squared maximum mean discrepancy for the kernel (x.y / D + 1)^3, unbiased.

    Binkowski et al., "Demystifying MMD GANs", ICLR 2018, sections 4 and 5.

    Args:
      real: `[N, D]`.
      fake: `[M, D]`.
      num_subsets: Number of pairs of random subsets that the estimate is the mean of.
      subset_size: Size of each subset; at most N and M are taken.
      seed: Seed of the choice of subsets.

    Returns:
      The mean over the subsets, which may be negative, and their standard deviation; NaN where each
      subset would be the whole set.
    """
    size = min(subset_size, len(real), len(fake))
    if size == len(real) == len(fake):
        return _discrepancy(real.astype(np.float64), fake.astype(np.float64)), math.nan
    rng = np.random.default_rng(seed)
    estimates = [
        _discrepancy(
            real[rng.choice(len(real), size, replace=False)].astype(np.float64),
            fake[rng.choice(len(fake), size, replace=False)].astype(np.float64),
        )
        for _ in range(num_subsets)
    ]
    return float(np.mean(estimates)), float(np.std(estimates))


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        base = a @ b.T / a.shape[1] + 1
        return base * base * base

    def mean_over_pairs(a: np.ndarray) -> float:
        """Averages the kernel over all pairs of different vectors."""
        products = kernel(a, a)
        return float((products.sum() - np.trace(products)) / (len(a) * (len(a) - 1)))

    return mean_over_pairs(x) + mean_over_pairs(y) - 2 * float(kernel(x, y).mean())
