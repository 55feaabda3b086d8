"""Populations: each run is what it is alone, whatever happens to the others."""

import dataclasses
import json
import signal

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
from gan.trainers.population import train_members
from gan.trainers.population.program import find_alike, make_programs
from gan.trainers.population.together import Together
from gan.trainers.run import load
from gan.trainers.run import train as train_run
from gan.trainers.train import train
from tests.every import every_optimizer

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
    ("mesh", "on_cpu"), [("data(1)", True), ("data(2)", True), ("data(2)", False)]
)
def test_each_run_is_what_it_is_alone(tmp_path, alone, monkeypatch, mesh, on_cpu):
    """Side by side; each device in turn; batched, as on a GPU."""
    init = Together.__init__

    def with_vmap(self, *args):
        init(self, *args)
        self._on_cpu = on_cpu

    monkeypatch.setattr(Together, "__init__", with_vmap)
    members = folders(tmp_path, four(mesh=mesh))
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


@pytest.mark.parametrize("mesh", ["data(1)", "data(2)"])
def test_one_that_fails_changes_no_other(tmp_path, alone, mesh):
    configs = four(mesh=mesh)
    configs[1] = dataclasses.replace(configs[1], generator_optimizer=rate(3e38))
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
        for program, paths in make_programs(alike, jax.devices()[0])
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
    other_data = [config(dataset=f"gaussians(num_modes={n})") for n in (4, 8)]
    assert programs(*other_data) == [(False, [0]), (False, [1])]
    same_program = config(seed=3, num_steps=9, log_every_steps=1, on_nonfinite="skip")
    assert programs(config(), same_program) == [(True, [0, 1])]


@pytest.mark.parametrize("spec", every_optimizer())
def test_numbers_of_every_optimizer_can_be_traced_or_are_refused(spec):
    """A number that is traced does what it does where it is known; it is never left out."""
    numbers: list[float] = []

    def name(number):
        numbers.append(number)
        return parse(f"_{len(numbers) - 1}")[0]

    named = to_text(map_numbers(parse(spec), name))
    params = {"w": jnp.arange(6.0).reshape(2, 3) / 7 - 0.3, "b": jnp.ones([3])}

    def two_updates(values):
        with numbers_by_name({f"_{i}": value for i, value in enumerate(values)}):
            optimizer = OPTIMIZERS.build(named)
        own, state = params, optimizer.init(params)
        for scale in (1.0, -0.5):
            gradient = jax.tree.map(lambda leaf, s=scale: s * leaf, params)
            updates, state = optimizer.update(gradient, state, own)
            own = jax.tree.map(jnp.add, own, updates)
        return own

    rows = [numbers, [n * 0.5 if isinstance(n, float) else n for n in numbers]]
    try:
        expected = [two_updates(row) for row in rows]
    except Exception:  # noqa: BLE001 - it needs more than a gradient, and no run has it
        return
    try:
        batched = jax.vmap(two_updates)([jnp.array(column) for column in zip(*rows, strict=True)])
    except Exception:  # noqa: BLE001 - runs that differ in it are compiled apart
        return
    for index, own in enumerate(expected):
        for key, leaf in own.items():
            np.testing.assert_allclose(
                batched[key][index], leaf, rtol=2e-4, atol=1e-6, err_msg=spec
            )


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


def test_misuse(tmp_path):
    with pytest.raises(UsageError, match="3 runs with one program do not divide over 2 devices"):
        train_members(folders(tmp_path, four(mesh="data(2)")[:3]))
    with pytest.raises(UsageError, match="population = 2: several runs are trained by"):
        train_run(BASE | {"population": 2}, tmp_path / "x")
    with pytest.raises(UsageError, match="learning_rate must be at least 0"):
        train_members({tmp_path / "x": config(generator_optimizer="adam(-1)")})
    assert not list(tmp_path.iterdir())
