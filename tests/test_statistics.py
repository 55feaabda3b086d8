"""Statistics of a few seeds, against scipy's."""

import itertools

import numpy as np
import pytest
from scipy import stats

from gan.trainers.comparison.statistics import (
    expanded_level,
    mean_interval,
    probability_of_better,
)


@pytest.mark.parametrize("n", [3, 5, 12])
def test_the_interval_is_scipys_percentile_bootstrap_at_the_expanded_level(n):
    values = np.random.default_rng(n).lognormal(0, 0.5, n)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=100_000, rng=1,
        confidence_level=1 - 2 * expanded_level(n, 0.95),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(mean_interval(values), expected, atol=0.04 * np.ptp(values))


def test_the_interval_of_a_few_values_is_that_of_all_their_resamples():
    values = [1.0, 4.0, 2.0, 7.0]
    means = [np.mean(sample) for sample in itertools.product(values, repeat=4)]
    outer = expanded_level(4, 0.95)
    np.testing.assert_allclose(
        mean_interval(values), np.quantile(means, [outer, 1 - outer]), atol=0.3
    )


@pytest.mark.parametrize("n", [4, 10, 50])
def test_the_level_makes_students_interval_of_a_normal_resample(n):
    """A resample's mean has the standard error sqrt((n - 1) / n) s / sqrt(n)."""
    values = np.random.default_rng(0).normal(size=n)
    student = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    error = np.sqrt((n - 1) / n) * stats.sem(values)
    resampled = stats.norm.ppf(expanded_level(n, 0.95), values.mean(), error)
    np.testing.assert_allclose(resampled, student[0], rtol=1e-9)


def test_many_values_have_students_interval():
    values = np.random.default_rng(0).normal(3, 1, 200)
    student = stats.t.interval(0.95, 199, values.mean(), stats.sem(values))
    np.testing.assert_allclose(mean_interval(values), student, atol=0.02)


def test_equal_values_and_too_few_and_failed_ones():
    assert mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert mean_interval([2.0]) is None
    assert mean_interval([]) is None
    assert mean_interval([2.0, np.inf]) is None
    assert mean_interval([1.0, 2.0, 5.0]) == mean_interval([1.0, 2.0, 5.0])


@pytest.mark.parametrize("seed", range(5))
def test_the_probability_is_mann_and_whitneys(seed):
    rng = np.random.default_rng(seed)
    own, other = rng.integers(0, 6, 5), rng.integers(0, 6, 4)  # with ties
    expected = stats.mannwhitneyu(own, other).statistic / 20
    assert probability_of_better(own, other, higher_is_better=True) == pytest.approx(expected)
    assert probability_of_better(own, other, higher_is_better=False) == pytest.approx(1 - expected)


def test_a_failed_run_is_worse_than_any_other_and_as_bad_as_another_failed_one():
    assert probability_of_better([np.inf, 1.0], [2.0], higher_is_better=False) == 0.5
    assert probability_of_better([np.inf], [np.inf, 1e300], higher_is_better=False) == 0.25
    assert probability_of_better([-np.inf], [0.1], higher_is_better=True) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "normal", "lognormal"),
    [(3, 0.758, 0.728), (4, 0.886, 0.836), (5, 0.917, 0.895), (10, 0.953, 0.934)],
)
def test_the_coverage_is_as_docs_dynamics_says(n, normal, lognormal):
    rng = np.random.default_rng(1)
    draws = [
        (rng.normal(size=[2_000, n]), 0.0, normal),
        (rng.lognormal(0, 0.5, size=[2_000, n]), np.exp(0.5**2 / 2), lognormal),
    ]
    for values, mean, coverage in draws:
        held = [low <= mean <= high for low, high in map(mean_interval, values)]
        np.testing.assert_allclose(np.mean(held), coverage, atol=0.025)
