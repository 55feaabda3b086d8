import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.config import TrainConfig
from gan.dynamics import DYNAMICS
from gan.trainers import train_step
from gan.trainers.experiment import build
from gan.trainers.train_step import (
    _CALL_SECONDS,
    MAX_STEPS,
    Pace,
    make_train_step,
    not_finite,
    scalars,
)

pytestmark = pytest.mark.optimized  # bits of many steps a call


def start(**changes):
    parts = {
        "generator": "dcgan(4)", "discriminator": "dcgan(4)", "batch_size": 16, "latent_dim": 8,
    }  # fmt: skip
    experiment = build(TrainConfig(**(parts | changes)))
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data
    return experiment.init_on_mesh(), data, make_train_step(experiment)


def run(num_steps, **changes):
    state, data, train_step = start(**changes)
    state, metrics, _ = train_step(state, data, num_steps)
    return jax.device_get(state), scalars(metrics)


@pytest.mark.parametrize("dynamics", ["simultaneous", "alternating(2)"])
def test_one_device_and_eight_give_the_same_parameters(dynamics):
    """Batch normalisation included: its statistics are those of the whole batch."""
    one, metrics_one = run(4, mesh="data(1)", dynamics=dynamics)
    eight, metrics_eight = run(4, mesh="data(8)", dynamics=dynamics)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), one, eight)
    for name, value in metrics_one.items():
        np.testing.assert_allclose(metrics_eight[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("placement", ["sharded", "streamed"])
def test_wherever_the_data_are_the_steps_are_the_same(placement):
    parts = {"mesh": "data(8)", "dynamics": "extragradient"}
    whole, _ = run(4, data_placement="replicated", **parts)
    other, _ = run(4, data_placement=placement, **parts)
    jax.tree.map(np.testing.assert_array_equal, whole, other)


def test_the_work_is_split_over_the_devices():
    """No device makes the whole batch: every large array of the program is an eighth of it."""
    state, data, _ = start(mesh="data(8)")
    experiment = build(TrainConfig(generator="dcgan(4)", discriminator="dcgan(4)", batch_size=16,
                                   latent_dim=8, mesh="data(8)"))  # fmt: skip
    with jax.set_mesh(experiment.mesh):
        hlo = make_train_step(experiment).jitted.lower(state, data, 1).compile().as_text()
    assert "f32[2,8,8,1]" in hlo
    assert "f32[16,8,8,1]" not in hlo


def test_many_steps_a_call_are_bitwise_single_steps():
    state, data, train_step = start(mesh="data(1)")
    together, _, _ = train_step(state, data, 6)
    state, data, train_step = start(mesh="data(1)")
    for _ in range(6):
        state, _, _ = train_step(state, data, 1)
    jax.tree.map(np.testing.assert_array_equal, together, state)
    assert int(state.step) == 6


def test_metrics_are_averages_over_the_call():
    state, data, train_step = start(mesh="data(1)")
    singles = []
    for _ in range(3):
        state, metrics, _ = train_step(state, data, 1)
        singles.append(scalars(metrics))
    _, together = run(3, mesh="data(1)")
    for name, value in together.items():
        np.testing.assert_allclose(value, np.mean([one[name] for one in singles]), rtol=1e-5)
    assert set(together) == {
        f"{kind}/{role}"
        for kind in ("loss", "grad_norm", "update_norm", "step_size", "preconditioned_rms")
        for role in ("generator", "discriminator")
    } | {"logits/real", "logits/fake"}


def test_update_norm_is_how_far_a_player_moved():
    """With SGD that is the learning rate times the gradient's norm."""
    _, metrics = run(1, generator_optimizer="sgd(0.5)", discriminator_optimizer="sgd(0.25)")
    for role, rate in (("generator", 0.5), ("discriminator", 0.25)):
        np.testing.assert_allclose(
            metrics[f"update_norm/{role}"], rate * metrics[f"grad_norm/{role}"], rtol=1e-3
        )
        np.testing.assert_allclose(metrics[f"step_size/{role}"], rate, rtol=1e-3)
        assert f"preconditioned_rms/{role}" not in metrics


def test_a_first_gradient_is_as_large_as_its_second_moment_says():
    _, metrics = run(1, generator_optimizer="adam(1e-3)", discriminator_optimizer="adam(1e-3)")
    for role in ("generator", "discriminator"):
        assert 0.5 < metrics[f"preconditioned_rms/{role}"] <= 1.001  # without those that have none


@pytest.mark.parametrize("logged", ["step_size", "preconditioned_rms"])
def test_what_is_logged_of_the_moves_changes_no_bit(monkeypatch, logged):
    """But from JAX 0.12 on: there XLA rounds the update in another way beside `preconditioned_rms`."""
    shown, moves = ("update_norm",), train_step._moves

    def some_moves(*args):
        return {name: value for name, value in moves(*args).items() if name.startswith(shown)}

    monkeypatch.setattr(train_step, "_moves", some_moves)
    without, _ = run(5, mesh="data(1)")
    shown = ("update_norm", logged)
    with_it, metrics = run(5, mesh="data(1)")
    assert f"{logged}/generator" in metrics
    same = np.testing.assert_array_equal
    if logged == "preconditioned_rms" and jax.__version_info__ >= (0, 12):
        same = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(same, with_it, without)


def test_what_is_only_logged_decides_about_no_step():
    """A gradient of 0 has no step size, and no overflow in it makes a step one that was not finite."""
    state, metrics = run(2, generator_optimizer="sgd(0.0)")
    assert metrics["step_size/generator"] == 0
    found = not_finite(
        state, {"step_size/generator": jnp.nan, "preconditioned_rms/generator": jnp.inf}
    )
    assert set(found) <= {"variables/generator", "variables/discriminator"}


def test_one_compilation_and_no_hidden_transfer():
    state, data, train_step = start(mesh="data(8)")
    state, _, _ = train_step(state, data, 1)
    counts = [jax.device_put(np.int32(n), jax.tree.leaves(state)[0].sharding) for n in (1, 2, 5)]
    before = train_step.jitted._cache_size()
    with jax.transfer_guard("disallow"):
        for count in counts:
            state, _, _ = train_step(state, data, count)
    assert train_step.jitted._cache_size() <= before + 1  # a count as an array, not as an int
    assert int(state.step) == 9


def test_lazy_penalties_and_conditional_networks_train():
    state, metrics = run(
        4,
        generator="mlp(8, 1, conditional=True)",
        discriminator="mlp(8, 1, conditional=True)",
        regularizers=("r1(1.0, every=2)", "gradient_penalty(1.0)"),
        loss="wasserstein",
        averaging=(),
    )
    assert metrics["penalty/r1"] > 0
    assert metrics["penalty/gradient_penalty"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.players))
    assert state.averages == {}


@pytest.mark.parametrize("name", DYNAMICS)
@pytest.mark.parametrize("network", ["dcgan(4)", "mlp(8, 1)"])
def test_every_dynamics_trains_a_gan(name, network):
    state, metrics = run(
        2, generator=network, discriminator=network, dynamics=name, regularizers=("r1(0.1)",)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.players))
    for role in ("generator", "discriminator"):
        assert metrics[f"update_norm/{role}"] > 0
    assert int(state.step) == 2


@pytest.mark.parametrize(
    "dynamics", ["extragradient", "lookahead(extragradient)", "alternating(2)"]
)
def test_lazy_penalties_reach_every_nth_update_of_any_dynamics(dynamics):
    """With every = 2, two steps hold as much penalty as the same steps with every = 1 on average."""
    lazy = [run(n, dynamics=dynamics, regularizers=("r1(1.0, every=2)",))[1] for n in (1, 2)]
    assert lazy[0]["penalty/r1"] > 0 or dynamics == "alternating(2)"
    if "extragradient" in dynamics:  # the first step's real update has it, the second's has none
        np.testing.assert_allclose(lazy[1]["penalty/r1"], lazy[0]["penalty/r1"] / 2, rtol=1e-5)
    else:  # updates 0 and 1 make up step 0, and the metrics are those of the last
        assert lazy[1]["penalty/r1"] == 0


def test_no_image_comes_from_the_host():
    """Batches are gathered on the device; nothing but the number of steps is sent there."""
    state, data, train_step = start(mesh="data(8)", data_augmentation=("flip",))
    num_steps = jax.device_put(np.int32(3), data.labels.sharding)
    state, _, _ = train_step(state, data, num_steps)
    with jax.transfer_guard("disallow"):
        state, _, _ = train_step(state, data, num_steps)
    assert int(state.step) == 6


def test_a_flipped_batch_is_the_same_on_one_device_and_on_eight():
    one, _ = run(2, mesh="data(1)", data_augmentation=("flip",))
    eight, _ = run(2, mesh="data(8)", data_augmentation=("flip",))
    plain, _ = run(2, mesh="data(1)")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), one, eight)
    params = one.players.discriminator.params, plain.players.discriminator.params
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, params), strict=True))


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("seconds_a_step", [1e-6, 1e-3, 0.03, 0.7, 5.0])
def test_calls_come_to_last_about_a_second(clock, seconds_a_step):
    pace, steps = Pace(), 0
    for _ in range(12):
        steps = pace.begin_call(at_most=10**9)
        clock[0] += steps * seconds_a_step
        pace.end_call(steps)
    assert 1 <= steps <= MAX_STEPS
    assert steps == MAX_STEPS or steps * seconds_a_step <= max(1.01 * _CALL_SECONDS, seconds_a_step)
    assert steps in (1, MAX_STEPS) or (steps + 2) * seconds_a_step >= _CALL_SECONDS


def test_a_call_ends_where_something_is_due(clock):
    pace = Pace()
    for at_most in (7, 3, 1):
        assert pace.begin_call(at_most) <= at_most
        pace.end_call(1)
