"""Scores of points against the mixture of Gaussians that the data were drawn from."""

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
