"""Labels in the proportions of a histogram: exact, not drawn at random."""

import numpy as np


def labels_in_proportion(counts: np.ndarray, num_labels: int) -> np.ndarray:
    """Returns labels whose histogram follows another, in all of them and in the first n of them.

    Of the first n labels, class c has n counts[c] / sum(counts) to within less than one; where n is a
    multiple of the sum, exactly. Equal counts have the classes take turns.

    Tijdeman, "The Chairman Assignment Problem", Discrete Mathematics 32, 1980 (the algorithm in the
    proof of Theorem 1): of the classes that may be next without being ahead of their share, the one
    with the earliest deadline.

    Args:
      counts: Integers from 0, at least one of them positive, `[classes]`.
      num_labels: N.

    Returns:
      int32 `[N]`; no class with a count of 0 occurs.
    """
    present = np.flatnonzero(counts)
    if len(present) == 1:
        return np.full(num_labels, present[0], np.int32)
    shares = np.asarray(counts, np.int64)[present]
    shares //= np.gcd.reduce(shares)
    total, slack = int(shares.sum()), 2 * len(shares) - 2
    period = np.empty(min(total, num_labels), np.int64)  # then the same again
    behind = np.zeros(len(shares), np.int64)  # how many labels each class lacks, times total
    for place in range(len(period)):
        behind += shares
        waits = (total - total / slack - behind) / shares
        waits[behind * slack < total] = np.inf
        period[place] = chosen = np.argmin(waits)
        behind[chosen] -= total
    return np.resize(present[period], num_labels).astype(np.int32)
