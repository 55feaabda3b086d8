"""What a run does about numbers that are not finite: a NaN is put into the data."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from gan.checkpoints import Checkpoints
from gan.checkpoints.trees import digest
from gan.config import TrainConfig
from gan.data import DATASETS, Dataset
from gan.data.dataset import Examples
from gan.data.permutation import indices_at
from gan.errors import RunError, UsageError
from gan.losses import LOSSES
from gan.nonfinite import ON_NONFINITE, Raise, Rollback, Skip
from gan.state import seed_after
from gan.trainers.experiment import build
from gan.trainers.monitoring import Monitor, Signals, _ranges
from gan.trainers.train import train
from gan.trainers.train_step import make_train_step, scalars
from gan.trainers.workdir import Workdir

SIZE, BATCH = 4_000, 8
CONFIG = TrainConfig(
    dataset="poisoned(place=-1)",
    generator="mlp(8, 1)",
    discriminator="mlp(8, 1)",
    generator_optimizer="optimistic_adam(1e-3)",
    discriminator_optimizer="optimistic_adam(1e-3)",
    dynamics="lookahead(steps=3)",
    batch_size=BATCH,
    latent_dim=4,
    num_steps=60,
    log_every_steps=10,
    checkpoint_every_steps=20,
    sample_every_steps=0,
    mesh="data(1)",
)


@pytest.fixture(scope="module", autouse=True)
def poisoned():
    """A dataset of points in which one is NaN."""

    @DATASETS.register("poisoned")
    def make(place: int) -> Dataset:
        points = np.random.default_rng(0).normal(size=(SIZE, 2)).astype(np.float32)
        if place >= 0:
            points[place] = np.nan
        if place == -2:
            points[:] = np.nan
        return Dataset("poisoned", (2,), 1, lambda: Examples(points, np.zeros(SIZE, np.int32)))

    yield
    del DATASETS._makers["poisoned"]


def batches(steps, rollbacks=0):
    """The places in the data of each of so many batches."""
    seed = seed_after(0, np.int32(rollbacks))
    return [set(np.asarray(indices_at(SIZE, BATCH, seed, i)).tolist()) for i in range(steps)]


def poison(step, times=1):
    """A place that is drawn at that step (the first is 1), and not again for so many rollbacks."""
    others = set().union(*(batch for again in range(1, times + 1) for batch in batches(60, again)))
    place = min(batches(60)[step - 1] - others)
    return f"poisoned(place={place})"


def config(step, **changes):
    return dataclasses.replace(CONFIG, dataset=poison(step), **changes)


def history(workdir, event):
    lines = (workdir / "history.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


def test_policies_are_specs():
    assert ON_NONFINITE.build("raise") == Raise()
    assert ON_NONFINITE.build("skip") == Skip()
    assert ON_NONFINITE.build("rollback(times=2)") == Rollback(2)
    with pytest.raises(UsageError, match="times must be at least 1"):
        ON_NONFINITE.build("rollback(0)")
    with pytest.raises(UsageError, match="did you mean 'raise'"):
        ON_NONFINITE.build("rise")


def test_raise_ends_the_run_at_the_step_and_keeps_its_checkpoints(tmp_path):
    words = (
        r"^step 27: .*loss/discriminator.* not finite; the newest checkpoint is step 20\. "
        r"on_nonfinite = 'skip'"
    )
    with pytest.raises(RunError, match=words):
        train(config(27), tmp_path)
    assert Checkpoints(tmp_path).all_steps() == [20]
    assert [line["steps"] for line in history(tmp_path, "nonfinite")] == [[27]]


def test_skip_leaves_out_that_step_and_no_other(tmp_path):
    """The same as a run from which nothing but this step was taken."""
    end = train(config(27, on_nonfinite="skip"), tmp_path)
    experiment = build(config(27))
    step = make_train_step(experiment)
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data
    state, _, _ = step(experiment.init_on_mesh(), data, 26)
    state = state.replace(step=state.step + 1)
    state, _, found = step(state, data, 33)
    assert not found.skipped.any()
    assert digest(end) == digest(state)
    assert int(end.step) == 60
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end))
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("skipped_steps") for line in logged] == [None, None, 1.0, None, None, None]
    assert all(np.isfinite(line["loss/generator"]) for line in logged)
    assert history(tmp_path, "nonfinite")[0]["message"].startswith("step 27: ")


def test_skip_does_not_go_on_for_ever(tmp_path):
    hopeless = dataclasses.replace(CONFIG, dataset="poisoned(place=-2)", on_nonfinite="skip(25)")
    with pytest.raises(RunError, match="ends the run after 25 such steps in a row"):
        train(hopeless, tmp_path)
    lines = history(tmp_path, "nonfinite")
    seen = [step for line in lines for step in line["steps"]]
    assert seen == list(range(1, 31))  # known where the call ends, at the log after step 30


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("raise", r"update_norm/generator not finite; no checkpoint .* a smaller learning rate"),
        ("skip", "the update overflowed, though its gradient did not: a smaller learning rate"),
        ("rollback(2)", "went back 2 times already"),
    ],
)
def test_a_learning_rate_that_no_number_survives(tmp_path, policy, words):
    """The gradients are finite, and the update is not: that shows when it is made."""
    hopeless = dataclasses.replace(
        CONFIG, generator_optimizer="sgd(1e38) | scale(1e38)", on_nonfinite=policy,
        dynamics="simultaneous",
    )  # fmt: skip
    with pytest.raises(RunError, match=words):
        train(hopeless, tmp_path)
    assert not Checkpoints(tmp_path).all_steps()


def test_rollback_goes_back_and_on_with_other_batches(tmp_path):
    end = train(config(27, on_nonfinite="rollback"), tmp_path)
    assert (int(end.step), int(end.rollbacks)) == (60, 1)
    (line,) = history(tmp_path, "rollback")
    assert (line["to"], line["rollbacks"]) == (20, 1)
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged] == [10, 20, 30, 40, 50, 60]
    # From step 20 on, the same as that checkpoint with another data order.
    experiment = build(config(27))
    step = make_train_step(experiment)
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data
    state, _, _ = step(experiment.init_on_mesh(), data, 20)
    state, _, found = step(state.replace(rollbacks=state.rollbacks + 1), data, 40)
    assert not found.skipped.any()
    assert digest(end) == digest(state)


def test_rollback_before_the_first_checkpoint_starts_anew(tmp_path):
    end = train(config(5, on_nonfinite="rollback"), tmp_path)
    assert (int(end.step), int(end.rollbacks)) == (60, 1)
    assert history(tmp_path, "rollback")[0]["to"] == 0


def test_rollback_is_the_same_for_a_run_that_was_stopped(tmp_path):
    """A stop leaves a checkpoint between the periodic ones: the run does not go back to that.

    Nor does it go on from there when it is stopped after it went back.
    """
    whole = train(config(33, on_nonfinite="rollback"), tmp_path / "whole")
    train(config(33, on_nonfinite="rollback", num_steps=27), tmp_path / "halves")
    assert 27 in Checkpoints(tmp_path / "halves").all_steps()
    train(config(33, on_nonfinite="rollback", num_steps=39), tmp_path / "halves")
    assert history(tmp_path / "halves", "rollback")[0]["to"] == 20
    assert Checkpoints(tmp_path / "halves").all_steps() == [20, 39]
    halves = train(config(33, on_nonfinite="rollback"), tmp_path / "halves")
    assert len(history(tmp_path / "halves", "rollback")) == 1
    assert digest(whole) == digest(halves)


def test_eight_devices_see_what_is_on_one_of_them(tmp_path):
    end = train(config(27, on_nonfinite="skip", mesh="data(8)"), tmp_path)
    assert [line["steps"] for line in history(tmp_path, "nonfinite")] == [[27]]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end))


@pytest.mark.parametrize("optimizer", ["noisy_sgd(0.1, key=1)", "adam(1e-3)"])
def test_a_skipped_step_changes_nothing_but_its_number(optimizer):
    """Typed keys and counts in the optimizers' states included; the averages of metrics as well."""
    one = config(1, generator_optimizer=optimizer)
    experiment = build(one)
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data
    before = digest(experiment.init_on_mesh().replace(step=np.int32(1)))
    step = make_train_step(experiment)
    state, metrics, found = step(experiment.init_on_mesh(), data, 1)
    assert digest(state) == before
    assert np.flatnonzero(found.skipped).tolist() == [0]
    assert not found.nonfinite_updates.any()
    _, more, _ = step(state, data, 3)
    assert scalars(metrics.merge(more)) == scalars(more)


def test_steps_in_words():
    assert _ranges([3]) == "3"
    assert _ranges([3, 4, 5, 9, 11, 12]) == "3-5, 9, 11-12"


EXPERIMENT = build(dataclasses.replace(CONFIG, dataset="gaussians", log_every_steps=1))


def test_a_collapse_is_told_once(tmp_path):
    workdir = Workdir(tmp_path, None)
    monitor = Monitor(EXPERIMENT, workdir, 0)
    for step, diversity in enumerate([0.01, 0.05, 0.3, 0.12, 0.05, 0.02, 0.15, 0.3, 0.09]):
        monitor.after_log(step, {"diversity": diversity})
    assert [line["step"] for line in history(tmp_path, "collapse")] == [4, 8]
    lines = ['{"step": 1, "diversity": 0.5}', '{"step": 2, "diversity": null}', '{"step": 3, "div']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    Monitor(EXPERIMENT, workdir, 2).after_log(9, {"diversity": 0.05})  # after a resume
    assert history(tmp_path, "collapse")[-1]["step"] == 9
    assert re.search(r"step 4: .* 0\.05 of the data's", history(tmp_path, "collapse")[0]["message"])


def test_steps_that_are_made_again_count_for_nothing(tmp_path):
    """The file still has them when a run is resumed: the writer drops them at its first line."""
    lines = ['{"step": 10, "diversity": 0.5}', '{"step": 20, "diversity": 0.01}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    Monitor(EXPERIMENT, Workdir(tmp_path, None), 10).after_log(20, {"diversity": 0.01})
    assert [line["step"] for line in history(tmp_path, "collapse")] == [20]


def events(experiment, rows):
    """The steps and names of what the logs tell, the first at step 1."""
    signals = Signals(experiment)
    return [
        (step, signal.event)
        for step, values in enumerate(rows, start=1)
        for signal in signals.after_log(step, values)
    ]


AT_ZERO = {  # in closed form
    "non_saturating": 2 * np.log(2), "minimax": 2 * np.log(2), "hinge": 2.0, "least_squares": 0.5,
    "relativistic": np.log(2), "wasserstein": 0.0, "acgan": 2 * np.log(2), "top_k": 2 * np.log(2),
    "label_noise": 2 * np.log(2),
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_a_discriminator_that_has_won_is_told_of_once_until_it_recovers(loss):
    config = dataclasses.replace(EXPERIMENT.config, loss=loss)
    if loss == "acgan":
        config = dataclasses.replace(config, generator="mlp(8, 1, conditional=True)")
    experiment = build(config)
    low, close, middle, high = (share * AT_ZERO[loss] for share in (0.009, 0.011, 0.09, 0.11))
    losses = [high, low, low, close, low, low, low, low, middle, low, low, low, high, low, low, low]
    # What is added to the loss that is logged is no part of what is watched.
    added = {"penalty/r1": 2.0, "penalty/zcr": 2.5, "class_loss": 0.5, "penalty/zcr/generator": 7.0}
    rows = [{"loss/discriminator": own + 5, "diversity": 1.0} | added for own in losses]
    told = [(7, "discriminator_won"), (16, "discriminator_won")]
    assert events(experiment, rows) == (told if AT_ZERO[loss] else [])


def test_what_is_not_there_is_passed_over():
    """All steps of a log were skipped, or the loss was not finite."""
    low, nothing = {"loss/discriminator": 1e-3}, {"diversity": 0.5}
    rows = [low, low, nothing, {"loss/discriminator": None}, low]
    assert events(EXPERIMENT, rows) == [(5, "discriminator_won")]
    # A loss without a lower bound passes through its neighbourhood of 0 and goes on.
    assert events(EXPERIMENT, [{"loss/discriminator": -5.0}] * 9) == []


def test_a_generator_that_was_never_diverse_is_told_of_at_the_end():
    def run(diversities):
        config = dataclasses.replace(EXPERIMENT.config, num_steps=len(diversities))
        rows = [{"diversity": diversity} for diversity in diversities]
        return events(dataclasses.replace(EXPERIMENT, config=config), rows)

    assert run([0.01, 0.02, 0.2, 0.02, 0.03]) == [(5, "never_diverse")]
    assert run([0.01, 0.02, 0.02, 0.03]) == []  # too few logs to tell
    assert run([0.01, 0.21, 0.15, 0.15, 0.15]) == []
    assert run([0.01, 0.21, 0.05, 0.02, 0.02]) == [(3, "collapse")]


def test_stop_and_resume_tell_the_same(tmp_path):
    """A generator that stands still; the run is stopped between and after the logs."""
    lost = dataclasses.replace(
        EXPERIMENT.config, discriminator="mlp(64, 2)", generator_optimizer="sgd(0.0)", num_steps=400,
        discriminator_optimizer="adam(1e-2)", dataset="digits", averaging=(), dynamics="simultaneous",
        log_every_steps=50, checkpoint_every_steps=400,
    )  # fmt: skip
    train(lost, tmp_path / "whole")
    for num_steps in (130, 150, 190, 260, 400):
        train(dataclasses.replace(lost, num_steps=num_steps), tmp_path / "parts")
    told = [
        [line["step"] for line in history(tmp_path / name, "discriminator_won")]
        for name in ("whole", "parts")
    ]
    assert len(told[0]) == 1
    assert told[0] == told[1]
    (line,) = history(tmp_path / "whole", "discriminator_won")
    assert "regularizers such as r1" in line["message"]
    assert line["loss"] < 0.01 * 2 * np.log(2)
