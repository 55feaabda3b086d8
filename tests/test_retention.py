import math

import pytest

from gan.errors import UsageError
from gan.retention import RETENTION, Best, Every, Latest, kept

SAVED = {
    100: {"fid": 9.0, "is": 1.0},
    200: {"fid": 3.0},
    300: {"fid": math.nan},
    400: {"fid": 3.0, "is": 4.0},
    500: {},
}


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        (Latest(2), {400, 500}),
        (Latest(9), set(SAVED)),
        (Every(200), {200, 400}),
        (Every(1_000), set()),
        (Best("fid"), {200}),
        (Best("fid", count=3), {100, 200, 400}),
        (Best("is", largest=True), {400}),
        (Best("nothing"), set()),
    ],
)
def test_a_rule_keeps(rule, steps):
    assert rule.keep(SAVED) == steps


def test_rules_add_up_and_the_newest_is_never_dropped_for_a_better_one():
    assert kept([Best("fid")], SAVED) == {200, 500}
    assert kept([Latest(1), Every(300)], SAVED) == {300, 500}
    assert kept([], SAVED) == {500}
    assert kept([Latest(3)], {}) == set()


def test_rules_are_specs():
    assert RETENTION.build("best('eval/fid', largest=True)") == Best("eval/fid", largest=True)
    with pytest.raises(UsageError, match="count must be at least 1, given 0"):
        RETENTION.build("latest(0)")
