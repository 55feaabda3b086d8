"""Populations: each run is what it is alone, whatever happens to the others."""

import contextlib
import csv
import dataclasses
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.checkpoints import Checkpoints
from gan.config import from_mapping
from gan.errors import RunError, Stopped, UsageError
from gan.optimizers import OPTIMIZERS
from gan.preemption import Stop
from gan.specs import map_numbers, numbers_by_name, parse, to_text
from gan.trainers.experiment import build
from gan.trainers.population import train_members, train_population
from gan.trainers.population.program import find_alike, make_programs
from gan.trainers.population.together import Together
from gan.trainers.run import load
from gan.trainers.run import train as train_run
from gan.trainers.train import train
from tests.every import every_optimizer
from tests.scripts import ROOT, run_script_here

BASE = {
    "dataset": "gaussians", "generator": "mlp(8, 1)", "discriminator": "mlp(8, 1)", "batch_size": 8,
    "latent_dim": 2, "num_steps": 6, "log_every_steps": 3, "checkpoint_every_steps": 3,
    "sample_every_steps": 0, "regularizers": ("r1(weight=0.5)",), "mesh": "data(1)",
}  # fmt: skip


def config(**changes):
    return from_mapping(BASE | changes)


PENALTIES = ("dragan", "r1", "r2", "gradient_penalty", "lecam")


def rate(number):
    return f"optimistic_adam({number}, b1=0.5)"


def four(**changes):
    return [
        config(seed=0, generator_optimizer=rate(1e-3), **changes),
        config(seed=1, generator_optimizer=rate(1e-2), **changes),
        config(seed=4_294_967_295, generator_optimizer=rate(3e-3), regularizers="r1(weight=2)", **changes),
        config(seed=0, generator_optimizer=rate(1e-3), averaging="ema(decay=0.5)", **changes),
    ]  # fmt: skip


def folders(tmp_path, configs):
    return {tmp_path / f"run_{number}": own for number, own in enumerate(configs)}


def assert_same(state, other):
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folders of four runs, each trained alone."""
    members = folders(tmp_path_factory.mktemp("alone"), four())
    for path, own in members.items():
        train(own, path)
    return list(members)


@pytest.mark.parametrize(
    ("mesh", "on_cpu", "placement"), [("data(1)", True, "auto"), ("data(2)", False, "streamed")]
)
def test_each_run_is_what_it_is_alone(tmp_path, alone, monkeypatch, mesh, on_cpu, placement):
    """Side by side; and batched, as on a GPU. In turn on each device is below."""
    init = Together.__init__

    def with_vmap(self, *args):
        init(self, *args)
        self._on_cpu = on_cpu

    monkeypatch.setattr(Together, "__init__", with_vmap)
    members = folders(tmp_path, four(mesh=mesh, data_placement=placement))
    assert train_members(members) == dict.fromkeys(members)
    for path, single in zip(members, alone, strict=True):
        assert_same(load(path).state, load(single).state)
        logged, expected = lines(path), lines(single)
        assert [line["step"] for line in logged] == [3, 6]
        for line, other in zip(logged, expected, strict=True):
            assert line["learning_rate/generator"] == other["learning_rate/generator"]
            assert line["loss/generator"] == pytest.approx(other["loss/generator"], rel=1e-4)
    path = next(iter(members))  # which is a run like any other: it goes on alone
    again = dataclasses.replace(members[path], num_steps=7, mesh="data(1)")
    assert train_run(again, path).step == 7


def test_one_that_fails_changes_no_other(tmp_path, alone):
    configs = four(mesh="data(2)")
    configs[1] = dataclasses.replace(configs[1], generator_optimizer=rate(1e30))
    members = folders(tmp_path, configs)
    results = list(train_members(members).values())
    assert isinstance(results[1], RunError)
    assert "not finite" in str(results[1])
    assert results[0] is results[2] is results[3] is None
    for number in (0, 2, 3):
        assert_same(load(list(members)[number]).state, load(alone[number]).state)


def test_a_finished_run_is_not_run_again_and_a_stopped_one_goes_on_bit_by_bit(tmp_path):
    class After(Stop):
        """Stops after so many calls of the step."""

        calls = 0

        def agreed(self):
            self.calls += 1
            if self.calls > 2:
                self.requested = signal.SIGTERM
            return super().agreed()

    configs = four()[:3]
    undisturbed, members = folders(tmp_path / "a", configs), folders(tmp_path / "b", configs)
    train_members(undisturbed)
    with pytest.raises(Stopped):
        train_members(members, stop=After())
    for _ in range(3):  # the last time all are complete
        assert train_members(members) == dict.fromkeys(members)
    for path, other in zip(members, undisturbed, strict=True):
        assert Checkpoints(path).newest().state == Checkpoints(other).newest().state
    assert (
        '"start"' not in (tmp_path / "b" / "run_0" / "history.jsonl").read_text().split("\n", 1)[1]
    )


def programs(*configs):
    experiments = {index: build(own) for index, own in enumerate(configs)}
    return [
        (program is not None, paths)
        for alike in find_alike(experiments)
        for program, paths in make_programs(alike, jax.devices()[0], {})
    ]


def test_what_decides_what_is_compiled_has_a_program_of_its_own():
    assert programs(*four()) == [(True, [0, 1, 2, 3])]
    widths = [
        config(generator=f"mlp({width}, 1)", seed=seed) for width in (4, 8) for seed in (0, 1)
    ]
    assert programs(*widths) == [(True, [0, 1]), (True, [2, 3])]
    mixed = [
        config(regularizers=f"r1(weight={weight}, every={every})")
        for weight in (0.5, 1)
        for every in (1, 2)
    ]
    assert programs(*mixed) == [(True, [0, 2]), (True, [1, 3])]
    assert programs(config(batch_size=4), config()) == [(False, [0]), (False, [1])]
    other_data = [config(dataset=f"gaussians(modes={n})") for n in (4, 8)]
    assert programs(*other_data) == [(False, [0]), (False, [1])]
    same_program = config(seed=3, num_steps=9, log_every_steps=1, on_nonfinite="skip")
    assert programs(config(), same_program) == [(True, [0, 1])]


def with_all_numbers(spec):
    """The same spec with every number of its part that has a default."""
    chain = parse(spec)
    given = {name for name, _ in chain[0].kwargs} | {"learning_rate"}
    defaults = {
        name: parameter.default
        for name, parameter in OPTIMIZERS.parameters(chain[0].name).items()
        if isinstance(parameter.default, float) and name not in given and not chain[0].args
    }
    kwargs = (*chain[0].kwargs, *defaults.items())
    return (dataclasses.replace(chain[0], kwargs=kwargs), *chain[1:])


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(spec, marks=[pytest.mark.slow] if place % 4 else [])
        for place, spec in enumerate(every_optimizer())
    ],
)
def test_a_number_of_an_optimizer_is_traced_as_it_is_or_not_at_all(spec):
    """What cannot be traced is compiled apart; what can be does what it does where it is known."""
    numbers: list[float] = []

    def name(number):
        numbers.append(number)
        return parse(f"_{len(numbers) - 1}")[0]

    named = to_text(map_numbers(with_all_numbers(spec), name))
    params = {"w": jnp.arange(6.0).reshape(2, 3) / 7 - 0.3}

    def two_updates(values):
        with numbers_by_name({f"_{place}": value for place, value in enumerate(values)}):
            optimizer = OPTIMIZERS.build(named)
        own, state = params, optimizer.init(params)
        for scale in (1.0, -0.5):
            gradient = jax.tree.map(lambda leaf, s=scale: s * leaf, params)
            updates, state = optimizer.update(gradient, state, own)
            own = jax.tree.map(jnp.add, own, updates)
        return own

    def put(place, value, into):
        return [*into[:place], value, *into[place + 1 :]]

    traced = []
    for place, number in enumerate(numbers):
        with contextlib.suppress(Exception):
            jax.eval_shape(lambda value, at=place: two_updates(put(at, value, numbers)), number)
            traced.append(place)
    other = list(numbers)
    for place in traced:
        other[place] = 0.5 * numbers[place] if isinstance(numbers[place], float) else numbers[place]
    if not traced:
        return

    def with_traced(values):
        return two_updates([values.get(place, own) for place, own in enumerate(numbers)])

    batched = jax.vmap(with_traced)({place: jnp.array([other[place]]) for place in traced})
    np.testing.assert_allclose(batched["w"][0], two_updates(other)["w"], rtol=2e-4, atol=1e-6)


def test_numbers_of_other_parts_are_arguments_of_the_program(tmp_path):
    """All penalties and averages at once, each with a number that differs."""

    def own(x, seed):
        return config(
            seed=seed, num_steps=3, checkpoint_every_steps=3,
            regularizers=tuple(f"{name}(weight={x})" for name in PENALTIES),
            averaging=(f"ema(decay={0.5 * x})", f"ema_images(half_life={10 * x})"),
            dynamics=f"lookahead(alpha={0.5 * x}, steps=2)",
            generator_optimizer=f"clip_by_global_norm({x}) | adam(cosine_decay_schedule({1e-2 * x}, 5))",
        )  # fmt: skip

    members = folders(tmp_path, [own(1.0, 0), own(0.5, 0)])
    assert programs(*members.values()) == [(True, [0, 1])]
    assert train_members(members) == dict.fromkeys(members)
    for number, (path, single) in enumerate(members.items()):
        train(single, tmp_path / f"alone_{number}")
        assert_same(load(path).state, load(tmp_path / f"alone_{number}").state)


CONFIG = f"def get_config():\n    return {BASE!r}\n"


def test_a_population_as_a_user_has_it(tmp_path):
    train_script = functools.partial(run_script_here, "train.py")
    (tmp_path / "c.py").write_text(CONFIG)
    folder = tmp_path / "runs"
    first = train_script(
        "--config", tmp_path / "c.py", "--workdir", folder, "--config.population=2"
    )
    assert "seed_1: [3] " in first.stderr
    assert [line.split(" | ")[0] for line in first.stdout.splitlines()] == [
        "| run", "|---|---|---|---|---|---|---|", "| seed_0", "| seed_1",
    ]  # fmt: skip
    with (folder / "sweep.csv").open() as file:
        assert [row["steps"] for row in csv.DictReader(file)] == ["6", "6"]
    longer = train_script("--workdir", folder, "--config.num_steps=7", "--config.population=3")
    assert [row.split(" | ")[2] for row in longer.stdout.splitlines()[2:]] == ["7", "7", "7"]
    assert "training from step 6" in longer.stderr
    run_script_here("sample.py", "--workdir", folder / "seed_2", "--output", tmp_path / "x.png")
    assert load(folder / "seed_1").config.seed == 1

    single = tmp_path / "single"
    train_script("--config", tmp_path / "c.py", "--workdir", single)
    population = ("--config", tmp_path / "c.py", "--config.population=3", "--workdir")
    named = f"{folder} is a population of 3 runs (seed_0, seed_1, seed_2): name one of them"
    for script, args, words in (
        ("sample.py", ("--workdir", folder, "--output", tmp_path / "y.png"), named),
        ("evaluate.py", ("--workdir", folder), named),
        ("train.py", ("--config", tmp_path / "c.py", "--workdir", folder), named),
        ("train.py", (*population, single), "single holds a single run"),
        ("train.py", (*population, folder, "--config.loss=hinge"), "loss was 'non_saturating' and is"),
        ("train.py", (*population, folder, "--profile"), "--profile goes with a single run"),
        ("train.py", (*population, tmp_path / "z", "--config.seed=4294967295"), "seed must be in [0, 4294967296)"),
    ):  # fmt: skip
        assert words in run_script_here(script, *args, code=2).stderr.strip().splitlines()[-1]


def test_a_sweep_as_a_user_has_it(tmp_path):
    (tmp_path / "c.py").write_text(CONFIG)
    folder = tmp_path / "sweep"
    sweep = functools.partial(
        run_script_here, "sweep.py", "--config", tmp_path / "c.py", "--workdir", folder
    )
    rates = "generator_optimizer.learning_rate=1e-3,1e30"
    done = sweep("--vary", rates, "--vary", "batch_size=4,8", code=1)
    assert "2 of the runs failed: learning_rate=1e30_batch_size=4: step " in done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines()]
    assert rows[0][:4] == ["| run", "generator_optimizer.learning_rate", "batch_size", "seed"]
    assert [row[1:4] for row in rows[2:]] == [
        ["1e-3", "4", "0"], ["1e-3", "8", "0"], ["1e30", "4", "0"], ["1e30", "8", "0"],
    ]  # fmt: skip
    again = run_script_here("train.py", "--workdir", folder, "--config.num_steps=7", code=1)
    assert again.stdout.count("| 7 |") == 2
    (folder / "members.json").write_text("[]")
    words = "members.json does not name the runs of a sweep"
    assert words in run_script_here("train.py", "--workdir", folder, code=2).stderr
    for args, expected in (
        (["--vary", "generator_optimizer.learning_rat=1,2"], "did you mean 'learning_rate'"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--vary", "loss=hinge"], "a population has at least 2 runs"),
    ):
        assert expected in sweep(*args, code=2).stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_killed_and_resumed_it_ends_bit_by_bit_the_same(tmp_path):
    (tmp_path / "c.py").write_text(CONFIG)
    changes = ("num_steps=1500", "checkpoint_every_steps=300", "population=3")

    def start(folder):
        command = [sys.executable, ROOT / "scripts" / "train.py", "--config", tmp_path / "c.py"]
        command += ["--workdir", folder, *(f"--config.{change}" for change in changes)]
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, text=True, **quiet)

    def finish(folder):
        process = start(folder)
        process.communicate()
        assert process.returncode == 0

    undisturbed, folder, chance = tmp_path / "a", tmp_path / "b", random.Random(0)
    finish(undisturbed)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        process = start(folder)
        for line in process.stderr:
            if "training from step" in line:
                break
        time.sleep(2 * chance.random())
        process.send_signal(number)
        process.communicate()
    finish(folder)
    for name in ("seed_0", "seed_1", "seed_2"):
        newest = [Checkpoints(own / name).newest() for own in (undisturbed, folder)]
        assert newest[0].step == newest[1].step == 1500
        assert newest[0].state == newest[1].state


def test_runs_that_do_not_divide_over_the_devices_are_trained_one_by_one(tmp_path):
    configs = [config(seed=seed, num_steps=2, mesh="data(2)") for seed in range(3)]
    assert set(train_members(folders(tmp_path, configs)).values()) == {None}


def test_misuse(tmp_path):
    with pytest.raises(UsageError, match="3 runs with one program do not divide over 2 devices"):
        train_population(config(population=3, mesh="data(2)"), tmp_path)
    with pytest.raises(UsageError, match="population = 2: several runs are trained by"):
        train_run(BASE | {"population": 2}, tmp_path / "x")
    with pytest.raises(UsageError, match="learning_rate must be at least 0"):
        train_members({tmp_path / "x": config(generator_optimizer="adam(-1)")})
    assert not list(tmp_path.iterdir())
