"""`scripts/benchmark.py` as a user runs it."""

import json
import subprocess
import sys

import pytest


def run(root, *args, code=0):
    done = subprocess.run(
        [sys.executable, str(root / "scripts" / "benchmark.py"), *map(str, args)],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


SMALL = (
    "--config.dataset=noise(8, 1)", "--config.generator=mlp(16)", "--config.discriminator=mlp(16)",
    "--config.averaging=()", "--config.regularizers=()",
)  # fmt: skip


def test_it_prints_and_writes_what_a_config_costs(root, tmp_path):
    file = tmp_path / "speed.json"
    config = root / "configs" / "digits.py"
    done = run(root, "--config", config, *SMALL, "--rounds", 1, "--json", file)
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
    done = run(root, "--config", root / "configs" / "digits.py", *args, code=2)
    assert words in done.stderr


@pytest.mark.reference
def test_against_pytorch(root, tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "speed.json"
    done = run(
        root, "--config", root / "configs" / "digits.py", *SMALL, "--rounds", 1, "--step_only",
        "--against", "pytorch", "--json", file,
    )  # fmt: skip
    assert "times as fast as its best" in done.stdout
    speed = json.loads(file.read_text())
    assert speed["ratio_to_best_pytorch"] > 0
    assert {"eager", "channels_last"} <= set(speed["pytorch_step_seconds"])
    done = run(
        root, "--config", root / "configs" / "digits.py", "--rounds", 1, "--step_only",
        "--against", "pytorch", code=2,
    )  # fmt: skip
    assert "conditional" in done.stderr  # what the twins do not have
