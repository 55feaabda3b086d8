"""What a comparison concludes from scores: the learning rate, the order, and the baseline."""

import math
import pathlib

import pytest

from gan.config import TrainConfig
from gan.errors import UsageError
from gan.metrics.metric import Score
from gan.trainers.comparison.methods import parse_methods
from gan.trainers.comparison.ranking import MethodResult, choose_baseline, choose_rate, rank
from gan.trainers.comparison.runs import Outcome, plan_runs

FID, RECALL = Score("fid", higher_is_better=False), Score("recall", higher_is_better=True)
BASE = TrainConfig(num_steps=400)


def outcomes(line, purpose, scores, rate=None, evaluations=4):
    """Runs of a method with these scores, `[seeds][evaluations]`; None is a run that failed by then."""
    (method,) = parse_methods([line])
    runs = plan_runs(
        method, method.config(BASE, rate), rate, purpose, range(len(scores)), evaluations,
        pathlib.Path("out"), "ema",
    )  # fmt: skip
    return [
        Outcome(
            run,
            {step: {"fid": value, "recall": 1 / value} for step, value in zip(run.steps, own, strict=True)
             if value is not None},
            {"fid": own[-1]} if own[-1] is not None else {}, None,
            "not finite" if None in own else None,
        )
        for run, own in zip(runs, scores, strict=True)
    ]  # fmt: skip


def result(line, scores, gradients=2, seconds=0.1):
    reported = outcomes(line, "reported", scores)
    method = reported[0].run.method
    return MethodResult(method, None, False, [], reported, gradients, seconds)


def test_the_learning_rate_is_that_of_the_best_mean_at_the_end():
    def tuning(ends):
        return [
            own
            for rate, values in ends.items()
            for own in outcomes("a: optimizer=adam({lr})", "tuning", [[v] for v in values], rate)
        ]

    assert choose_rate(tuning({1e-4: [5, 5], 1e-3: [2, 4], 1e-2: [1, 9]}), FID) == 1e-3
    assert choose_rate(tuning({1e-4: [5, 5], 1e-3: [2, 4], 1e-2: [1, 9]}), RECALL) == 1e-2
    assert choose_rate(tuning({1e-2: [3, 3], 1e-3: [3, 3]}), FID) == 1e-3
    assert choose_rate(tuning({1e-4: [5, 5], 1e-3: [1, None]}), FID) == 1e-4
    assert choose_rate(tuning({1e-4: [None, 5], 1e-3: [1, None]}), FID) is None


def test_all_are_read_at_the_cost_of_the_cheapest_whole_run():
    cheap = result("cheap: dynamics=alternating", [[8, 6, 4, 3], [8, 6, 4, 5]])
    dear = result("dear: dynamics=extragradient", [[6, 5, 2, 1], [6, 4, 2, 1]], 4, 0.3)
    by_steps = rank([cheap, dear], "steps", FID, [RECALL])
    assert [(row.result.method.name, row.step, row.deciding.mean) for row in by_steps] == [
        ("dear", 400, 1), ("cheap", 400, 4),
    ]  # fmt: skip
    by_gradients = rank([cheap, dear], "gradients", FID, [RECALL])
    assert [(row.result.method.name, row.step) for row in by_gradients] == [
        ("cheap", 400),
        ("dear", 200),
    ]
    assert by_gradients[1].deciding.values == [5, 4]
    assert by_gradients[0].better == {"dear": (1 + 1 + 0.5 + 0) / 4}  # 3 and 5 against 5 and 4
    assert by_gradients[1].others["recall"].values == [1 / 5, 1 / 4]
    by_seconds = rank([cheap, dear], "seconds", FID, [])  # 133.3 steps: a third of the way to 200
    assert by_seconds[1].step == pytest.approx(400 / 3)
    assert by_seconds[1].deciding.values == pytest.approx([6 - 1 / 3, 6 - 2 / 3])


def test_a_score_that_a_method_does_not_have_is_left_out_of_its_row():
    """As the label accuracy of an unconditional generator, in a table with conditional ones."""
    label = Score("label_accuracy", higher_is_better=True)
    with_it = result("with: dynamics=alternating", [[8, 6, 4, 3], [8, 6, 4, None]])
    for outcome in with_it.reported:
        for scores in outcome.along.values():
            scores["label_accuracy"] = 0.5
    rows = rank(
        [with_it, result("without: dynamics=simultaneous", [[9, 9, 9, 9]] * 2)],
        "steps",
        FID,
        [label],
    )
    others = {row.result.method.name: row.others for row in rows}
    assert others["with"]["label_accuracy"].values == [0.5, -math.inf]  # the second failed
    assert others["without"] == {}


def test_failed_runs_are_the_worst_whatever_else_a_method_reached():
    good = result("good: dynamics=alternating", [[8, 6, 4, 3], [8, 6, 4, 5]])
    half = result("half: dynamics=sga", [[1, 1, 1, 1], [1, 1, None, None]])
    rows = rank([half, good], "steps", FID, [])
    assert [row.result.method.name for row in rows] == ["good", "half"]
    assert (rows[1].deciding.num_infinite, rows[1].deciding.mean_of_finite) == (1, 1)
    assert rows[1].deciding.mean == math.inf
    assert rows[1].deciding.interval is None
    assert rows[0].better == {"half": 0.5}
    upwards = rank([half, good], "steps", RECALL, [])
    assert [row.result.method.name for row in upwards] == ["good", "half"]
    early = result("half: dynamics=sga", [[1, 1, 1, 1], [1, 1, None, None]], gradients=4)
    rows = rank([early, good], "gradients", FID, [])  # it had not failed yet
    assert rows[0].deciding.values == [1, 1]


def test_a_cost_before_the_first_evaluation_is_no_score():
    cheap = result("cheap: dynamics=alternating", [[8, 6, 4, 3]])
    dear = result("dear: dynamics=extragradient", [[6, 5, 2, 1]], gradients=10)
    rows = rank([dear, cheap], "gradients", FID, [])
    assert [row.result.method.name for row in rows] == ["cheap", "dear"]
    assert math.isnan(rows[1].deciding.mean)
    assert rows[0].better == {}


def test_an_unknown_cost_is_refused():
    mine = result("mine: dynamics=alternating", [[8, 6, 4, 3]], gradients=None, seconds=None)
    assert rank([mine], "steps", FID, [])
    for match in ("gradients", "seconds"):
        with pytest.raises(UsageError, match=f"--match={match}: not known of method 'mine'"):
            rank([mine], match, FID, [])


def test_the_baseline_is_the_best_of_those_with_plain_adam():
    adam = "optimizer=adam(1e-3)"
    better = result(f"extra: dynamics=extragradient; {adam}", [[1, 1, 1, 1]])
    alternating = result(f"alternating: dynamics=alternating; {adam}", [[4, 4, 4, 4]])
    simultaneous = result(f"simultaneous: dynamics=simultaneous; {adam}", [[5, 5, 5, 5]])
    rows = rank([simultaneous, better, alternating], "steps", FID, [])
    assert choose_baseline(rows) == "alternating"
    assert choose_baseline(rank([better], "steps", FID, [])) == "extra"
