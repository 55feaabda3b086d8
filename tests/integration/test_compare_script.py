"""`scripts/compare.py` as a user runs it."""

import csv
import dataclasses
import functools
import json
import os

import pytest

from gan.trainers.compare import Score, _read_score
from tests.scripts import run_script, run_script_here

run = functools.partial(run_script, "compare.py")
run_here = functools.partial(run_script_here, "compare.py")

CONFIG = """def get_config():
    return {"generator": "mlp(8, 1)", "discriminator": "mlp(8, 1)", "num_steps": 4,
            "log_every_steps": 4, "sample_every_steps": 0}
"""


def test_a_table_over_variants_and_seeds_that_goes_on_where_it_stopped(tmp_path):
    (tmp_path / "c.py").write_text(CONFIG)
    args = ("--config", tmp_path / "c.py", "--output", tmp_path / "out", "--seeds", 2)
    first, again = run(*args), run_here(*args)
    for variant in ("adam", "optimistic_adam", "extra_adam", "lookahead_adam"):
        assert f"| {variant} |" in first.stdout
        assert (tmp_path / "out" / "c" / variant / "seed_1" / "checkpoints" / "4").is_dir()
    assert first.stdout == again.stdout
    assert (
        first.stderr.count("| Name") == 2
    )  # a table for each network, whatever the number of runs
    assert first.stderr.count("dynamics lookahead(steps=5, alpha=0.5), optimizers: ") == 2
    assert "training from step" not in again.stderr
    with (tmp_path / "out" / "c" / "comparison.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"variant": "adam"}', "[" * 10_000, "0" * 20_000, None]
)
def test_a_score_that_is_none_is_measured_again(tmp_path, content):
    path = tmp_path / "score_4.json"
    score = Score("adam", 0, 1.5, 2.5, 3.0)
    path.write_text(json.dumps(dataclasses.asdict(score)))
    assert _read_score(path) == score
    path.unlink()
    assert _read_score(path) is None
    os.mkfifo(path) if content is None else path.write_text(content)
    assert _read_score(path) is None
    path.unlink()
    path.write_text(json.dumps(dataclasses.asdict(score) | {"raw": "2.5"}))
    assert _read_score(path) is None


def test_misuse(tmp_path):
    (tmp_path / "c.py").write_text(CONFIG)
    args = ("--config", tmp_path / "c.py", "--output", tmp_path / "out")
    for more, words in (
        (["--seeds", 0], "from 1 to 1000"),
        (["--config.dataset=cifar1"], "did you mean 'cifar10'"),
    ):
        assert words in run_here(*args, *more, code=2).stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()
