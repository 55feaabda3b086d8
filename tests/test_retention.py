import math

import pytest

from gan.checkpoints.retention import RETENTION, Best, Every, Latest, steps_to_keep
from gan.errors import UsageError

SAVED = {
    100: {
        "fid": 9.0,
        "is": 1.0,
        "eval/fid": 1.0,
        "diversity": 0.1,
        "eval/inception_score": 1.0,
        "loss/generator": 0.1,
    },
    200: {
        "fid": 3.0,
        "eval/fid": 2.0,
        "diversity": 0.5,
        "eval/inception_score": 2.0,
        "loss/generator": 0.2,
    },
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
        (Best("eval/fid"), {100}),
        (Best("eval/inception_score"), {200}),
        (Best("diversity"), {200}),
        (Best("diversity", largest=False), {100}),
        (Best("loss/generator"), {100}),
    ],
)
def test_a_rule_keeps(rule, steps):
    assert rule.keep(SAVED) == steps


def test_rules_add_up_and_the_newest_is_never_dropped_for_a_better_one():
    assert steps_to_keep([Best("fid")], SAVED) == {200, 500}
    assert steps_to_keep([Latest(1), Every(300)], SAVED) == {300, 500}
    assert steps_to_keep([], SAVED) == {500}
    assert steps_to_keep([Latest(3)], {}) == set()


def test_a_metric_knows_which_way_is_better():
    saved = {
        1: {"eval/precision": 0.9, "eval/fid": 3.0},
        2: {"eval/precision": 0.1, "eval/fid": 9.0},
    }
    assert Best("eval/precision").keep(saved) == Best("eval/fid").keep(saved) == {1}
    assert Best("eval/precision", largest=False).keep(saved) == {2}


def test_rules_are_specs():
    assert RETENTION.build("best('eval/fid', largest=True)") == Best("eval/fid", largest=True)
    with pytest.raises(UsageError, match="count must be at least 1, given 0"):
        RETENTION.build("latest(0)")
