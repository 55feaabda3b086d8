"""Which checkpoints are kept. What no rule keeps is deleted, the newest never."""

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gan.specs import Registry

Metrics = Mapping[str, float]


class Retention(abc.ABC):
    """A rule by which checkpoints are kept."""

    @abc.abstractmethod
    def keep(self, saved: Mapping[int, Metrics]) -> set[int]:
        """Which steps to keep, of those saved and their metrics."""


RETENTION: Registry[Retention] = Registry("rule of retention", Retention)


@RETENTION.register("latest")
@dataclass(frozen=True)
class Latest(Retention):
    """The newest ones.

    Attributes:
      count: How many.
    """

    count: int = 3

    def __post_init__(self) -> None:
        _at_least_one("count", self.count)

    def keep(self, saved: Mapping[int, Metrics]) -> set[int]:  # noqa: D102
        return set(sorted(saved)[-self.count :])


@RETENTION.register("every")
@dataclass(frozen=True)
class Every(Retention):
    """Those whose step divides by a number, for ever.

    Attributes:
      steps: That number.
    """

    steps: int

    def __post_init__(self) -> None:
        _at_least_one("steps", self.steps)

    def keep(self, saved: Mapping[int, Metrics]) -> set[int]:  # noqa: D102
        return {step for step in saved if step % self.steps == 0}


@RETENTION.register("best")
@dataclass(frozen=True)
class Best(Retention):
    """Those with the best value of a metric; of equal ones the earlier.

    A checkpoint has the metrics that were logged or evaluated at its own step: one without the
    metric, or where it is not finite, does not compete.

    Attributes:
      metric: Its name, as in `metrics.jsonl`.
      count: How many.
      largest: Whether more is better.
    """

    metric: str
    count: int = 1
    largest: bool = False

    def __post_init__(self) -> None:
        _at_least_one("count", self.count)

    def keep(self, saved: Mapping[int, Metrics]) -> set[int]:  # noqa: D102
        sign = -1 if self.largest else 1
        scores = [
            (sign * metrics[self.metric], step)
            for step, metrics in saved.items()
            if math.isfinite(metrics.get(self.metric, math.nan))
        ]
        return {step for _, step in sorted(scores)[: self.count]}


def kept(rules: Sequence[Retention], saved: Mapping[int, Metrics]) -> set[int]:
    """The steps that at least one rule keeps, and the newest."""
    return {max(saved)}.union(*(rule.keep(saved) for rule in rules)) if saved else set()


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, given {value}")
