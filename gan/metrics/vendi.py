"""The diversity of samples: cheap enough to be measured at every log."""

import numpy as np


def diversity(samples: np.ndarray, real: np.ndarray) -> float:
    """Computes the effective number of different samples, relative to that of real examples.

    Both numbers are the Vendi score of order 2, N^2 / sum_ij k(x_i, x_j)^2 for a Gaussian kernel k:
    N for examples that have nothing in common, 1 where all are the same. The kernel's width is half
    the root mean square distance of a real example to the nearest other one. The ratio is 1 for
    samples as diverse as the data, near 0 for a collapsed generator, and above 1 for noise.

    Pasarkar and Dieng, "Cousins of the Vendi Score", AISTATS 2024 (the family of orders q).

    Args:
      samples: `[N, ...]`, pixels or points.
      real: `[N, ...]`.
    """
    fake_distances, real_distances = _square_distances(samples), _square_distances(real)
    others = np.where(np.eye(len(real), dtype=bool), np.inf, real_distances)
    width = max(others.min(axis=1).mean() / 4, np.finfo(np.float32).tiny)  # squared

    def effective_number(distances: np.ndarray) -> float:
        return len(distances) ** 2 / np.exp(-distances / width).sum()

    return float(effective_number(fake_distances) / effective_number(real_distances))


def _square_distances(x: np.ndarray) -> np.ndarray:
    """Returns the squared distance of every vector to every other, `[N, N]`."""
    x = x.reshape(len(x), -1).astype(np.float64)
    x = x - x.mean(axis=0)  # the sums below then lose fewer digits
    norms = np.square(x).sum(axis=1)
    distances = norms[:, None] + norms - 2 * x @ x.T
    np.fill_diagonal(distances, 0)
    return np.maximum(distances, 0)
