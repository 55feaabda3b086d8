"""Scores of samples: against a distribution that is known, and against real examples."""

import numpy as np

from gan.data.dataset import Mixture


def mixture_scores(points: np.ndarray, mixture: Mixture) -> dict[str, float]:
    """How well points cover a mixture of Gaussians.

    A point is of high quality if it is within three standard deviations of the nearest mean
    (Srivastava et al., "VEEGAN", NeurIPS 2017).

    Args:
      points: `[N, D]`.
      mixture: The true distribution.

    Returns:
      `modes_covered`, how many modes have a point of high quality; `high_quality`, the share of
      such points; `kl_to_uniform`, KL(share of each mode || uniform) in nats over the points of
      high quality, infinite where there are none.
    """
    distance = np.linalg.norm(points[:, None] - mixture.means, axis=-1)  # [N, modes]
    good = distance.min(axis=1) <= 3 * mixture.std
    counts = np.bincount(distance.argmin(axis=1)[good], minlength=len(mixture.means))
    share = counts[counts > 0] / max(1, counts.sum())
    divergence = float(np.sum(share * np.log(share * len(counts)))) if good.any() else np.inf
    return {
        "modes_covered": float(np.sum(counts > 0)),
        "high_quality": float(good.mean()),
        "kl_to_uniform": divergence,
    }


def frechet_distance(samples: np.ndarray, real: np.ndarray) -> float:
    """The distance of two sets of vectors, each taken as one Gaussian.

    |mean difference|^2 + tr(A + B - 2 (A B)^{1/2}) for the covariances A and B. On the features of
    an Inception network this is the FID (Heusel et al., NeurIPS 2017); on pixels it is not, and
    says only how well means and covariances agree.

    Args:
      samples: `[N, D]`.
      real: `[M, D]`.
    """
    samples, real = samples.astype(np.float64), real.astype(np.float64)
    a, b = np.cov(samples, rowvar=False), np.cov(real, rowvar=False)
    # tr (A B)^{1/2} is that of the symmetric A^{1/2} B A^{1/2}, and A^{1/2} B A^{1/2} = R R^T.
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    inner = np.linalg.eigvalsh(root @ b @ root)
    overlap = np.sqrt(np.maximum(inner, 0)).sum()
    shift = samples.mean(0) - real.mean(0)
    return float(shift @ shift + np.trace(a) + np.trace(b) - 2 * overlap)


def diversity(samples: np.ndarray, real: np.ndarray) -> float:
    """How many different things N samples show, over how many N real examples do.

    Each number is the Vendi score of order 2, N^2 / sum_ij k(x_i, x_j)^2 for a Gaussian kernel k:
    N for samples that have nothing in common, 1 where all are the same. The kernel's width is half
    the root mean square distance of a real example to the nearest other one: what is nearer than
    that to something else counts for less. 1 is as diverse as the data; towards 0 the generator has
    collapsed; noise is more diverse than data.

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
    """Of every vector to every other, `[N, N]`."""
    x = x.reshape(len(x), -1).astype(np.float64)
    x = x - x.mean(axis=0)  # the sums below then lose fewer digits
    norms = np.square(x).sum(axis=1)
    distances = norms[:, None] + norms - 2 * x @ x.T
    np.fill_diagonal(distances, 0)
    return np.maximum(distances, 0)
