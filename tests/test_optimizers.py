import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.dynamics.simultaneous import Simultaneous
from gan.errors import UsageError
from gan.games import GAMES
from gan.optimizers import (
    OPTIMIZERS,
    optimistic_adam,
    optimistic_amsgrad,
    optimistic_sgd,
    scale_by_optimistic_gradient,
)
from gan.players import Pair, PlayerState, pairwise
from tests.every import every_optimizer


def algorithm_1(gradients, rates, strengths, b1, b2, eps, first_step):
    """Daskalakis et al. 2018, Algorithm 1, in NumPy: the parameters after each step, from 0."""
    theta = m = v = np.zeros_like(gradients[0])
    before = None
    path = []
    for t, (g, eta, s) in enumerate(zip(gradients, rates, strengths, strict=True), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        r = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        if before is None:
            before = r if first_step == "plain" else np.zeros_like(r)
        theta = theta - (eta + s) * r + s * before
        before = r
        path.append(theta)
    return np.array(path)


def play(optimizer, gradients):
    params = jnp.zeros_like(gradients[0])
    state = optimizer.init(params)
    path = []
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return np.array(path)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    size=st.integers(1, 5),
    rate=st.floats(1e-4, 0.1),
    strength=st.none() | st.floats(0, 1),
    scheduled=st.booleans(),
    b1=st.floats(0, 0.95),
    first_step=st.sampled_from(["optimistic", "plain"]),
)
def test_optimistic_adam_is_algorithm_1(seed, size, rate, strength, scheduled, b1, first_step):
    with jax.enable_x64(True):
        gradients = np.random.default_rng(seed).standard_normal([20, size])
        schedule = optax.cosine_decay_schedule(rate, 30) if scheduled else lambda count: rate
        rates = [float(schedule(t)) for t in range(20)]
        strengths = rates if strength is None else [strength] * 20
        optimizer = optimistic_adam(
            schedule if scheduled else rate, strength, b1=b1, first_step=first_step
        )
        expected = algorithm_1(gradients, rates, strengths, b1, 0.999, 1e-8, first_step)
        np.testing.assert_allclose(
            play(optimizer, jnp.asarray(gradients)), expected, rtol=1e-9, atol=1e-12
        )


def algorithm_2(gradients, rates, b1, b2):
    """Wang et al. 2021, Algorithm 2, in NumPy, with m_{t+1} = g_t and v of g^2: w after each step.

    There are two sequences: w~ goes by AMSGrad, and w is w~ and one step more, along the guess h.
    """
    aux = theta = v = top = np.zeros_like(gradients[0])
    path = []
    for g, eta in zip(gradients, rates, strict=True):
        guess = b1 * theta + (1 - b1) * g
        theta = b1 * theta + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        top = np.maximum(top, v)
        aux = aux - eta * theta / np.sqrt(top)
        path.append(aux - eta * guess / np.sqrt(top))
    return np.array(path)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**16), rate=st.floats(1e-4, 0.1), b1=st.floats(0, 0.95), b2=st.floats(0.5, 0.999)
)  # fmt: skip
def test_optimistic_amsgrad_is_algorithm_2(seed, rate, b1, b2):
    with jax.enable_x64(True):
        sizes = np.random.default_rng(seed).choice([0.1, 1.0, 10.0], [12, 1])  # so that maxima last
        gradients = sizes * np.random.default_rng(seed).standard_normal([12, 3])
        optimizer = optimistic_amsgrad(rate, b1=b1, b2=b2, eps=0.0, bias_correction=False)
        np.testing.assert_allclose(
            play(optimizer, jnp.asarray(gradients)),
            algorithm_2(gradients, [rate] * 12, b1, b2),
            rtol=1e-8,
            atol=1e-10,
        )


def test_optimistic_amsgrad_without_strength_is_amsgrad(x64):
    gradients = jnp.asarray(np.random.default_rng(0).standard_normal([6, 3])) * 10.0 ** -jnp.arange(
        6
    ).reshape(6, 1)
    ours = play(optimistic_amsgrad(0.1, 0.0), gradients)
    np.testing.assert_allclose(ours, play(optax.amsgrad(0.1), gradients), rtol=1e-9)
    assert not np.allclose(ours, play(optax.adam(0.1), gradients), rtol=1e-2)


def test_the_papers_form_is_the_default(x64):
    """theta_t = theta_{t-1} - 2 eta r_t + eta r_{t-1}, r_0 = 0, with Adam's own direction r."""
    gradients = jnp.asarray(np.random.default_rng(0).standard_normal([6, 3]))
    adam = np.diff(play(optax.adam(1.0), gradients), axis=0, prepend=np.zeros([1, 3]))  # -r_t
    before = np.vstack([np.zeros([1, 3]), adam[:-1]])
    expected = np.cumsum(2 * 0.1 * adam - 0.1 * before, axis=0)
    np.testing.assert_allclose(play(optimistic_adam(0.1), gradients), expected, rtol=1e-9)


def test_nesterov_is_nadams_direction(x64):
    gradients = jnp.asarray(np.random.default_rng(0).standard_normal([6, 3]))
    plain = play(optimistic_adam(0.1, 0.0, nesterov=True), gradients)
    np.testing.assert_allclose(plain, play(optax.nadam(0.1), gradients), rtol=1e-9)


def test_plain_first_step_is_optaxs(x64):
    gradients = jnp.asarray(np.random.default_rng(0).standard_normal([6, 3]))
    ours = play(scale_by_optimistic_gradient(0.3, 0.7, "plain"), gradients)
    np.testing.assert_allclose(
        ours, play(optax.scale_by_optimistic_gradient(0.3, 0.7), gradients), rtol=1e-12
    )


def test_optimism_turns_the_circle_into_a_spiral(x64):
    """On the bilinear saddle SGD's distance grows and optimistic SGD's shrinks."""
    assert distances("sgd(0.1)", 200)[-1] > 2 * distances("sgd(0.1)", 0)[-1]
    assert distances("optimistic_sgd(0.3)", 200)[-1] < 1e-3
    assert distances("optimistic_adam(0.01, 0.3)", 2_000)[-1] < 0.1
    assert distances("optimistic_amsgrad(0.1, b1=0.0)", 2_000)[-1] < 1e-3
    assert distances("amsgrad(0.1, b1=0.0)", 2_000)[-1] > 1


def distances(spec, num_steps):
    game, dynamics = GAMES.build("bilinear((1.0, 0.5))"), Simultaneous()
    optimizers = Pair(generator=OPTIMIZERS.build(spec), discriminator=OPTIMIZERS.build(spec))

    def player(optimizer, init):
        params = init[0].astype(jnp.float64) if jax.config.jax_enable_x64 else init[0]
        return PlayerState(params, init[1], optimizer.init(params))

    players = pairwise(player, optimizers, game.init(jax.random.key(0)))

    @jax.jit
    def step(players):
        return dynamics.step(game, optimizers, players, (), [None], jax.random.key(0)).players

    out = []
    for _ in range(num_steps):
        players = step(players)
    out.append(float(np.hypot(players.generator.params[0], players.discriminator.params[0])))
    return out


@pytest.mark.parametrize("spec", every_optimizer())
def test_every_optimizer_by_its_name_on_a_small_game(spec):
    assert np.isfinite(distances(spec, 5)).all()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("optimistic_adam(1e-4, strength=-1.0)", "strength must be at least 0, given -1.0"),
        ("optimistic_adam('fast')", "learning_rate must be float or a schedule, given 'fast'"),
        ("adam('fast')", "learning_rate must be"),
        ("adam", "missing a required argument: 'learning_rate'"),
        ("optimistic_adam(1e-4, first_step='big')", "'optimistic' or 'plain'"),
        ("cosine_decay_schedule(0.1, 10)", "is no optimizer by itself"),
        ("xyz", r"scripts/train\.py --list prints all \d+ of them"),
        ("lbfgs(0.1)", "unknown optimizer 'lbfgs'"),
    ],
)
def test_misuse(spec, words):
    with pytest.raises(UsageError, match=words):
        OPTIMIZERS.build(spec)


def test_a_chain_is_optaxs():
    gradients = 100 * jnp.ones([3, 2])
    ours = play(OPTIMIZERS.build("clip_by_global_norm(1.0) | sgd(0.5)"), gradients)
    theirs = play(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5)), gradients)
    np.testing.assert_array_equal(ours, theirs)


def test_clip_weights_holds_the_box():
    path = play(OPTIMIZERS.build("sgd(1.0) | clip_weights(0.25)"), jnp.ones([4, 2]))
    np.testing.assert_allclose(path, np.full([4, 2], -0.25))


def test_optimistic_sgd_is_ogda(x64):
    gradients = np.random.default_rng(1).standard_normal([5, 2])
    before = np.vstack([np.zeros([1, 2]), gradients[:-1]])
    expected = np.cumsum(-2 * 0.1 * gradients + 0.1 * before, axis=0)
    np.testing.assert_allclose(play(optimistic_sgd(0.1), jnp.asarray(gradients)), expected)
