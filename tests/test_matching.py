"""Reading runs at the same cost."""

import math

import numpy as np
import pytest

from gan.trainers.comparison.matching import common_cost, score_at


def test_the_common_cost_is_that_of_the_cheapest_whole_run():
    lengths = {"alternating": 1_000, "extragradient": 1_000, "long": 4_000}
    assert common_cost(lengths, {"alternating": 2, "extragradient": 4, "long": 2}) == 2_000
    assert common_cost(lengths, dict.fromkeys(lengths, 1)) == 1_000


def test_between_evaluations_it_is_numpys_line():
    steps, scores = range(100, 501, 100), [9.0, 5.0, 4.0, 4.5, 1.0]
    for step in (100, 137.5, 200, 333.3, 499.9, 500):
        assert score_at(step, steps, scores) == pytest.approx(np.interp(step, steps, scores))


def test_a_cost_that_is_an_evaluations_own_up_to_rounding_is_read_there():
    seconds = 0.1 + 0.2  # 0.30000000000000004
    assert score_at(seconds / 0.003, range(50, 101, 50), [3.0, 2.0]) == 2.0
    assert score_at(300 * 0.1 / 0.3, range(100, 201, 100), [3.0, math.inf]) == 3.0


def test_before_the_first_evaluation_and_after_the_last_nothing_is_known():
    assert math.isnan(score_at(99, range(100, 301, 100), [3.0, 2.0, 1.0]))
    assert math.isnan(score_at(301, range(100, 301, 100), [3.0, 2.0, 1.0]))


def test_a_failed_run_is_the_worst_from_its_last_score_on():
    steps, scores = range(100, 401, 100), [3.0, 2.0, math.inf, math.inf]
    assert score_at(150, steps, scores) == 2.5
    assert score_at(200, steps, scores) == 2.0
    assert score_at(201, steps, scores) == math.inf
    assert score_at(350, steps, scores) == math.inf
    assert score_at(150, range(100, 301, 100), [-math.inf, 2.0, 1.0]) == -math.inf
