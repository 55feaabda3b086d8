"""The learning rate at step t is schedule(t), whatever the dynamics, the optimizer and the resumes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan
from gan.dynamics import DYNAMICS
from gan.games import GAMES
from gan.optimizers import OPTIMIZERS, rates_of
from gan.players import Pair, PlayerState, pairwise
from gan.schedules import SCHEDULES, counted_from
from tests.every import every_optimizer

CONFIG = {
    "dataset": "gaussians", "generator": "mlp(width=8)", "discriminator": "mlp(width=8)",
    "batch_size": 8, "num_steps": 12, "log_every_steps": 1, "sample_every_steps": 0, "mesh": "data(1)",
}  # fmt: skip


@pytest.fixture
def seen(monkeypatch):
    """The counts with which the schedule `spy` was called."""
    monkeypatch.setattr(SCHEDULES, "_makers", dict(SCHEDULES._makers))
    counts = []

    @SCHEDULES.register("spy")
    def spy():
        def schedule(count):
            jax.debug.callback(lambda number: counts.append(int(number)), count)
            return 0.01 + 0.0 * count

        return schedule

    return counts


def counts_by_step(seen, dynamics, optimizer, steps):
    """For each step, the counts with which a game's players call their schedule."""
    rule, built = DYNAMICS.build(dynamics), OPTIMIZERS.build(optimizer)
    game, optimizers = GAMES.build("quadratic"), Pair(generator=built, discriminator=built)
    players = pairwise(
        lambda own, network: PlayerState(*network, own.init(network[0])),
        optimizers, game.init(jax.random.key(0)),
    )  # fmt: skip
    memory, found = rule.init(players), []
    for step in steps:
        seen.clear()
        with counted_from(jnp.int32(step)):
            batches = [None] * rule.num_batches
            rule.step(game, optimizers, players, memory, batches, jax.random.key(0))
        jax.effects_barrier()
        found.append(set(seen))
    return found


@pytest.mark.parametrize("dynamics", [*DYNAMICS, "alternating(5)", "lookahead(extragradient)"])
def test_every_dynamics(seen, dynamics):
    assert counts_by_step(seen, dynamics, "optimistic_adam(spy)", (0, 7)) == [{0}, {7}]


@pytest.mark.parametrize(
    "optimizer", [text for text in every_optimizer() if "learning_rate=0.01" in text]
)
def test_every_optimizer(seen, optimizer):
    spec = optimizer.replace("learning_rate=0.01", "learning_rate=spy")
    try:
        OPTIMIZERS.build(spec)
    except gan.UsageError as error:
        pytest.skip(f"it takes no schedule: {error}")
    assert counts_by_step(seen, "alternating(3)", spec, (7,)) == [{7}]


def test_alternating_goes_by_the_schedule_of_the_step():
    """On the loss y, five steps of SGD go by 5 rate(t); a count of calls would give another sum."""
    game = gan.make_game(
        lambda x, y, *_: x.sum(), lambda x, y, *_: y.sum(), jnp.zeros(1), jnp.zeros(1)
    )
    path = gan.play(game, "sgd(linear_schedule(1.0, 0.0, 10))", "alternating(5)", num_steps=10)
    rates = 1 - np.arange(10) / 10
    np.testing.assert_allclose(-np.diff(path.generator[:, 0]), rates, rtol=1e-5)
    np.testing.assert_allclose(-np.diff(path.discriminator[:, 0]), 5 * rates, rtol=1e-5)


def test_a_schedule_within_a_schedule_has_the_count_that_it_is_given():
    joined = "join_schedules((constant_schedule(1.0), linear_schedule(1.0, 0.0, 10)), (5,))"
    game = gan.make_game(
        lambda x, y, *_: x.sum(), lambda x, y, *_: y.sum(), jnp.zeros(1), jnp.zeros(1)
    )
    path = gan.play(game, f"sgd({joined})", "extragradient", num_steps=12)
    expected = [1.0] * 5 + [1 - t / 10 for t in range(7)]
    np.testing.assert_allclose(-np.diff(path.generator[:, 0]), expected, rtol=1e-5)


def test_half_a_cosine_from_one_value_to_another():
    """The values of R3GAN's `cosine_decay_with_warmup` for b2, by its formula."""
    schedule = SCHEDULES.build("cosine_schedule(0.9, 0.99, 20)")
    steps = np.arange(26)
    decay = 0.5 * (1 + np.cos(np.pi * np.minimum(steps, 20) / 20))
    np.testing.assert_allclose(schedule(steps), 0.9 + (1 - decay) * (0.99 - 0.9), rtol=1e-6)


def cosine(rate, steps, t):
    return rate * (1 + math.cos(math.pi * min(t, steps) / steps)) / 2


def test_the_rate_is_logged_and_goes_to_the_end(tmp_path):
    keys = {
        "dynamics": "alternating(discriminator_steps=5)",
        "generator_optimizer": "optimistic_adam(cosine_decay_schedule(1e-3, 12))",
        "discriminator_optimizer": "adam(cosine_decay_schedule(4e-3, 12))",
    }
    run = gan.train(CONFIG | keys | {"num_steps": 5}, tmp_path / "run")
    run = gan.train(CONFIG | keys, tmp_path / "run")  # stopped and resumed
    for line in run.metrics:
        at = line["step"] - 1
        assert line["learning_rate/generator"] == pytest.approx(cosine(1e-3, 12, at), rel=1e-4)
        assert line["strength/generator"] == line["learning_rate/generator"]
        assert line["learning_rate/discriminator"] == pytest.approx(cosine(4e-3, 12, at), rel=1e-4)
        assert line["update_norm/discriminator"] > 0
        assert "strength/discriminator" not in line
    whole = gan.train(CONFIG | keys)
    np.testing.assert_array_equal(run.sample(4), whole.sample(4))


def test_a_schedule_that_is_put_in_at_a_resume_goes_by_the_step(tmp_path):
    gan.train(CONFIG | {"num_steps": 6, "generator_optimizer": "sgd(0.1)"}, tmp_path / "run")
    changed = CONFIG | {"num_steps": 7, "generator_optimizer": "sgd(linear_schedule(0.1, 0.0, 10))"}
    before = gan.load(tmp_path / "run")
    after = gan.train(changed, tmp_path / "run", on_optimizer_change="keep_moments")
    assert after.metrics[-1]["learning_rate/generator"] == pytest.approx(0.04)
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()),
        before.state.players.generator.params, after.state.players.generator.params,
    )  # fmt: skip
    assert max(jax.tree.leaves(moved)) > 0
    step = after.metrics[-1]
    assert step["update_norm/generator"] == pytest.approx(
        0.04 * step["grad_norm/generator"], rel=1e-4
    )
    history = (tmp_path / "run" / "history.jsonl").read_text()
    assert "at step 6; by the schedules, learning rate of the generator 0.04" in history


@pytest.mark.parametrize(
    ("spec", "at_3"),
    [
        ("adam(1e-3)", {"learning_rate": 1e-3}),
        ("optimistic_adam(2e-4)", {"learning_rate": 2e-4, "strength": 2e-4}),
        ("optimistic_adam(0.1, strength=linear_schedule(1.0, 0.0, 10))",
         {"learning_rate": 0.1, "strength": 0.7}),
        ("apply_if_finite(sgd(linear_schedule(1.0, 0.0, 10)), 3)", {"learning_rate": 0.7}),
        ("clip_by_global_norm(1.0) | rmsprop(0.5)", {"learning_rate": 0.5}),
        ("scale_by_adam | scale(-1.0)", {}),
    ],
)  # fmt: skip
def test_rates_of_a_spec(spec, at_3):
    assert rates_of(spec).at(3) == pytest.approx(at_3)
