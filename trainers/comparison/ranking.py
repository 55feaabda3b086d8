"""What a comparison found of each method: its learning rate, its costs, and its scores over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gan.errors import UsageError
from gan.metrics.metric import Score
from gan.trainers.comparison.matching import Match, common_cost, score_at
from gan.trainers.comparison.methods import Method, is_usual
from gan.trainers.comparison.runs import Outcome
from gan.trainers.comparison.statistics import mean_interval, probability_of_better


@dataclass(frozen=True)
class MethodResult:
    """What was found of a method.

    Attributes:
      method: The method.
      rate: Its best learning rate; None where it takes none.
      at_edge: Whether that is the smallest or the largest of the grid, and a better one may lie beyond.
      tuning: The outcomes of its runs for tuning.
      reported: The outcomes of its reported runs, one for each seed.
      gradients: Gradients that one step computes; None where its dynamics does not say.
      seconds: Seconds that one step takes; None where they were not measured.
    """

    method: Method
    rate: float | None
    at_edge: bool
    tuning: Sequence[Outcome]
    reported: Sequence[Outcome]
    gradients: int | None
    seconds: float | None

    @property
    def num_steps(self) -> int:
        """The length of a reported run."""
        return self.reported[0].run.config.num_steps

    def cost_of_step(self, match: Match) -> float | None:
        """Returns what a step costs; None where that is not known."""
        return {"steps": 1.0, "gradients": self.gradients, "seconds": self.seconds}[match]

    def scores_at(self, step: float, score: Score) -> list[float]:
        """Returns the score of each reported run at a step; see `matching.score_at`."""
        return [
            score_at(step, outcome.run.steps, scores_along(outcome, score))
            for outcome in self.reported
        ]

    def is_scored_by(self, score: Score) -> bool:
        """Returns whether any of its reported runs has the score."""
        along = (scores for outcome in self.reported for scores in outcome.along.values())
        return any(score.name in scores for scores in along)

    def scores_of_last_iterate(self, score: Score) -> list[float]:
        """Returns the score of each reported run's last iterate, at its end."""
        return [
            _or_worst(outcome.last_iterate.get(score.name, math.nan), score)
            for outcome in self.reported
        ]


def scores_along(outcome: Outcome, score: Score) -> list[float]:
    """Returns a run's scores at its `steps`; the worst where it has none, as after it failed."""
    return [
        _or_worst(outcome.along.get(step, {}).get(score.name, math.nan), score)
        for step in outcome.run.steps
    ]


def _or_worst(value: float, score: Score) -> float:
    worst = -math.inf if score.higher_is_better else math.inf
    return value if math.isfinite(value) else worst


def choose_rate(tuning: Sequence[Outcome], score: Score) -> float | None:
    """Returns the learning rate with the best mean score at the end of its runs.

    Returns None where at every rate a run has no finite score. Of equal rates it is the smallest.
    """
    ends: dict[float, list[float]] = {}
    for outcome in tuning:
        assert outcome.run.rate is not None
        ends.setdefault(outcome.run.rate, []).append(scores_along(outcome, score)[-1])
    sign = -1 if score.higher_is_better else 1
    means = {rate: sign * float(np.mean(values)) for rate, values in sorted(ends.items())}
    best = min(means, key=lambda rate: means[rate])
    return best if math.isfinite(means[best]) else None


@dataclass(frozen=True)
class Estimate:
    """A score of a method over seeds.

    Attributes:
      values: One for each seed; infinite where the run failed, or the score itself is infinite.
      interval: Of the mean; see `mean_interval`.
    """

    values: list[float]
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, values: list[float]) -> "Estimate":
        """Estimates the mean of values."""
        return cls(values, mean_interval(values))

    @property
    def mean(self) -> float:
        """The mean; infinite where a score is, NaN where there is none yet."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def num_infinite(self) -> int:
        """Number of seeds without a finite score."""
        return sum(math.isinf(value) for value in self.values)

    @property
    def mean_of_finite(self) -> float:
        """The mean over the seeds with a finite score; NaN where there is none."""
        finite = [value for value in self.values if math.isfinite(value)]
        return float(np.mean(finite)) if finite else math.nan


@dataclass(frozen=True)
class Row:
    """A method at the cost at which all are read.

    Attributes:
      result: The method.
      step: The step that it had reached at that cost.
      deciding: The score by which methods are ranked.
      others: Further scores that it has, by name.
      better: The probability that a run of it is better than one of another method, by that one's name.
    """

    result: MethodResult
    step: float
    deciding: Estimate
    others: dict[str, Estimate]
    better: dict[str, float]


def rank(
    results: Sequence[MethodResult], match: Match, deciding: Score, others: Sequence[Score]
) -> list[Row]:
    """Returns the methods in order, the best first, all read at the largest cost that all have reached.

    Raises:
      UsageError: where the cost of a step is not known of a method.
    """
    costs = costs_of_steps(results, match)
    cost = common_cost({own.method.name: own.num_steps for own in results}, costs)
    steps = {
        name: min(cost / costs[name], own.num_steps) for name, own in _by_name(results).items()
    }
    values = {name: own.scores_at(steps[name], deciding) for name, own in _by_name(results).items()}

    def better(name: str) -> dict[str, float]:
        return {
            other: probability_of_better(values[name], values[other], deciding.higher_is_better)
            for other in values
            if other != name and not np.isnan(values[name] + values[other]).any()
        }

    rows = [
        Row(
            own, steps[name], Estimate.of(values[name]),
            {
                score.name: Estimate.of(own.scores_at(steps[name], score))
                for score in others if own.is_scored_by(score)
            },
            better(name),
        )
        for name, own in _by_name(results).items()
    ]  # fmt: skip
    sign = -1 if deciding.higher_is_better else 1

    def order(row: Row) -> tuple[bool, int, float]:
        mean = sign * row.deciding.mean_of_finite
        return math.isnan(mean), row.deciding.num_infinite, mean

    return sorted(rows, key=order)


def costs_of_steps(results: Sequence[MethodResult], match: Match) -> dict[str, float]:
    """Returns what a step of each method costs, by its name.

    Raises:
      UsageError: where that is not known of one.
    """
    costs = {}
    for own in results:
        if (cost := own.cost_of_step(match)) is None:
            why = {
                "gradients": "its dynamics does not say gradients_per_step",
                "seconds": "they were not measured yet; without --report_only they are",
            }
            raise UsageError(
                f"--match={match}: not known of method {own.method.name!r}: {why[match]}"
            )
        costs[own.method.name] = cost
    return costs


def choose_baseline(rows: Sequence[Row]) -> str:
    """Returns the best method that trains as most GANs are trained; the best of all without one."""
    usual = [row for row in rows if is_usual(row.result.reported[0].run.config)]
    return (usual or rows)[0].result.method.name


def _by_name(results: Sequence[MethodResult]) -> dict[str, MethodResult]:
    return {own.method.name: own for own in results}
