"""Callbacks: called at their own period, with the right averages, and harmless where they fail."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

import gan
from gan.callbacks import CALLBACKS, Callback

CONFIG = {
    "dataset": "gaussians", "generator": "mlp(width=8)", "discriminator": "mlp(width=8)",
    "batch_size": 8, "num_steps": 12, "log_every_steps": 1, "sample_every_steps": 0, "mesh": "data(1)",
}  # fmt: skip


@dataclass(frozen=True)
class Recorder(Callback):
    """Keeps what it sees."""

    calls: tuple[list, ...] = ([],)

    def __call__(self, run):
        weights = np.asarray(run.state.players.generator.params["Dense_0"]["kernel"])
        self.calls[0].append(
            (run.step, dict(run.metrics), int(run.state.step), weights, run.workdir)
        )


def recorder(every_steps):
    return Recorder(calls=([],), every_steps=every_steps)


def test_a_callback_sees_the_averages_of_its_own_period(tmp_path):
    every_step, third = recorder(1), recorder(3)
    run = gan.train(CONFIG, tmp_path / "run", callbacks=[every_step, third])
    calls = every_step.calls[0]
    assert [step for step, *_ in calls] == list(range(1, 13))
    assert [step for step, *_ in third.calls[0]] == [3, 6, 9, 12]
    for step, metrics, state_step, _, workdir in third.calls[0]:
        assert (state_step, workdir) == (step, tmp_path / "run")
        singles = [own["loss/generator"] for at, own, *_ in calls if step - 3 < at <= step]
        assert metrics["loss/generator"] == pytest.approx(np.mean(singles), rel=1e-5)
    logged = [line["loss/generator"] for line in run.metrics]
    assert logged == pytest.approx([own["loss/generator"] for _, own, *_ in calls])
    final = run.state.players.generator.params["Dense_0"]["kernel"]
    np.testing.assert_array_equal(calls[-1][3], final)


def test_callbacks_change_nothing(tmp_path):
    plain = gan.train(CONFIG | {"log_every_steps": 12})
    watched = gan.train(CONFIG | {"log_every_steps": 12}, callbacks=[recorder(5)])
    weights = [run.state.players.generator.params["Dense_0"]["kernel"] for run in (plain, watched)]
    np.testing.assert_array_equal(*weights)


def test_a_callback_sees_the_scores_of_its_step():
    own = recorder(6)
    config = CONFIG | {"eval_every_steps": 12, "eval_num_images": 50}
    gan.train(config, callbacks=[own])
    assert [any(name.startswith("eval/") for name in call[1]) for call in own.calls[0]] == [
        False,
        True,
    ]


def test_a_failing_callback_is_a_line_and_the_run_goes_on(tmp_path, caplog):
    @CALLBACKS.register("breaks")
    @dataclass(frozen=True)
    class Breaks(Callback):
        at: int = 4

        def __call__(self, run):
            if run.step == self.at:
                raise KeyError("nothing here\nand more")

    run = gan.train(CONFIG | {"callbacks": "breaks(every_steps=2)"}, tmp_path / "run")
    assert run.step == 12
    history = [
        json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    ]
    (failure,) = (line for line in history if line["event"] == "callback_failed")
    assert failure["step"] == 4
    assert failure["message"].startswith("callback Breaks at step 4: KeyError: ")
    assert "\n" not in failure["message"]
    assert failure["message"] in caplog.text


def test_its_period_is_checked():
    with pytest.raises(ValueError, match="every_steps must be at least 1, given 0"):
        recorder(0)
    with pytest.raises(gan.UsageError, match="unknown callback 'csv'"):
        gan.train(CONFIG | {"callbacks": "csv"})
