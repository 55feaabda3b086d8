"""The kernel distance of two sets of vectors: on Inception's, the KID."""

import math

import numpy as np


def kernel_distance(
    real: np.ndarray,
    fake: np.ndarray,
    num_subsets: int = 100,
    subset_size: int = 1_000,
    seed: int = 0,
) -> tuple[float, float]:
    """The squared maximum mean discrepancy for the kernel (x.y / D + 1)^3, unbiased.

    Binkowski et al., "Demystifying MMD GANs", ICLR 2018, sections 4 and 5.

    Args:
      real: `[N, D]`.
      fake: `[M, D]`.
      num_subsets: Of how many pairs of random subsets it is the mean.
      subset_size: Of each; at most N and M are taken.
      seed: Of the subsets.

    Returns:
      The mean over the subsets, which may be negative, and their standard deviation; NaN where each
      would be all there is.
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

    def between_others(a: np.ndarray) -> float:
        products = kernel(a, a)
        return float((products.sum() - np.trace(products)) / (len(a) * (len(a) - 1)))

    return between_others(x) + between_others(y) - 2 * float(kernel(x, y).mean())
