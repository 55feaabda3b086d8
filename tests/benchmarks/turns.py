"""Measurements in turns, round by round, and what they come to."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from absl import logging


@dataclass(frozen=True)
class Spread:
    """The median, the least and the greatest of some measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Computes the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def take_turns(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Calls all sides in each round, and returns their values by side.

    The first round is a warm-up that is left out; every other round goes in reverse order.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            value = sides[name]()
            if number:
                times[name].append(value)
        logging.info("round %d of %d", number, rounds)
    return times


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Computes the spread of the ratios, round by round."""
    return Spread.of([n / d for n, d in zip(numerators, denominators, strict=True)])
