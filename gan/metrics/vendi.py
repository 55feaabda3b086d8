"""The diversity of samples: cheap enough to be measured at every log."""

from typing import NamedTuple

import numpy as np


class Reference(NamedTuple):
    """What is known of real examples, with which samples are compared.

    Attributes:
      width: The square of the kernel's width: half the root mean square distance of a real example to
        the nearest other one.
      effective_number: The effective number of different real examples.
      num_examples: N.
    """

    width: float
    effective_number: float
    num_examples: int


def make_reference(real: np.ndarray) -> Reference:
    """Measures real examples `[N, ...]`, pixels or points."""
    distances = _square_distances(real)
    others = np.where(np.eye(len(real), dtype=bool), np.inf, distances)
    width = float(max(others.min(axis=1).mean() / 4, np.finfo(np.float32).tiny))
    return Reference(width, _effective_number(distances, width), len(real))


def diversity(samples: np.ndarray, reference: Reference) -> float:
    """Computes the effective number of different samples, relative to that of real examples.

    Both numbers are the Vendi score of order 2, N^2 / sum_ij k(x_i, x_j)^2 for a Gaussian kernel k:
    N for examples that have nothing in common, 1 where all are the same. The ratio is 1 for samples
    as diverse as the data, near 0 for a collapsed generator, and above 1 for noise.

    Pasarkar and Dieng, "Cousins of the Vendi Score", AISTATS 2024 (the family of orders q).

    Args:
      samples: `[N, ...]`, pixels or points, as many as the reference is of.
      reference: That of real examples.
    """
    number = _effective_number(_square_distances(samples), reference.width)
    return number / reference.effective_number


def _effective_number(distances: np.ndarray, width: float) -> float:
    return float(len(distances) ** 2 / np.exp(-distances / width).sum())


def _square_distances(x: np.ndarray) -> np.ndarray:
    """Returns the squared distance of every vector to every other, `[N, N]`."""
    x = x.reshape(len(x), -1).astype(np.float64)
    x = x - x.mean(axis=0)  # the sums below then lose fewer digits
    norms = np.square(x).sum(axis=1)
    distances = norms[:, None] + norms - 2 * x @ x.T
    np.fill_diagonal(distances, 0)
    return np.maximum(distances, 0)
