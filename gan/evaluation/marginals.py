"""The Inception Score: sure of each image's class, and all classes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Marginals:
    """Sums over the predictions for a set of images; sets are joined without being kept.

    Attributes:
      count: N.
      total: Sum of p(y|x), `[K]`.
      negentropy: Sum of p(y|x) log p(y|x) over images and classes.
    """

    count: int
    total: np.ndarray
    negentropy: float

    @classmethod
    def of(cls, logits: np.ndarray) -> "Marginals":
        """Of logits `[N, K]`."""
        logits = logits.astype(np.float64)
        logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        probabilities = np.exp(logs)
        return cls(len(logits), probabilities.sum(axis=0), float((probabilities * logs).sum()))

    def join(self, other: "Marginals") -> "Marginals":
        """Of both sets together."""
        return Marginals(
            self.count + other.count, self.total + other.total, self.negentropy + other.negentropy
        )

    @property
    def score(self) -> float:
        """Exp of the mean of KL(p(y|x) || p(y)): from 1 to K."""
        marginal = self.total / self.count
        entropy = -float(np.sum(marginal * np.log(np.maximum(marginal, np.finfo(float).tiny))))
        return float(np.exp(self.negentropy / self.count + entropy))


def inception_score(parts: list[Marginals]) -> tuple[float, float]:
    """Mean and standard deviation over parts of the samples.

    Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016, section 4; there and since,
    ten parts of 5,000.
    """
    scores = [part.score for part in parts]
    return float(np.mean(scores)), float(np.std(scores))
