"""Confidence: how many samples the data's classifier takes for one of the classes beyond doubt."""

from gan.metrics.metric import METRICS, Metric, Need, Score
from gan.metrics.summary import Summary

THRESHOLD = 0.9


@METRICS.register("confidence")
class Confidence(Metric):
    """The share of samples of which the likeliest class has a probability of at least 0.9.

    A sample between two classes, or like none, counts as doubtful; so do some real images, whose share
    is the one to compare with. It says nothing of variety.
    """

    needs = Need.DATA_LOGITS
    scores = (Score("confident", higher_is_better=True),)
    order = 5

    def compute(self, real: Summary, fake: Summary) -> dict[str, float]:  # noqa: D102
        return {"confident": float((fake.probabilities >= THRESHOLD).mean())}
