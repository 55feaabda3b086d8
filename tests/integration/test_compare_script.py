"""`scripts/compare.py` as a user runs it."""

import csv
import dataclasses
import functools
import json
import os
import shutil
from unittest import mock

import pytest

from gan.config import from_mapping
from gan.errors import NotFiniteError, RunError
from gan.trainers.comparison import runs, timing
from gan.trainers.comparison.timing import seconds_per_step
from tests.scripts import run_script_here

run = functools.partial(run_script_here, "compare.py")

CONFIG = """def get_config():
    return {"dataset": "gaussians", "generator": "mlp(8, 1)", "discriminator": "mlp(8, 1)",
            "num_steps": 8, "log_every_steps": 4, "eval_num_images": 50, "eval_features": "pixels"}
"""
METHODS = (
    *("--method", "ours: dynamics=extragradient; optimizer=adam({lr}); num_steps=4"),
    *("--method", "adam: dynamics=alternating; optimizer=adam(1e-3)"),
    *("--method", "bad: optimizer=sgd(1e38)"),
)
GRID = ("--learning_rates", "1e-3,1e38", "--tuning_seeds", 1, "--evaluations", 2, "--seeds", 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A comparison that is finished: its folder, its flags, and what it printed."""
    folder = tmp_path_factory.mktemp("comparison")
    (folder / "c.py").write_text(CONFIG)
    args = ("--config", folder / "c.py", "--output", folder / "out", *METHODS, *GRID)
    with mock.patch.multiple(
        timing, _ROUNDS=3, _LEAST_SECONDS=0
    ):  # which of them is faster is no matter
        return folder / "out" / "c", args, run(*args)


def copy(finished, tmp_path):
    """The same comparison elsewhere, to be damaged."""
    output, args, _ = finished
    shutil.copytree(output, tmp_path / "out" / "c")
    return tmp_path / "out" / "c", [
        tmp_path / "out" if arg == output.parent else arg for arg in args
    ]


def test_the_report_has_what_the_runs_have_logged(finished):
    output, _, done = finished
    with (output / "comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    # One method is tuned from one seed at two rates and scored at the end; two seeds of two are scored
    # twice, and once more the last iterate; a run that fails has a line without scores.
    assert len(lines) == 2 + 2 * 2 * 3 + 2
    seeds = {(line["purpose"], line["seed"]) for line in lines}
    assert seeds == {("tuning", "1000"), ("reported", "0"), ("reported", "1")}
    report = json.loads((output / "comparison.json").read_text())
    score = report["protocol"]["score"]["name"]
    assert score == "fid"
    for line in lines:
        if line["weights"] == "raw" or line["failed"] == "1":
            continue
        folder = output / line["method"] / line["purpose"]
        folder /= f"lr_{line['learning_rate']}" if line["learning_rate"] else ""
        logged = (folder / f"seed_{line['seed']}" / "metrics.jsonl").read_text()
        scored = {own["step"]: own for own in map(json.loads, logged.splitlines())}
        assert float(line[score]) == pytest.approx(scored[int(line["step"])][f"eval/{score}"])
        assert float(line["gradients"]) == int(line["step"]) * (
            4 if line["method"] == "ours" else 2
        )
    ours = report["methods"]["ours"]
    assert ours["learning_rate"] == 1e-3
    assert ours["tuning"]["1e+38"] == [None]
    assert {
        (line["method"], line["learning_rate"]) for line in lines if line["purpose"] == "reported"
    } == {("ours", "0.001"), ("adam", ""), ("bad", "")}
    assert ours["at_edge_of_grid"]
    assert not report["methods"]["adam"]["at_edge_of_grid"]
    assert "* the best learning rate is the smallest or largest of the grid" in done.stdout
    assert [row["step"] for row in report["tables"]["steps"]["rows"]] == [4, 4, 4]
    assert {row["method"]: row["step"] for row in report["tables"]["gradients"]["rows"]} == {
        "ours": 4, "adam": 8, "bad": 8,
    }  # fmt: skip
    assert report["tables"]["steps"]["baseline"] == "adam"
    assert done.stderr.count("| Name") == 2  # the networks' tables, once for all runs
    assert (output / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_and_report_only_train_nothing(finished):
    output, args, first = finished
    for path in output.glob("comparison.*"):
        path.unlink()
    again = run(*args)
    assert again.stdout == first.stdout
    assert "training from step" not in again.stderr
    files = {path: path.stat().st_mtime_ns for path in output.glob("*/**/*") if path.is_file()}
    shown = run(*args, "--report_only")
    assert shown.stdout == first.stdout
    assert files == {path: path.stat().st_mtime_ns for path in files}
    for match, words in (("gradients", "at 16 gradients: "), ("seconds", " seconds: ")):
        assert words in run(*args, "--report_only", "--match", match).stdout


def test_runs_for_tuning_go_on_where_more_steps_are_asked_for(finished, tmp_path):
    output, args = copy(finished, tmp_path)
    done = run(*args, "--tuning_steps", 6)
    assert f"resuming {output / 'ours/tuning/lr_0.001/seed_1000'} at step 4" in done.stderr
    assert "starting" not in done.stderr
    report = json.loads((output / "comparison.json").read_text())
    assert report["protocol"]["tuning_steps"] == 6
    line = run(*args, code=2).stderr.splitlines()[-1]  # they cannot be made shorter
    assert "num_steps" in line
    assert line.endswith("another --output is needed")


def test_it_goes_on_where_it_stopped(finished, tmp_path):
    output, args = copy(finished, tmp_path)
    gone = next(output.glob("ours/reported/*/seed_1"))
    shutil.rmtree(gone)
    unscored = next(output.glob("adam/reported/seed_0"))
    lines = (unscored / "evaluations.jsonl").read_text().splitlines()
    (unscored / "evaluations.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:50])
    partly = run(*args, "--report_only")
    assert "ours: only 1 of 2 runs are finished" in partly.stdout
    assert f"scoring the end of {unscored}" in partly.stderr  # what is trained counts
    assert "adam: only" not in partly.stdout
    done = run(*args)
    assert done.stdout.replace(str(output), "") == finished[2].stdout.replace(str(finished[0]), "")
    assert done.stderr.count("training from step") == 1
    assert "scoring the end of" in done.stderr and str(unscored) not in done.stderr


def test_a_run_that_diverges_is_the_worst_and_said(finished):
    output, _, done = finished
    assert "| bad | its own | 2 of 2 not finite | 0% |" in done.stdout
    assert "bad, seed 0 failed: step " in done.stdout
    assert "| ours | 0.001* |" in done.stdout
    report = json.loads((output / "comparison.json").read_text())
    rows = {row["method"]: row for row in report["tables"]["steps"]["rows"]}
    assert list(rows)[-1] == "bad"
    assert rows["bad"]["values"] == [None, None]
    assert rows["ours"]["better_than"]["bad"] == 1.0


def test_what_is_no_divergence_stops_the_comparison(finished, tmp_path, monkeypatch):
    output, args = copy(finished, tmp_path)
    shutil.rmtree(output / "ours")
    errors = [RunError("the disk is full"), NotFiniteError("step 3: loss not finite")]

    def train_members(members, stop):
        missing = [path for path in members if not path.exists()]
        return dict.fromkeys(members) | dict(zip(missing, errors, strict=True))

    monkeypatch.setattr(runs, "train_members", train_members)
    assert "the disk is full" in run(*args, code=1).stderr.splitlines()[-1]
    assert not list(output.glob("ours/**/failed.json"))
    errors.reverse()
    assert "the disk is full" in run(*args, code=1).stderr.splitlines()[-1]
    assert len(list(output.glob("ours/**/failed.json"))) == 1


def test_times_are_of_the_same_configs_or_measured_again(finished, tmp_path):
    path = tmp_path / "timing.json"
    shutil.copy(finished[0] / "timing.json", path)
    known = json.loads(path.read_text())
    assert all(len(windows) == 3 and min(windows) > 0 for windows in known["seconds"].values())
    report = json.loads((finished[0] / "comparison.json").read_text())
    for name, windows in known["seconds"].items():
        assert report["methods"][name]["seconds_per_step"] == sorted(windows)[1]
    configs = {name: from_mapping(known["configs"][name]) for name in known["configs"]}
    moved = {name: dataclasses.replace(own, data_dir="elsewhere") for name, own in configs.items()}
    assert seconds_per_step(moved, path, measure=False).keys() == known["seconds"].keys()
    others = {name: dataclasses.replace(own, batch_size=7) for name, own in configs.items()}
    assert seconds_per_step(others, path, measure=False) == {}
    for damage in (
        "",
        "[]",
        "{}",
        path.read_text()[:100],
        path.read_text().replace("mlp(8, 1)", "mlp(8, 2)"),
    ):
        path.write_text(damage)
        assert seconds_per_step({}, path, measure=False) == {}
    path.unlink()
    os.mkfifo(path)
    assert seconds_per_step({}, path, measure=False) == {}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--seeds", 0], "from 1 to 1000"),
        (["--tuning_steps", 0], "--tuning_steps must be at least 1"),
        (["--evaluations", 3], "with num_steps 6 or 9 it does"),
        (["--learning_rates", "1e-3,x"], "--learning_rates: positive numbers"),
        (["--learning_rates", "1e-3,-1"], "--learning_rates: positive numbers"),
        (["--config.dataset=gausians"], "did you mean 'gaussians'"),
        (["--method", "a: dynamics=alternatin; optimizer=adam({lr})"], "--method 'a': dynamics = 'alternatin'"),
        (["--method", "a: optimizer=adam({lr}, b1=2)"], "--method 'a': generator_optimizer = 'adam(0.001, b1=2)': adam: b1 must be"),
        (["--method", "a: optimizer=adam(b1=0)"], "--method 'a': generator_optimizer = 'adam(b1=0)'"),
        (["--method", "a: loss=hinge", "--baseline", "b"], "--baseline='b' is no method here; there are a"),
        (["--method", "a: loss=hinge", "--report_only"], "holds no reported run of these methods"),
    ],
)  # fmt: skip
def test_misuse_is_a_line_before_anything_is_written(tmp_path, more, words):
    (tmp_path / "c.py").write_text(CONFIG)
    methods = () if "--method" in more else METHODS[2:4]
    args = ("--config", tmp_path / "c.py", "--output", tmp_path / "out", "--learning_rates", "1e-3")
    done = run(*args, "--evaluations", 2, *methods, *more, code=2)
    assert words in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_runs_of_another_comparison_are_refused(finished):
    _, args, _ = finished
    for more, words in (
        (["--config.batch_size=32"], "batch_size was 64 and is now 32"),
        (["--config.num_steps=16"], "num_steps was 8 and is now 16"),
        (["--config.eval_num_images=60"], "eval_num_images was 50 and is now 60"),
    ):
        line = run(*args, *more, code=2).stderr.strip().splitlines()[-1]
        assert words in line
        assert line.endswith("another --output is needed")


def test_a_dynamics_that_does_not_say_its_gradients(finished, monkeypatch):
    from gan.dynamics.extragradient import Extragradient

    monkeypatch.setattr(Extragradient, "gradients_per_step", None)
    _, args, _ = finished
    assert (
        "--match=gradients: not known of method 'ours'"
        in run(*args, "--report_only", "--match", "gradients", code=2).stderr
    )
    assert "| 4 | - |" in run(*args, "--report_only").stdout
