"""`scripts/benchmark.py` as a user runs it."""

import functools
import json

import pytest

from tests.benchmarks import benchmark
from tests.scripts import run_script, run_script_here

run = functools.partial(run_script, "benchmark.py")
run_here = functools.partial(run_script_here, "benchmark.py")


SMALL = (
    "--config.dataset=noise(8, 1)", "--config.generator=mlp(16)", "--config.discriminator=mlp(16)",
    "--config.averaging=()", "--config.regularizers=()",
)  # fmt: skip


def test_it_prints_and_writes_what_a_config_costs(root, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "_CALL_SECONDS", 0.3)
    monkeypatch.setattr(benchmark, "_LOOP_SECONDS", 1.0)
    file = tmp_path / "speed.json"
    config = root / "configs" / "digits.py"
    done = run_here("--config", config, *SMALL, "--rounds", 1, "--json", file)
    for words in ("images a second", "share of that in a step", "command to first step"):
        assert words in done.stdout
    speed = json.loads(file.read_text())
    assert speed["config"]["generator"] == "mlp(16)"
    loop = speed["loop_over_step"]
    assert 0 < loop["low"] <= loop["median"] <= loop["high"]
    assert speed["first_step_seconds"] > 0
    assert speed["ratio_to_best_pytorch"] is None


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--json", "no/such/folder.json"], "--json=no/such/folder.json: there is no such folder"),
        (["--rounds", "0"], "--rounds must be at least 1, given 0"),
        (["--config.generator=mpl"], "did you mean 'mlp'"),
        (["--against", "tensorflow"], "invalid choice"),
    ],
)
def test_misuse_is_a_line(root, args, words):
    done = run_here("--config", root / "configs" / "digits.py", *args, code=2)
    assert words in done.stderr


@pytest.mark.reference
def test_against_pytorch(root, tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "speed.json"
    done = run(
        "--config", root / "configs" / "digits.py", *SMALL, "--rounds", 1, "--step_only",
        "--against", "pytorch", "--json", file,
    )  # fmt: skip
    assert "times as fast as its best" in done.stdout
    speed = json.loads(file.read_text())
    assert speed["ratio_to_best_pytorch"] > 0
    assert {"eager", "channels_last"} <= set(speed["pytorch_step_seconds"])
    done = run(
        "--config", root / "configs" / "digits.py", "--rounds", 1, "--step_only",
        "--against", "pytorch", code=2,
    )  # fmt: skip
    assert "conditional" in done.stderr  # what the twins do not have
