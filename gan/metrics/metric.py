"""The interface of a metric: all that is known of one is in its class."""

import abc
import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from gan import parts
from gan.errors import RunError, UsageError, describe
from gan.metrics.summary import Summary
from gan.registry import OURS, Registry


class Need(enum.Enum):
    """An input of metrics that not every dataset, or network of features, can give."""

    VECTORS = "feature vectors"
    LOGITS = "class logits"
    MIXTURE = "points from a known mixture"


@dataclass(frozen=True)
class Score:
    """One number of a metric.

    Attributes:
      name: Its key in results and its column in the table; `eval/<name>` during training.
      higher_is_better: Whether a larger value means better samples.
      number_format: Format specification of the number in the table.
      std: Name of the score that is its standard deviation, shown beside it.
    """

    name: str
    higher_is_better: bool
    number_format: str = ".4f"
    std: str | None = None


class Metric(abc.ABC):
    """A comparison of samples with real examples, or with the distribution that these come from.

    Attributes:
      needs: The input without which it cannot be computed.
      scores: Its numbers; the first one decides which checkpoint is the best.
      order: The place of its columns in the table: ascending, then by name.
    """

    needs: ClassVar[Need]
    scores: ClassVar[tuple[Score, ...]]
    order: ClassVar[int] = 100

    @abc.abstractmethod
    def compute(self, real: Summary, fake: Summary) -> dict[str, float]:
        """Computes the scores, and their standard deviations, by name."""

    def warnings(self, real: Summary, fake: Summary) -> list[str]:
        """Returns reasons, each a line, not to rely on the scores."""
        return []


METRICS: Registry[Metric] = Registry("metric", Metric, needs=("needs", "scores"))


def choose_metrics(
    names: Iterable[str] | None, inputs: Collection[Need], source: str
) -> dict[str, Metric]:
    """Returns metrics by name, in the order of the table.

    Args:
      names: The metrics to return; None stands for all that suit the inputs.
      inputs: The inputs that there are.
      source: Their origin, for messages.

    Raises:
      UsageError: for a metric that is unknown or needs another input.
    """
    suitable = {name: metric for name, metric in _all_metrics().items() if metric.needs in inputs}
    if names is None:
        return suitable
    names = list(names)
    for name in names:
        if name not in suitable:
            needs = METRICS.maker(name)().needs  # refuses a name that is unknown
            raise UsageError(
                f"metric {name!r} needs {needs.value}, and {source} has none; accepted: "
                f"{', '.join(suitable)}"
            )
    return {name: metric for name, metric in suitable.items() if name in names}


def compute(name: str, metric: Metric, real: Summary, fake: Summary) -> dict[str, float]:
    """Computes the scores of a metric, as Python's floats.

    Raises:
      RunError: for another result than its class says, and where it raises, with its place if it is
        someone's own.
    """
    needed = {score.name for score in metric.scores}
    accepted = needed | {score.std for score in metric.scores}  # a deviation may be unknown
    try:
        scores = {key: float(value) for key, value in metric.compute(real, fake).items()}
    except Exception as error:
        if (where := parts.reason(error)) is None and METRICS.origin(name) == OURS:
            raise
        raise RunError(f"metric {name!r}: {where or describe(error)}") from error
    if not needed <= set(scores) <= accepted:
        raise RunError(
            f"metric {name!r} must return {', '.join(sorted(needed))}, and returned "
            f"{', '.join(sorted(scores)) or 'nothing'}"
        )
    return scores


def deciding_scores() -> list[Score]:
    """Returns the score of each metric by which checkpoints are compared."""
    return [metric.scores[0] for metric in _all_metrics().values()]


def score_names(metrics: Mapping[str, Metric]) -> set[str]:
    """Returns the names of all scores of some metrics."""
    return {score.name for metric in metrics.values() for score in metric.scores}


def find_score(name: str) -> Score | None:
    """Returns the score of a name; None where no metric has it."""
    scores = (score for metric in _all_metrics().values() for score in metric.scores)
    return next((score for score in scores if score.name == name), None)


def higher_is_better(name: str) -> bool | None:
    """Returns whether a larger value of a score is better; None where no metric has such a score."""
    score = find_score(name)
    return None if score is None else score.higher_is_better


def _all_metrics() -> dict[str, Metric]:
    metrics = {name: METRICS.build(name) for name in METRICS}  # sorted by name
    names = [score.name for metric in metrics.values() for score in metric.scores]
    for name, metric in metrics.items():
        if not isinstance(metric.needs, Need):
            raise UsageError(f"metric {name!r}: needs must be a Need, given {metric.needs!r}")
        for score in metric.scores:
            if names.count(score.name) > 1:
                raise UsageError(f"metric {name!r}: its score {score.name!r} is another's too")
    return dict(sorted(metrics.items(), key=lambda item: item[1].order))
