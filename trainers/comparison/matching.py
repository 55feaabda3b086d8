"""What a method had reached at a cost: steps, gradients or seconds, the same for all methods."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

Match = Literal["steps", "gradients", "seconds"]
MATCHES: tuple[Match, ...] = get_args(Match)
"""In what costs can be counted."""


def common_cost(num_steps: Mapping[str, int], costs: Mapping[str, float]) -> float:
    """Returns the largest cost that all methods have reached: the whole run of the cheapest.

    Args:
      num_steps: The length of each method's runs.
      costs: What a step of each costs.
    """
    return min(num_steps[name] * costs[name] for name in costs)


def score_at(step: float, steps: Sequence[int], scores: Sequence[float]) -> float:
    """Returns the score of a run at a step, on the line between the evaluations before and after it.

    Args:
      step: A number of steps, not always whole, up to the last of `steps`.
      steps: The steps at which the run was evaluated, ascending, `[P]`.
      scores: Its scores there, `[P]`; an infinite one is that of a run that has failed.

    Returns:
      The score; infinite between an infinite one and any other; NaN before the first evaluation.
    """
    place = int(
        np.searchsorted(steps, step * (1 - 1e-12))
    )  # the evaluation at the step, or after it
    if place == len(steps) or (place == 0 and not math.isclose(steps[0], step)):
        return math.nan
    after = scores[place]
    if math.isclose(steps[place], step) or not math.isfinite(after):
        return after
    before = scores[place - 1]
    if not math.isfinite(before):
        return before
    share = (step - steps[place - 1]) / (steps[place] - steps[place - 1])
    return before + share * (after - before)
