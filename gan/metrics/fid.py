"""The Fréchet distance of two sets of vectors, each taken as a Gaussian: on Inception's, the FID."""

import numpy as np

from gan.metrics.metric import METRICS, Metric, Need, Score
from gan.metrics.summary import Moments, Summary


@METRICS.register("fid")
class FID(Metric):
    """The Fréchet distance of all real and all fake feature vectors."""

    needs = Need.VECTORS
    scores = (Score("fid", higher_is_better=False, number_format="z.3f"),)
    order = 1

    def compute(self, real: Summary, fake: Summary) -> dict[str, float]:  # noqa: D102
        return {"fid": frechet_distance(real.moments, fake.moments)}

    def warnings(self, real: Summary, fake: Summary) -> list[str]:  # noqa: D102
        count, features = min(real.moments.count, fake.moments.count), len(real.moments.mean)
        if count > features:
            return []
        warning = f"{count:,} images are too few for a covariance of {features:,} features"
        return [f"{warning}: it has not full rank, and the FID is biased"]


def frechet_distance(a: Moments, b: Moments) -> float:
    """Computes |m_a - m_b|^2 + tr(A + B - 2 (A B)^{1/2}) for means m and covariances A and B.

    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule ...", NeurIPS 2017, eq. 6. The trace
    of (A B)^{1/2} is the sum of the singular values of A^{1/2} B^{1/2}: real and never negative,
    also where a covariance is rank-deficient.
    """
    overlap = np.linalg.svd(_root(a.covariance) @ _root(b.covariance), compute_uv=False).sum()
    shift = a.mean - b.mean
    return float(shift @ shift + np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
