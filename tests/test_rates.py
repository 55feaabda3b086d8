"""How fast the dynamics converge, against the closed forms of papers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from gan.analysis.linearization import jacobian, predicted_contraction
from gan.dynamics import DYNAMICS
from gan.games import GAMES
from gan.optimizers import OPTIMIZERS
from tests.playing import play, setup


def spectral_radius(dynamics, optimizer, game, num_steps=1):
    """Of the linear map that `num_steps` steps are, dynamics_state and optimizer states included; a step."""
    size = game.init(jax.random.key(0)).generator[0].size
    optimizers, players = setup(game, optimizer, jnp.zeros(size), jnp.zeros(size))
    leaves, tree = jax.tree.flatten((players, dynamics.init(players)))
    is_float = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    flat, unravel = ravel_pytree([leaf for leaf, f in zip(leaves, is_float, strict=True) if f])

    def steps(flat):
        floats = iter(unravel(flat))
        now = tree.unflatten(
            [next(floats) if f else leaf for leaf, f in zip(leaves, is_float, strict=True)]
        )
        for _ in range(num_steps):
            batches = [None] * dynamics.num_batches
            moved = dynamics.step(game, optimizers, *now, batches, jax.random.key(0))
            now = moved.players, moved.dynamics_state
        after = [leaf for leaf, f in zip(jax.tree.leaves(now), is_float, strict=True) if f]
        return ravel_pytree(after)[0]

    matrix = jax.jit(jax.jacobian(steps))(flat)
    return np.abs(np.linalg.eigvals(np.asarray(matrix))).max() ** (1 / num_steps)


def period(rule):
    """Steps after which a dynamics does the same again."""
    return getattr(rule, "steps", 0) or getattr(rule, "refresh", 0) or 1


sigmas = st.floats(0.2, 2.0)
rates = st.floats(0.02, 0.8)


def ogda(s):
    """The largest root of z^2 - (1 - 2 i s) z - i s."""
    if s <= 0.5:
        return np.sqrt((1 + np.sqrt(1 - 4 * s**2)) / 2)
    return np.sqrt(1 + (2 * s + np.sqrt(4 * s**2 - 1)) ** 2) / 2


def alternating(s):
    trace = 2 - s**2
    return 1.0 if s <= 2 else -trace / 2 + np.sqrt(trace**2 / 4 - 1)


def anchored(s, pull, period):
    """z -> mu z + pull a for z = x + i y and mu = 1 - pull + i s, `period` times from a on."""
    mu = 1 - pull + 1j * s
    return abs(mu**period + pull * (1 - mu**period) / (1 - mu)) ** (1 / period)


def alex_gda(s, gamma, delta):
    """The characteristic polynomial of (x, x~, y), with the extrapolation of y eliminated."""
    extra = np.poly1d([1, gamma * delta * s**2])
    lag = np.poly1d([1, -1])
    return np.abs((lag * lag * extra + s**2 * ((gamma + delta) * lag + 1)).roots).max()


def runge_kutta(order, s, pull):
    """The larger root of the step's matrix ((a, -b), (b, a - pull)), from the series of e^{i s}."""
    a, b = (1 - s**2 / 2, s) if order == 2 else (1 - s**2 / 2 + s**4 / 24, s - s**3 / 6)
    return np.abs(np.roots([1, pull - 2 * a, a * (a - pull) + b**2])).max()


BILINEAR = {  # s = eta sigma, then eta and sigma themselves
    ("simultaneous", "sgd"): lambda s, eta, sigma: np.sqrt(1 + s**2),
    ("alternating", "sgd"): lambda s, eta, sigma: alternating(s),
    ("extragradient", "sgd"): lambda s, eta, sigma: np.sqrt(1 - s**2 + s**4),
    ("extragradient(step_ratio=2.5)", "sgd"): lambda s, eta, sigma: np.hypot(1 - 2.5 * s**2, s),
    ("past_extragradient", "sgd"): lambda s, eta, sigma: ogda(s),
    ("alex_gda(gamma=1.0, delta=1.7)", "sgd"): lambda s, eta, sigma: alex_gda(s, 1.0, 1.7),
    ("alex_gda(gamma=1.5, delta=2.0)", "sgd"): lambda s, eta, sigma: alex_gda(s, 1.5, 2.0),
    ("anchored(strength=0.1, decay=0.0, refresh=3)", "sgd"): lambda s, eta, sigma: anchored(
        s, 0.1, 3
    ),
    ("anchored(strength=0.5, refresh=2)", "sgd"): lambda s, eta, sigma: (
        abs((0.75 + 1j * s) * (1 + 1j * s) + 0.25) ** 0.5
    ),
    ("simultaneous", "optimistic_sgd"): lambda s, eta, sigma: ogda(s),
    ("lookahead(steps=4, alpha=0.3)", "sgd"): lambda s, eta, sigma: (
        abs(0.7 + 0.3 * (1 + 1j * s) ** 4) ** 0.25
    ),
    ("lookahead(extragradient, steps=3, alpha=0.5)", "sgd"): lambda s, eta, sigma: (
        abs(0.5 + 0.5 * (1 - s**2 + 1j * s) ** 3) ** (1 / 3)
    ),
    ("consensus(gamma=0.7)", "sgd"): lambda s, eta, sigma: np.hypot(1 - eta * 0.7 * sigma**2, s),
    ("sga(weight=0.7)", "sgd"): lambda s, eta, sigma: np.hypot(1 - eta * 0.7 * sigma**2, s),
    ("rk(2)", "sgd"): lambda s, eta, sigma: np.sqrt(1 + s**4 / 4),
    ("rk(4)", "sgd"): lambda s, eta, sigma: np.sqrt(1 - s**6 / 72 + s**8 / 576),
    ("rk(2, penalty=0.1)", "sgd"): lambda s, eta, sigma: runge_kutta(2, s, 0.2 * eta * sigma**2),
    ("rk(4, penalty=0.1)", "sgd"): lambda s, eta, sigma: runge_kutta(4, s, 0.2 * eta * sigma**2),
}


@pytest.mark.parametrize(("dynamics", "optimizer"), BILINEAR)
@settings(deadline=None, max_examples=8)
@given(eta=rates, sigma=sigmas)
def test_bilinear_games_have_the_rates_of_the_closed_forms(dynamics, optimizer, eta, sigma):
    with jax.enable_x64(True):
        rule = DYNAMICS.build(dynamics)
        spec = f"{optimizer}({eta!r})"
        game = GAMES.build(f"bilinear(({sigma!r},))")
        expected = BILINEAR[dynamics, optimizer](eta * sigma, eta, sigma)
        measured = spectral_radius(rule, OPTIMIZERS.build(spec), game, period(rule))
        # A double root (s = 1/2 of OGDA, s = 2 of alternating) is only known to half the digits.
        tolerance = 1e-5 if min(abs(eta * sigma - 0.5), abs(eta * sigma - 2)) < 1e-3 else 1e-9
        np.testing.assert_allclose(measured, expected, rtol=tolerance)
        np.testing.assert_allclose(
            predicted_contraction(rule, spec, jacobian(game)), expected, rtol=tolerance
        )


@pytest.mark.parametrize(("s", "expected"), [(0.1, 0.99852), (0.3, 0.98661), (0.5, 0.96254)])
def test_negative_momentum_converges_when_alternating(x64, s, expected):
    rule, spec = DYNAMICS.build("alternating"), f"sgd({s}, momentum=-0.5)"
    game = GAMES.build("bilinear")
    measured = spectral_radius(rule, OPTIMIZERS.build(spec), game)
    np.testing.assert_allclose(measured, expected, atol=5e-6)
    np.testing.assert_allclose(
        predicted_contraction(rule, spec, jacobian(game)), measured, rtol=1e-9
    )


@pytest.mark.parametrize(
    ("dynamics", "optimizer"),
    [
        ("simultaneous", "sgd(0.3)"), ("extragradient", "sgd(0.3)"),
        ("past_extragradient", "sgd(0.3)"), ("simultaneous", "optimistic_sgd(0.2, 0.5)"),
        ("consensus(0.4)", "sgd(0.3)"), ("sga(0.4)", "sgd(0.3)"), ("sga(0.4, align=False)", "sgd(0.3)"),
        ("lookahead(steps=3)", "sgd(0.3)"), ("alex_gda(1.3, 1.6)", "sgd(0.3)"),
        ("extragradient(1.5, same_batch=True)", "sgd(0.3)"), ("anchored(0.5, 0.3, 3)", "sgd(0.3)"),
        ("rk(2)", "sgd(0.3)"), ("rk(4)", "sgd(0.3)"),
    ],
)  # fmt: skip
@settings(deadline=None, max_examples=4)
@given(mu=st.floats(0.01, 1.0), sigma=sigmas)
def test_quadratic_games_have_their_eigenvalues_rates(dynamics, optimizer, mu, sigma):
    with jax.enable_x64(True):
        rule = DYNAMICS.build(dynamics)
        game = GAMES.build(f"quadratic(({mu!r},), ({sigma!r},))")
        measured = spectral_radius(rule, OPTIMIZERS.build(optimizer), game, period(rule))
        np.testing.assert_allclose(
            measured, predicted_contraction(rule, optimizer, jacobian(game)), rtol=1e-6
        )
        if (dynamics, optimizer) in QUADRATIC:
            expected = QUADRATIC[dynamics, optimizer](complex(mu, sigma))
            np.testing.assert_allclose(measured, expected, rtol=1e-6)


QUADRATIC = {  # the multiplier of an eigenvector, for the eigenvalue mu + i sigma
    ("simultaneous", "sgd(0.3)"): lambda value: abs(1 - 0.3 * value),
    ("extragradient", "sgd(0.3)"): lambda value: abs(1 - 0.3 * value + 0.09 * value**2),
    ("extragradient(1.5, same_batch=True)", "sgd(0.3)"): lambda value: abs(
        1 - 0.3 * value + 0.135 * value**2
    ),
    ("past_extragradient", "sgd(0.3)"): lambda value: np.abs(
        np.roots([1, 0.6 * value - 1, -0.3 * value])
    ).max(),
    ("simultaneous", "optimistic_sgd(0.2, 0.5)"): lambda value: np.abs(
        np.roots([1, 0.7 * value - 1, -0.5 * value])
    ).max(),
    ("consensus(0.4)", "sgd(0.3)"): lambda value: abs(1 - 0.3 * (value + 0.4 * abs(value) ** 2)),
    ("lookahead(steps=3)", "sgd(0.3)"): lambda value: (
        abs(0.5 + 0.5 * (1 - 0.3 * value) ** 3) ** (1 / 3)
    ),
    ("rk(2)", "sgd(0.3)"): lambda value: abs(1 - 0.3 * value + 0.045 * value**2),
    ("rk(4)", "sgd(0.3)"): lambda value: abs(
        1 - 0.3 * value + 0.045 * value**2 - 0.0045 * value**3 + 0.0003375 * value**4
    ),
}


@pytest.mark.parametrize(
    "dynamics",
    [
        "consensus(0.5)",
        "sga(1.0)",
        "alternating(2)",
        "alternating(3, reuse_fakes=True)",
        "extragradient",
        "extragradient(step_ratio=3.0)",
        "alex_gda(1.3, 1.6)",
        "rk(2, penalty=0.3)",
        "rk(4, penalty=0.3)",
    ],
)
@pytest.mark.parametrize("r1", [0.5, 2.0])
def test_theory_of_a_field_that_is_not_normal(x64, dynamics, r1):
    """The Dirac-GAN with R1: theory's matrices against the map that the code is."""
    game, rule = GAMES.build(f"dirac(r1={r1})"), DYNAMICS.build(dynamics)
    measured = spectral_radius(rule, optax.sgd(0.4), game)
    np.testing.assert_allclose(
        predicted_contraction(rule, "sgd(0.4)", jacobian(game)), measured, rtol=1e-9
    )


@pytest.mark.parametrize(
    ("dynamics", "optimizer"),
    [
        ("past_extragradient", "optimistic_sgd(0.1)"),
        ("extragradient", "optimistic_sgd(0.1)"),
        ("lookahead(past_extragradient)", "sgd(0.1)"),
        ("lookahead(lookahead)", "sgd(0.1)"),
        ("lookahead(alex_gda)", "sgd(0.1)"),
        ("alex_gda", "sgd(0.1, momentum=0.5)"),
        ("anchored", "sgd(0.1)"),
        ("anchored(refresh=1000000000)", "sgd(0.1)"),
        ("anchored(refresh=5)", "optimistic_sgd(0.1)"),
        ("simultaneous", "sgd(0.1, momentum=0.5)"),
        ("alternating", "optimistic_sgd(0.1)"),
        ("rk", "sgd(0.1, momentum=0.5)"),
        ("rk", "optimistic_sgd(0.1)"),
        ("alternating", "sgd(0.1, 0.5, True)"),
        ("simultaneous", "optimistic_sgd(0.1, first_step='plain')"),
        ("simultaneous", "sgd(constant_schedule(0.1))"),
        ("simultaneous", "clip(1.0) | sgd(0.1)"),
        ("simultaneous", "adam(0.1)"),
    ],
)
def test_what_has_no_theory_is_not_given_that_of_something_else(x64, dynamics, optimizer):
    OPTIMIZERS.build(optimizer)
    rule, linear = DYNAMICS.build(dynamics), jacobian(GAMES.build("bilinear"))
    assert predicted_contraction(rule, optimizer, linear) is None


def test_several_planes_go_at_the_rate_of_the_slowest(x64):
    game = GAMES.build("bilinear((0.5, 1.0, 2.0))")
    rule, optimizer = DYNAMICS.build("extragradient"), optax.sgd(0.3)
    slowest = max(np.sqrt(1 - s**2 + s**4) for s in 0.3 * np.array([0.5, 1.0, 2.0]))
    np.testing.assert_allclose(spectral_radius(rule, optimizer, game), slowest, rtol=1e-9)


@settings(deadline=None, max_examples=10)
@given(
    x=st.floats(0.1, 2), y=st.floats(-2, -0.1), eta=rates, sigma=sigmas.filter(lambda s: s < 1.9)
)
def test_alternating_descent_keeps_its_invariant(x, y, eta, sigma):
    """x^2 + y^2 + s x y for y <- y + s x, then x <- x - s y; with x first the sign is a minus."""
    with jax.enable_x64(True):
        game = GAMES.build(f"bilinear(({sigma!r},))")
        path = play(DYNAMICS.build("alternating"), optax.sgd(eta), game, [x], [y], 30)
        x, y = path.T
        invariant = x**2 + y**2 + eta * sigma * x * y
        np.testing.assert_allclose(invariant, invariant[0], rtol=1e-9, atol=1e-9)
