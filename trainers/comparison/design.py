"""How methods are compared: what is tuned, on which seeds, and what is reported."""

from collections.abc import Sequence
from dataclasses import dataclass

from gan.trainers.comparison.matching import Match
from gan.trainers.comparison.methods import Method

TUNING_OFFSET = 1_000
"""The seeds of the runs for tuning begin so far after those that are reported."""


@dataclass(frozen=True)
class Design:
    """How methods are compared.

    Attributes:
      methods: The methods.
      learning_rates: The grid, ascending; each method has its own best of them.
      num_seeds: Number of reported runs of a method, from the config's seed on.
      num_tuning_seeds: Number of runs for tuning of a method at each learning rate.
      tuning_steps: Their length; None is that of the reported ones.
      num_evaluations: How often a reported run is scored; at equal distances, the last at its end.
      match: The cost at which methods are read.
      baseline: The method with which the others are compared; None is the best by the usual recipe.
    """

    methods: Sequence[Method]
    learning_rates: Sequence[float]
    num_seeds: int = 5
    num_tuning_seeds: int = 2
    tuning_steps: int | None = None
    num_evaluations: int = 20
    match: Match = "steps"
    baseline: str | None = None

    def rates(self, method: Method) -> Sequence[float | None]:
        """Returns the learning rates that a method is tried at."""
        return self.learning_rates if method.has_rate else (None,)
