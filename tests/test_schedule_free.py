"""The weights of schedule-free optimizers are the x of the paper: by a recursion in NumPy, or refused."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import gan
from gan import schedule_free
from gan.config import TrainConfig
from gan.dynamics import DYNAMICS
from gan.errors import UsageError
from gan.games import GAMES
from gan.optimizers import OPTIMIZERS
from gan.players import ROLES, Pair, PlayerState, pairwise
from gan.schedules import counted_from
from gan.trainers.experiment import build
from gan.trainers.sampling import make_sampler, weights_of
from gan.trainers.state_transfer import transfer
from gan.trainers.train_step import make_train_step
from tests.every import every_optimizer

CONFIG = TrainConfig(
    dataset="gaussians", generator="mlp(8, 1)", discriminator="mlp(8, 1)", batch_size=8,
    latent_dim=4, num_steps=12, log_every_steps=4, sample_every_steps=0, mesh="data(1)",
    generator_optimizer="schedule_free_sgd(0.5)", averaging=("uniform", "ema(0.9)"),
    dynamics="alternating",
)  # fmt: skip

# For each spec: b1, the rate at step t, and whether the direction is Adam's.
SPECS = {
    "schedule_free_sgd(0.1, b1=0.8)": (0.8, lambda t: 0.1, False),
    "schedule_free_adamw(0.05)": (0.9, lambda t: 0.05, True),
    "schedule_free(sgd(0.1), 0.1, b1=0.5)": (0.5, lambda t: 0.1, False),
    "scale(1.0) | schedule_free(sgd(linear_schedule(0.1, 0.3, 4)), linear_schedule(0.1, 0.3, 4))":
        (0.9, lambda t: 0.1 + 0.05 * min(t, 4), False),
    "schedule_free_adamw(warmup_constant_schedule(0.02, 0.1, 4))":
        (0.9, lambda t: 0.02 + 0.02 * min(t, 4), True),
}  # fmt: skip


def algorithm_1(start, gradients, rates, b1, adam, b2=0.999, eps=1e-8):
    """Defazio et al. 2024, Algorithm 1, in NumPy: each y at which a gradient is taken, and the last x.

    The moment's bias is corrected in the direction, as in optax, and not in the weights of the mean.
    """
    x = z = start
    v, total, ys = np.zeros_like(start), 0.0, []
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        ys.append((1 - b1) * z + b1 * x)
        v = b2 * v + (1 - b2) * g**2
        z = z - rate * (g / (np.sqrt(v / (1 - b2**t)) + eps) if adam else g)
        total += rate**2
        x = (1 - rate**2 / total) * x + rate**2 / total * z
    return ys, x


def recorded(optimizer, step, calls):
    """The optimizer, which appends each gradient, the parameters then, and the run's step to `calls`."""

    def record(gradient, params):
        calls.append((np.asarray(gradient), np.asarray(params), step[0]))

    def update(gradient, state, params=None, **extra):
        jax.debug.callback(record, gradient, params, ordered=True)
        return optax.with_extra_args_support(optimizer).update(gradient, state, params, **extra)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def kept(calls):
    """The last of the calls from one point in a step: the others may have been looks ahead, dropped."""
    return [
        call
        for call, after in zip(calls, [*calls[1:], None], strict=True)
        if after is None or after[2] != call[2] or (after[1] != call[1]).any()
    ]


@pytest.mark.parametrize("optimizer", SPECS)
@pytest.mark.parametrize("dynamics", [*DYNAMICS, "alternating(3)", "lookahead(alternating)"])
def test_the_weights_are_the_papers_x_or_the_pair_is_refused(x64, dynamics, optimizer):
    rule, game = DYNAMICS.build(dynamics), GAMES.build("bilinear((1.0, 0.5))")
    step, calls = [0], Pair(generator=[], discriminator=[])
    built = OPTIMIZERS.build(optimizer)
    optimizers = pairwise(lambda own: recorded(built, step, own), calls)

    def player(own, network):
        params = network[0].astype(jnp.float64)
        return PlayerState(params, network[1], own.init(params))

    start = players = pairwise(player, optimizers, game.init(jax.random.key(0)))
    memory = rule.init(players)
    for step[0] in range(7):
        with counted_from(jnp.int32(step[0])):
            batches = [None] * rule.num_batches
            output = rule.step(game, optimizers, players, memory, batches, jax.random.key(0))
        jax.effects_barrier()
        players, memory = output.players, output.dynamics_state

    b1, rate, adam = SPECS[optimizer]
    right = []
    for role in ROLES:
        gradients, params, steps = zip(*kept(calls.of(role)), strict=True)
        origin = np.asarray(start.of(role).params)
        ys, x = algorithm_1(origin, gradients, list(map(rate, steps)), b1, adam)
        right.append(np.allclose(ys, params, rtol=1e-6))
        right.append(np.allclose(x, players.of(role).weights, rtol=1e-6))
    refused = is_refused(dynamics=dynamics, generator_optimizer=optimizer)
    assert refused == is_refused(dynamics=dynamics, discriminator_optimizer=optimizer)
    assert refused == (not all(right))  # nor is any refused that would be right


def is_refused(**changes):
    try:
        build(dataclasses.replace(CONFIG, **{"generator_optimizer": "sgd(0.1)"} | changes))
    except UsageError as error:
        assert "accepted are alex_gda, alternating, consensus, rk, sga, simultaneous, tiada" in str(
            error
        )
        return True
    return False


@pytest.mark.parametrize(
    "optimizer",
    [
        "schedule_free_sgd(0.1) | clip_weights(0.01)",
        "schedule_free_sgd(0.1) | scale(0.5)",
        "schedule_free_sgd(0.1) | schedule_free_sgd(0.1)",
        "schedule_free(schedule_free_sgd(0.1), 0.1)",
        "schedule_free(chain(sgd(0.1), clip_weights(0.01)), 0.1)",
        "schedule_free(madgrad(0.1), 0.1)",
        "mechanize(schedule_free_sgd(0.1))",
        "flatten(schedule_free_sgd(0.1))",
        "chain(schedule_free_sgd(0.1), scale(0.5))",
    ],
)
def test_what_would_hide_the_weights_is_refused(optimizer):
    with pytest.raises(UsageError, match="schedule-free") as error:
        build(dataclasses.replace(CONFIG, generator_optimizer=optimizer))
    assert str(error.value).startswith(f"generator_optimizer = {optimizer!r}: ")
    assert "\n" not in str(error.value)


def test_no_weights_can_be_found_by_dividing_by_0():
    assert "b1 in (0, 1]" in OPTIMIZERS.bounds("schedule_free_sgd")
    with pytest.raises(UsageError, match=r"schedule_free_sgd: b1 must be in \(0, 1\], given 0\.0"):
        OPTIMIZERS.build("schedule_free_sgd(0.1, b1=0.0)")


def test_the_weights_of_every_other_optimizer_are_the_parameters():
    """Optax has no other function that makes weights of a state."""
    makers = [
        name for name, _ in inspect.getmembers(optax.contrib) + inspect.getmembers(optax)
        if "eval_params" in name
    ]  # fmt: skip
    assert makers == ["schedule_free_eval_params"]
    params = jnp.ones([2])
    for spec in every_optimizer():
        found = schedule_free.find_state(OPTIMIZERS.build(spec).init(params)) is not None
        assert found == ("schedule_free" in spec), spec


def test_samples_averages_and_play_go_by_x(tmp_path):
    experiment = build(CONFIG)
    train_step, state = make_train_step(experiment), experiment.init_on_mesh()
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data
    path = []
    for _ in range(CONFIG.num_steps):
        state = train_step(state, data, 1).state
        player = jax.device_get(state.players.generator)
        path.append(
            jax.tree.map(lambda y, z: (y - 0.1 * z) / 0.9, player.params, player.opt_state.z)
        )
    off = jax.tree.map(lambda x, y: np.abs(x - y).max(), path[-1], player.params)
    assert max(jax.tree.leaves(off)) > 1e-3  # y is not x
    mean = jax.tree.map(lambda *xs: np.mean(xs, 0), *path)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)
    jax.tree.map(close, state.averages["uniform"]["params"], mean)
    ema = jax.device_get(experiment.init_on_mesh().players.generator.params)
    for x in path:
        ema = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, ema, x)
    jax.tree.map(close, state.averages["ema"]["params"], ema)

    run = gan.train(CONFIG, tmp_path / "run")
    right = {"params": path[-1], "variables": player.variables}
    expected, _ = make_sampler(experiment)(right, 64, 0)
    np.testing.assert_allclose(run.sample(64, weights="raw"), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(
        run.sample(64, weights="raw"), gan.load(tmp_path / "run").sample(64, weights="raw")
    )


def test_play_returns_x_and_refuses_as_training_does():
    game = gan.make_game(
        lambda x, y, *_: x.sum(), lambda x, y, *_: y.sum(), jnp.zeros(1), jnp.zeros(1)
    )
    for spec in ("schedule_free_sgd(1.0)", "apply_if_finite(schedule_free_sgd(1.0), 3)"):
        path = gan.play(game, spec, num_steps=4)
        # z_t = -t, and x_t is the mean of z_1 ... z_t
        np.testing.assert_allclose(path.generator[:, 0], [0, -1, -1.5, -2, -2.5], rtol=1e-5)
    with pytest.raises(UsageError, match="accepted are alex_gda, alternating"):
        gan.play(game, "schedule_free_sgd(1.0)", "extragradient", num_steps=4)
    with pytest.raises(UsageError, match="last link of a chain"):
        gan.play(game, "schedule_free_sgd(1.0) | scale(0.5)", num_steps=4)


@pytest.mark.parametrize("how", ["reset", "keep_moments"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("schedule_free_sgd(0.5)", "adam(1e-3)"),
        ("adam(1e-2)", "schedule_free_adamw(1e-2)"),
        ("schedule_free_sgd(0.5)", "schedule_free_sgd(0.1, b1=0.6)"),
        ("schedule_free_sgd(0.5)", "clip(1.0) | schedule_free_adamw(0.1)"),
    ],
)
def test_another_optimizer_goes_on_from_the_same_weights(before, after, how):
    old = build(dataclasses.replace(CONFIG, generator_optimizer=before, averaging=()))
    new = build(dataclasses.replace(CONFIG, generator_optimizer=after, averaging=("ema(0.9)",)))
    data = old.make_loader(old.load_examples()).at(0, 0).data
    state = make_train_step(old)(old.init_on_mesh(), data, 9).state
    weights = jax.device_get(weights_of(old, state)["raw"]["params"])
    moved, _ = transfer(state, old, new, how)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for found in ("raw", "ema"):  # the average that starts here starts from them
        jax.tree.map(close, weights_of(new, moved)[found]["params"], weights)
    own = schedule_free.find_state(moved.players.generator.opt_state)
    if own is not None:
        assert own.b1 == pytest.approx(0.6 if "b1=0.6" in after else 0.9)
        if how == "keep_moments" and "schedule_free" in before:
            old_z = schedule_free.find_state(state.players.generator.opt_state).z
            jax.tree.map(np.testing.assert_array_equal, own.z, old_z)
    make_train_step(new)(moved, data, 1)


def test_params_at_is_the_inverse_of_weights():
    optimizer = OPTIMIZERS.build("sgd(0.1) | schedule_free_sgd(0.1, b1=0.7)")
    params = jnp.array([1.0, -2.0])
    _, state = optimizer.update(jnp.ones(2), optimizer.init(params), params)
    again = schedule_free.params_at(schedule_free.weights(params, state), state)
    np.testing.assert_allclose(again, params, rtol=1e-6)
    assert schedule_free.params_at(params, optax.sgd(0.1).init(params)) is params


def test_a_warmup_by_the_optimizers_own_calls_is_refused():
    with pytest.raises(UsageError, match="warmup_steps must be None, given 5"):
        OPTIMIZERS.build("schedule_free_adamw(0.1, warmup_steps=5)")
