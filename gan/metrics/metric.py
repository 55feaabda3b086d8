"""The interface of a metric: all that is known of one is in its class."""

import abc
import enum
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from gan import parts
from gan.errors import RunError, UsageError, describe
from gan.metrics.summary import Summary
from gan.registry import OURS, Registry
from gan.specs import parse


class Need(enum.Enum):
    """An input of metrics that is not always there."""

    VECTORS = "feature vectors"
    LOGITS = "class logits"
    DATA_LOGITS = "logits of the data's own classes"
    LABELS = "samples of known classes"
    MIXTURE = "points from a known mixture"
    PLAYERS = "the players of a run"


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


class AnyMetric(abc.ABC):
    """What all metrics have: `Metric` is of samples, `gan.metrics.game_metric.GameMetric` of players.

    Attributes:
      needs: The input without which it cannot be computed.
      scores: Its numbers; the first one decides which checkpoint is the best.
      order: The place of its columns in the table: ascending, then by name.
      by_default: Whether it is computed where no metrics are named.
    """

    needs: ClassVar[Need]
    scores: ClassVar[tuple[Score, ...]]
    order: ClassVar[int] = 100
    by_default: ClassVar[bool] = True


class Metric(AnyMetric):
    """A comparison of samples with real examples, or with the distribution that these come from."""

    @abc.abstractmethod
    def compute(self, real: Summary, fake: Summary) -> dict[str, float]:
        """Computes the scores, and their standard deviations, by name."""

    def warnings(self, real: Summary, fake: Summary) -> list[str]:
        """Returns reasons, each a line, not to rely on the scores."""
        return []


METRICS: Registry[AnyMetric] = Registry("metric", AnyMetric, needs=("needs", "scores"))


def choose_metrics(
    specs: Iterable[str] | None, inputs: Collection[Need], source: str
) -> dict[str, AnyMetric]:
    """Returns metrics by name, in the order of the table.

    Args:
      specs: Specs of the metrics to return; None stands for all that suit the inputs, but for those
        that are only computed where they are named.
      inputs: The inputs that there are.
      source: Their origin, for messages.

    Raises:
      UsageError: for a metric that is unknown, is named twice in two ways, or needs another input.
    """
    known = _all_metrics()
    suitable = {name: metric for name, metric in known.items() if metric.needs in inputs}
    if specs is None:
        return {name: metric for name, metric in suitable.items() if metric.by_default}
    named: dict[str, str] = {}
    for spec in specs:
        metric, name = METRICS.build(spec), parse(spec)[0].name  # refuses what is unknown
        if name not in suitable:
            raise UsageError(
                f"metric {name!r} needs {metric.needs.value}, and {source} has none; accepted: "
                f"{', '.join(suitable)}"
            )
        if named.setdefault(name, spec.strip()) != spec.strip():
            raise UsageError(f"metric {name!r} is named twice: {named[name]} and {spec.strip()}")
    return {name: METRICS.build(named[name]) for name in suitable if name in named}


def check_scores(
    name: str, metric: AnyMetric, compute: Callable[[], Mapping[str, float]]
) -> dict[str, float]:
    """Computes the scores of a metric, as Python's floats.

    Args:
      name: Its name.
      metric: The metric.
      compute: Computes its scores.

    Raises:
      RunError: for another result than its class says, and where it raises, with its place if it is
        someone's own.
    """
    needed = {score.name for score in metric.scores}
    accepted = needed | {score.std for score in metric.scores}  # a deviation may be unknown
    try:
        scores = {key: float(value) for key, value in compute().items()}
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


def score_names(metrics: Mapping[str, AnyMetric]) -> set[str]:
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


def _all_metrics() -> dict[str, AnyMetric]:
    metrics = {name: METRICS.build(name) for name in METRICS}  # sorted by name
    names = [score.name for metric in metrics.values() for score in metric.scores]
    for name, metric in metrics.items():
        if not isinstance(metric.needs, Need):
            raise UsageError(f"metric {name!r}: needs must be a Need, given {metric.needs!r}")
        for score in metric.scores:
            if names.count(score.name) > 1:
                raise UsageError(f"metric {name!r}: its score {score.name!r} is another's too")
    return dict(sorted(metrics.items(), key=lambda item: item[1].order))
