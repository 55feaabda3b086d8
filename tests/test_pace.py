import time

import pytest

from gan.trainers import pace
from gan.trainers.pace import Pace
from gan.trainers.train_step import MAX_STEPS


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("seconds_a_step", [1e-6, 1e-3, 0.03, 0.7, 5.0])
def test_calls_come_to_last_about_a_second(clock, seconds_a_step):
    one, steps = Pace(), 0
    for _ in range(12):
        steps = one.steps(at_most=10**9)
        clock[0] += steps * seconds_a_step
        one.made(steps)
    assert 1 <= steps <= MAX_STEPS
    assert steps == MAX_STEPS or steps * seconds_a_step <= max(1.01 * pace._SECONDS, seconds_a_step)
    assert steps in (1, MAX_STEPS) or (steps + 2) * seconds_a_step >= pace._SECONDS


def test_a_call_ends_where_something_is_due(clock):
    one = Pace()
    for at_most in (7, 3, 1):
        assert one.steps(at_most) <= at_most
        one.made(1)
