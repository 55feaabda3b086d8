"""What a few seeds say: an interval for a mean, and how often one method is better than another."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

_NUM_RESAMPLES = 20_000


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Returns a bootstrap interval for the mean of which the values are a sample.

    These are percentiles of the means of resamples, not at (1 - confidence) / 2 but farther out: at
    Phi(-sqrt(n / (n - 1)) t), t being the quantile of Student's distribution with n - 1 degrees of
    freedom. Plain percentiles are too narrow for a few values. No such interval is wider than the
    range of the values, so that with less than 10 values its coverage is below what it says. In
    2,000 draws of normal values it held the mean in 76%, 92% and 95% for n = 3, 5 and 10 (plain
    percentiles: 76%, 82% and 91%).

    Args:
      values: n values.
      confidence: The coverage of the interval with many values, in (0, 1).

    Returns:
      Both ends; None where n < 2, or a value is not finite.

    Reference: Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician
    2015, arXiv 1411.5279: the expanded percentile interval.
    """
    sample = np.asarray(values, np.float64)
    if len(sample) < 2 or not np.isfinite(sample).all():
        return None
    indices = np.random.default_rng(0).integers(len(sample), size=(_NUM_RESAMPLES, len(sample)))
    outer = expanded_level(len(sample), confidence)
    low, high = np.quantile(sample[indices].mean(axis=1), [outer, 1 - outer])
    return float(low), float(high)


def expanded_level(n: int, confidence: float) -> float:
    """Returns the lower of the levels at which `mean_interval` takes percentiles, of n > 1 values."""
    quantile = stats.t.ppf((1 + confidence) / 2, n - 1)
    return float(stats.norm.cdf(-np.sqrt(n / (n - 1)) * quantile))


def probability_of_better(
    own: Sequence[float], other: Sequence[float], higher_is_better: bool
) -> float:
    """Returns how often a score of one method is better than one of another, over all pairs.

    Of equal ones each is better half of the time. This is Mann and Whitney's U over its largest value.

    Args:
      own: n scores.
      other: m scores.
      higher_is_better: Whether a larger score is better.
    """
    differences = np.sign(np.subtract.outer(_ordered(own), _ordered(other)))  # [n, m]
    better = 0.5 + differences.mean() / 2
    return float(better if higher_is_better else 1 - better)


def _ordered(values: Sequence[float]) -> np.ndarray:
    """Returns finite numbers in the same order: the difference of two infinite ones is none."""
    limits = np.finfo(np.float64).max / 4
    return np.clip(np.asarray(values, np.float64), -limits, limits)
