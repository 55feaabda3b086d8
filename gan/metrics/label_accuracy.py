"""Label accuracy: how many samples are of the class that the generator was asked for."""

from gan.metrics.metric import METRICS, Metric, Need, Score
from gan.metrics.summary import Summary


@METRICS.register("label_accuracy")
class LabelAccuracy(Metric):
    """The share of samples that the data's classifier puts into the class they were drawn of.

    Distances between sets of samples do not see it: with labels mixed up they are the same.
    """

    needs = Need.LABELS
    scores = (Score("label_accuracy", higher_is_better=True),)
    order = 5

    def compute(self, real: Summary, fake: Summary) -> dict[str, float]:  # noqa: D102
        assert fake.labels is not None
        return {"label_accuracy": float((fake.classes == fake.labels).mean())}
