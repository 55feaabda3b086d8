"""`scripts/benchmark.py` as a user runs it."""

import dataclasses
import functools
import json

import pytest

from gan import config_files
from gan.data import DATASETS
from tests.benchmarks import benchmark, recipes
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
        (
            ["--config", "cifar"],
            "--config=cifar is neither a recipe nor a file; did you mean 'cifar10'",
        ),
        (
            ["--against", "tensorflow"],
            "--against tensorflow: accepted are pytorch and KEY=VALUE of the config",
        ),
        (["--against", "precison=bfloat16"], "did you mean 'precision'"),
        (["--against", "precision=float32"], "--against precision=float32 changes nothing"),
    ],
)
def test_misuse_is_a_line(root, args, words):
    done = run_here("--config", root / "configs" / "digits.py", *args, code=2)
    assert words in done.stderr


def test_recipes_are_known_by_name_and_measured_one_after_the_other(tmp_path, monkeypatch):
    same = benchmark.Spread(1.0, 1.0, 1.0)
    figures = dict.fromkeys(
        ["step_seconds", "images_per_second", "call_over_single", "peak_flops", "share_of_peak"], same
    )  # fmt: skip
    numbers = dict.fromkeys(
        ["steps_a_call", "step_flops", "peak_memory_bytes", "compile_seconds"], 1
    )
    commands = []

    def measure(config, rounds, start_pytorch, train_command, loop, other):
        assert start_pytorch is None
        assert other == dataclasses.replace(config, precision="bfloat16", batch_size=4)
        commands.append(train_command)
        return benchmark.BenchmarkResult(
            dataclasses.asdict(config), "a machine", {}, **figures, **numbers, no_twin="why"
        )

    monkeypatch.setattr(benchmark, "measure", measure)
    file = tmp_path / "speed.json"
    done = run_here(
        "--config", "cifar10_sngan", "mnist", "--noise", "--config.batch_size=8", "--json", file,
        "--against", "precision=bfloat16", "batch_size=4",
    )  # fmt: skip
    for words in ("cifar10_sngan\n", "\nmnist\n", "has no twin of it: why"):
        assert words in done.stdout
    speeds = json.loads(file.read_text())
    datasets = [speed["config"]["dataset"] for speed in speeds.values()]
    assert datasets == ["noise(32, 3)", "noise(28, 1)"]
    assert [speed["config"]["batch_size"] for speed in speeds.values()] == [8, 8]
    changes = ["--config.batch_size=8", "--config.dataset=noise(28, 1)"]
    assert commands[1][-3].endswith("mnist.py")
    assert commands[1][-2:] == changes


def test_every_recipe_has_a_name_and_data_to_stand_in(root):
    found = recipes.find_recipes(["all", str(root / "configs" / "digits.py")])
    assert list(found) == sorted(path.stem for path in (root / "configs").glob("[!_]*.py"))
    for path in found.values():
        dataset = config_files.load(path).dataset
        stand_in = DATASETS.build(recipes.noise_like(dataset))
        assert stand_in.shape == recipes.data_shape(dataset)[0]


@pytest.mark.reference
def test_against_pytorch(root, tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "speed.json"
    done = run(
        "--config", root / "configs" / "digits.py", *SMALL, "--rounds", 1, "--step_only",
        "--against", "pytorch", "precision=float32", "--config.precision=bfloat16", "--json", file,
    )  # fmt: skip
    assert "times as fast as its best" in done.stdout
    speed = json.loads(file.read_text())
    assert speed["other"] == {"precision": "float32"}
    assert speed["ratio_to_other"]["median"] > 0
    assert speed["ratio_to_best_pytorch"] > 0
    assert {"eager", "channels_last"} <= set(speed["pytorch_step_seconds"])
    done = run("--config", "digits", "--rounds", 1, "--step_only", "--against", "pytorch")
    assert "has no twin of it: " in done.stdout
    assert "conditional" in done.stdout
