"""The Inception Score: high where each image is surely of one class, and all classes occur."""

from collections.abc import Sequence

import numpy as np

from gan.metrics.metric import METRICS, Metric, Need, Score
from gan.metrics.summary import Predictions, Summary


@METRICS.register("is")
class InceptionScore(Metric):
    """The Inception Score of all samples, over ten parts."""

    needs = Need.LOGITS
    scores = (
        Score(
            "inception_score",
            higher_is_better=True,
            number_format=".3f",
            std="inception_score_std",
        ),
    )
    order = 3

    def compute(self, real: Summary, fake: Summary) -> dict[str, float]:  # noqa: D102
        mean, std = inception_score(fake.predictions)
        return {"inception_score": mean, "inception_score_std": std}


def inception_score(parts: Sequence[Predictions]) -> tuple[float, float]:
    """Computes the mean and the standard deviation of the score over parts of the samples.

    The score of a part is exp of the mean of KL(p(y|x) || p(y)), from 1 to the number of classes.

    Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016, section 4; there and since,
    ten parts of 5,000.
    """
    scores = [_score(part) for part in parts]
    return float(np.mean(scores)), float(np.std(scores))


def _score(part: Predictions) -> float:
    marginal = part.total / part.count
    entropy = -float(np.sum(marginal * np.log(np.maximum(marginal, np.finfo(float).tiny))))
    return float(np.exp(part.negentropy / part.count + entropy))
