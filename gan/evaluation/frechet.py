"""The Frechet distance of two sets of vectors, each taken as a Gaussian: on Inception's, the FID."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Of a set of vectors, in float64; sets are joined without being kept.

    Attributes:
      count: N.
      mean: `[D]`.
      scatter: Sum over the set of (x - mean)(x - mean)^T, `[D, D]`.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> "Moments":
        """Of vectors `[N, D]`, N at least 1."""
        vectors = vectors.astype(np.float64)
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        return cls(len(vectors), mean, centred.T @ centred)

    def join(self, other: "Moments") -> "Moments":
        """Of both sets together (Chan, Golub and LeVeque, 1979: without cancellation)."""
        count = self.count + other.count
        shift = other.mean - self.mean
        between = np.outer(shift, shift) * (self.count * other.count / count)
        mean = self.mean + shift * (other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased, `[D, D]`; its rank is at most N - 1."""
        return self.scatter / max(1, self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(A + B - 2 (A B)^{1/2}) for means m and covariances A and B.

    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule ...", NeurIPS 2017, eq. 6. The trace
    of (A B)^{1/2} is the sum of the singular values of A^{1/2} B^{1/2}: real and never negative,
    also where a covariance has not full rank.
    """
    overlap = np.linalg.svd(_root(a.covariance) @ _root(b.covariance), compute_uv=False).sum()
    shift = a.mean - b.mean
    return float(shift @ shift + np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
