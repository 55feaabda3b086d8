"""`scripts/spectrum.py` as a user runs it."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from gan.checkpoints import Checkpoints
from gan.config import TrainConfig
from gan.errors import UsageError
from gan.players import PlayerState
from gan.trainers.diagnosis import diagnose as module
from gan.trainers.diagnosis.diagnose import Protocol, diagnose_run
from gan.trainers.diagnosis.field import choose_point, make_field
from gan.trainers.diagnosis.report import config_line
from gan.trainers.resume import load_step
from gan.trainers.train import train
from tests.scripts import run_script_here

run = functools.partial(run_script_here, "spectrum.py")

CONFIG = TrainConfig(
    generator="mlp(4, 1)", discriminator="mlp(4, 1)", batch_size=16, latent_dim=4, num_steps=20,
    dynamics="lookahead(alternating, steps=2)", generator_optimizer="adam(1e-3, b1=0.5)",
    discriminator_optimizer="adam(2e-3, b1=0.5, b2=0.99)", regularizers=("r1(weight=0.5, every=4)",),
    log_every_steps=10, checkpoint_every_steps=10, sample_every_steps=0, mesh="data(1)",
)  # fmt: skip
SMALL = ("--k", 1, "--num_batches", 2, "--batch_size", 8)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(CONFIG, folder)
    return folder


def test_all_steps_are_told_drawn_and_written(workdir):
    done = run("--workdir", workdir, "--steps", "all", *SMALL)
    assert done.stdout.count("the field as the optimizers see it") == 2
    assert "leading multipliers of lookahead(alternating, steps=2) itself" in done.stdout
    assert "adam(0.00" in done.stdout
    folder = workdir / "spectrum"
    assert (folder / "spectrum.png").read_bytes()[:4] == b"\x89PNG"
    assert (folder / "path_angle.png").stat().st_size > 1000
    content = json.loads((folder / "spectrum.json").read_text())
    assert content["protocol"]["num_batches"] == 2
    assert [own["step"] for own in content["checkpoints"]] == [10, 20]
    assert content["path_angle"]["steps"] == [10, 20]
    last = content["checkpoints"][-1]
    assert last["batch_size"] == 8
    for name in ("field", "field_as_optimizers_see_it"):
        assert 0 <= last[name]["rotation"] <= 1
        assert all(own["residual"] < 1e-3 for own in last[name]["eigenvalues"] if own["converged"])
    line = last["advice"][0]["to_type"]
    rate = last["advice"][0]["best_rate"]
    assert f"{2 * rate:.3g}" in line  # the discriminator's is twice the generator's
    assert "b2=0.99" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--k", 0], "--k must be from 1 to 100, given 0"),
        (["--num_batches", 0], "--num_batches must be from 1 to 1,000"),
        (["--steps", 15], "10, 20"),
        (["--weights", "best"], "this run has ema, raw, slow"),
        (["--path_angle", "10"], "two steps are accepted"),
        (["--path_angle", "10,15"], "saved are 10, 20"),
        (["--path_angle", "20,20"], "two steps are needed"),
        (["--output", "/dev/null/x"], "cannot be written"),
        (["--batch_size", 0], "--batch_size must be at least 1"),
        (["--batch_size", 10**6], "the data have 1,797 examples"),
        (["--workdir", "/nowhere"], "nowhere"),
    ],
)
def test_misuse_is_told_in_a_line(workdir, flags, message):
    done = run("--workdir", workdir, *flags, code=2)
    assert done.stderr.count("error: ") == 1
    assert message in done.stderr
    assert done.stdout == ""


def test_a_checkpoint_without_both_players_is_no_game(workdir, monkeypatch):
    def choose(experiment, state, weights):
        return state.players.put("discriminator", PlayerState({}, {}, ()))

    monkeypatch.setattr(module, "choose_point", choose)
    with pytest.raises(UsageError, match="no parameters of the discriminator"):
        diagnose_run(workdir, protocol=Protocol(k=1, num_batches=1))


def test_weights_are_the_points_that_they_name(workdir):
    with Checkpoints(workdir) as checkpoints:
        experiment, state = load_step(checkpoints, None)
    raw, averaged, slow = (choose_point(experiment, state, name) for name in ("raw", "ema", "slow"))
    assert raw is state.players
    jax.tree.map(
        np.testing.assert_array_equal, averaged.generator.params, state.averages["ema"]["params"]
    )
    assert averaged.discriminator is state.players.discriminator
    jax.tree.map(
        np.testing.assert_array_equal, slow.discriminator.params,
        state.dynamics_state.slow.discriminator,
    )  # fmt: skip


def test_the_field_is_the_mean_of_a_lazy_run_in_float32(workdir):
    """Penalties every n-th step, times n, are as many as one at each step."""
    with Checkpoints(workdir) as checkpoints:
        experiment, state = load_step(checkpoints, None)
    field = make_field(experiment, 4, 8, 0)
    assert experiment.game.regularizers["r1"].every == 4
    assert field.game.regularizers["r1"].every == 1
    batch = jax.tree.map(lambda x: x[0], field.batches)

    def gradient(game, update):
        drawn = batch.replace(update=update)
        return game.gradient("discriminator", state.players, drawn, field.keys[0]).value

    lazily = jax.jit(jax.vmap(lambda update: gradient(experiment.game, update)))(np.arange(4))
    mean = jax.tree.map(lambda own: own.mean(0), lazily)
    ours = jax.jit(lambda: gradient(field.game, np.int32(3)))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, mean)
    again = make_field(experiment, 2, 8, 0)
    np.testing.assert_array_equal(again.batches.examples, field.batches.examples[:2])


@pytest.mark.slow
def test_plain_descent_has_advice_of_plain_descent(workdir, tmp_path):
    config = dataclasses.replace(
        CONFIG, dynamics="simultaneous", generator_optimizer="sgd(0.1)",
        discriminator_optimizer="rmsprop(0.01)", precision="bfloat16",
    )  # fmt: skip
    train(dataclasses.replace(config, num_steps=10), tmp_path / "run")
    (found,), between = diagnose_run(tmp_path / "run", protocol=Protocol(k=1, num_batches=1))
    assert between is None
    assert found.seen is None
    assert "sgd of the generator is not" in found.notes[0]
    assert found.own is None
    assert all(np.isnan(own.condition) for own in found.plain.eigenvalues)  # of a single batch
    assert "_optimizer='sgd(" in config_line(found.advice[0].method, 0.1, None).replace(
        "optimistic_", ""
    )
