"""Rules by which checkpoints are kept: one that no rule keeps is deleted, the newest never.

Orbax's `BestN` cannot say the same as `best`: it keeps the later of equal checkpoints, and keeps those
that lack the metric while there are few.
"""

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from gan.argument_bounds import AtLeast, BoundedFields
from gan.metrics import higher_is_better
from gan.registry import Registry

Metrics = Mapping[str, float]


_HIGHER_IS_BETTER = ("diversity", "images_per_second")  # of the metrics that are no scores


class Retention(BoundedFields, abc.ABC):
    """A rule by which checkpoints are kept."""

    @property
    def needed_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that the rule compares."""
        return ()

    @abc.abstractmethod
    def keep(self, saved: Mapping[int, Metrics]) -> set[int]:
        """Returns the steps to keep, of those saved with their metrics."""


RETENTION: Registry[Retention] = Registry("rule of retention", Retention)


@RETENTION.register("latest")
@dataclass(frozen=True)
class Latest(Retention):
    """The newest checkpoints.

    Attributes:
      count: Number of checkpoints.
    """

    count: Annotated[int, AtLeast(1)] = 3

    def keep(self, saved: Mapping[int, Metrics]) -> set[int]:  # noqa: D102
        return set(sorted(saved)[-self.count :])


@RETENTION.register("every")
@dataclass(frozen=True)
class Every(Retention):
    """Checkpoints at the multiples of a number of steps, for ever.

    Attributes:
      steps: That number.
    """

    steps: Annotated[int, AtLeast(1)]

    def keep(self, saved: Mapping[int, Metrics]) -> set[int]:  # noqa: D102
        return {step for step in saved if step % self.steps == 0}


@RETENTION.register("best")
@dataclass(frozen=True)
class Best(Retention):
    """Checkpoints with the best value of a metric; of equal ones the earlier.

    A checkpoint has the metrics that were logged or evaluated at its own step: one without the
    metric, or where it is not finite, does not compete.

    Attributes:
      metric: Its name, as in `metrics.jsonl`.
      count: Number of checkpoints.
      largest: Whether more is better; None is what the metric itself says. More is better of scores
        that say so, of the diversity and the speed, and less of everything else.
    """

    metric: str
    count: Annotated[int, AtLeast(1)] = 1
    largest: bool | None = None

    @property
    def needed_metrics(self) -> tuple[str, ...]:  # noqa: D102
        return (self.metric,)

    def keep(self, saved: Mapping[int, Metrics]) -> set[int]:  # noqa: D102
        largest = self.largest
        if largest is None:
            score = higher_is_better(self.metric.removeprefix("eval/"))
            largest = self.metric in _HIGHER_IS_BETTER if score is None else score
        scores = [
            (-metrics[self.metric] if largest else metrics[self.metric], step)
            for step, metrics in saved.items()
            if math.isfinite(metrics.get(self.metric, math.nan))
        ]
        return {step for _, step in sorted(scores)[: self.count]}


def steps_to_keep(rules: Sequence[Retention], saved: Mapping[int, Metrics]) -> set[int]:
    """Returns the steps that at least one rule keeps, and the newest."""
    return {max(saved)}.union(*(rule.keep(saved) for rule in rules)) if saved else set()
