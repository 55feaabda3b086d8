"""The kernel distance of two sets of vectors: on Inception's, the KID."""

import math

import numpy as np

from gan.metrics.metric import METRICS, Metric, Need, Score
from gan.metrics.summary import Summary, paired_vectors

_ROWS = 1_024  # of the kernel's matrix at a time: the whole of 10,000 vectors takes 800 MB


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
    whole = size == len(real) == len(fake)
    rng = np.random.default_rng(seed)
    in_real, in_fake = (np.zeros([len(x), 1 if whole else num_subsets]) for x in (real, fake))
    for subset in range(in_real.shape[1]):
        for members in (in_real, in_fake):
            members[rng.choice(len(members), size, replace=False), subset] = 1
    estimates = (
        _mean_over_pairs(real, in_real, size)
        + _mean_over_pairs(fake, in_fake, size)
        - 2 * _sums(real, fake, in_real, in_fake) / size**2
    )
    return float(np.mean(estimates)), math.nan if whole else float(np.std(estimates))


def _mean_over_pairs(x: np.ndarray, members: np.ndarray, size: int) -> np.ndarray:
    """Averages the kernel over all pairs of different vectors of each subset, `[S]`."""
    norms = np.square(x.astype(np.float64)).sum(axis=1)
    same = (norms / x.shape[1] + 1) ** 3 @ members
    return (_sums(x, x, members, members) - same) / (size * (size - 1))


def _sums(x: np.ndarray, y: np.ndarray, in_x: np.ndarray, in_y: np.ndarray) -> np.ndarray:
    """Sums the kernel over all pairs of each subset.

    Each pair's kernel is computed once, and not for each subset that has it.

    Args:
      x: `[N, D]`.
      y: `[M, D]`.
      in_x: Whether each of x is in each subset, 0 or 1, `[N, S]`.
      in_y: The same of y, `[M, S]`.

    Returns:
      The sums, `[S]`.
    """
    total = np.zeros(in_x.shape[1])
    columns = y.astype(np.float64).T
    for begin in range(0, len(x), _ROWS):
        rows = slice(begin, begin + _ROWS)
        base = x[rows].astype(np.float64) @ columns / x.shape[1] + 1
        total += (in_x[rows] * (base * base * base @ in_y)).sum(axis=0)
    return total
