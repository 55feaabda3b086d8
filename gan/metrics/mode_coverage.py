"""Coverage of the modes of the mixture of Gaussians that toy data are drawn from."""

import numpy as np

from gan.data.dataset import Mixture
from gan.metrics.metric import METRICS, Metric, Need, Score
from gan.metrics.summary import Summary


@METRICS.register("mode_coverage")
class ModeCoverage(Metric):
    """The exact comparison of all samples with the mixture."""

    needs = Need.MIXTURE
    scores = (
        Score("kl_to_uniform", higher_is_better=False),
        Score("modes_covered", higher_is_better=True, number_format=".0f"),
        Score("high_quality", higher_is_better=True),
    )
    order = 5

    def compute(self, real: Summary, fake: Summary) -> dict[str, float]:  # noqa: D102
        assert fake.points is not None and real.mixture is not None
        return mode_coverage(fake.points, real.mixture)


def mode_coverage(points: np.ndarray, mixture: Mixture) -> dict[str, float]:
    """Measures how well points cover a mixture of Gaussians.

    A point is of high quality if it is within three standard deviations of the nearest mean
    (Srivastava et al., "VEEGAN", NeurIPS 2017).

    Args:
      points: `[N, D]`.
      mixture: The true distribution.

    Returns:
      `modes_covered`, the number of modes with a point of high quality; `high_quality`, the share of
      such points in [0, 1]; `kl_to_uniform`, KL(share of each mode || uniform) in nats over the
      points of high quality, infinite where there are none.
    """
    distance = np.linalg.norm(points[:, None] - mixture.means, axis=-1)  # [N, modes]
    good = distance.min(axis=1) <= 3 * mixture.std
    counts = np.bincount(distance.argmin(axis=1)[good], minlength=len(mixture.means))
    shares = counts[counts > 0] / max(1, counts.sum())
    divergence = float(np.sum(shares * np.log(shares * len(counts)))) if good.any() else np.inf
    return {
        "modes_covered": float(np.sum(counts > 0)),
        "high_quality": float(good.mean()),
        "kl_to_uniform": divergence,
    }
