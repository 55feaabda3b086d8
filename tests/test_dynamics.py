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
from gan.errors import UsageError
from gan.games import GAMES, Game
from gan.optimizers import OPTIMIZERS
from gan.players import Gradient, Pair, PlayerState, pairwise


def setup(game, optimizer, x, y):
    optimizers = Pair(generator=optimizer, discriminator=optimizer)
    params = Pair(generator=jnp.asarray(x), discriminator=jnp.asarray(y))
    return optimizers, pairwise(lambda o, p: PlayerState(p, {}, o.init(p)), optimizers, params)


def play(dynamics, optimizer, game, x, y, num_steps):
    """The points after each step, the start first: [num_steps + 1, 2 d]."""
    optimizers, players = setup(game, optimizer, x, y)
    batches = [None] * dynamics.num_batches

    def step(carry, _):
        moved = dynamics.step(game, optimizers, *carry, batches, jax.random.key(0))
        params = moved.players.generator.params, moved.players.discriminator.params
        return (moved.players, moved.dynamics_state), jnp.concatenate(params)

    _, path = jax.lax.scan(step, (players, dynamics.init(players)), None, num_steps)
    return np.vstack([np.concatenate([x, y]), path])


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


BILINEAR = {  # s = eta sigma, then eta and sigma themselves
    ("simultaneous", "sgd"): lambda s, eta, sigma: np.sqrt(1 + s**2),
    ("alternating", "sgd"): lambda s, eta, sigma: alternating(s),
    ("extragradient", "sgd"): lambda s, eta, sigma: np.sqrt(1 - s**2 + s**4),
    ("past_extragradient", "sgd"): lambda s, eta, sigma: ogda(s),
    ("simultaneous", "optimistic_sgd"): lambda s, eta, sigma: ogda(s),
    ("lookahead(steps=4, alpha=0.3)", "sgd"): lambda s, eta, sigma: (
        abs(0.7 + 0.3 * (1 + 1j * s) ** 4) ** 0.25
    ),
    ("lookahead(extragradient, steps=3, alpha=0.5)", "sgd"): lambda s, eta, sigma: (
        abs(0.5 + 0.5 * (1 - s**2 + 1j * s) ** 3) ** (1 / 3)
    ),
    ("consensus(gamma=0.7)", "sgd"): lambda s, eta, sigma: np.hypot(1 - eta * 0.7 * sigma**2, s),
    ("sga(weight=0.7)", "sgd"): lambda s, eta, sigma: np.hypot(1 - eta * 0.7 * sigma**2, s),
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
        measured = spectral_radius(rule, OPTIMIZERS.build(spec), game, getattr(rule, "steps", 1))
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
        ("lookahead(steps=3)", "sgd(0.3)"),
    ],
)  # fmt: skip
@settings(deadline=None, max_examples=4)
@given(mu=st.floats(0.01, 1.0), sigma=sigmas)
def test_quadratic_games_have_their_eigenvalues_rates(dynamics, optimizer, mu, sigma):
    with jax.enable_x64(True):
        rule = DYNAMICS.build(dynamics)
        game = GAMES.build(f"quadratic(({mu!r},), ({sigma!r},))")
        steps = getattr(rule, "steps", 1)
        measured = spectral_radius(rule, OPTIMIZERS.build(optimizer), game, steps)
        np.testing.assert_allclose(
            measured, predicted_contraction(rule, optimizer, jacobian(game)), rtol=1e-6
        )
        if (dynamics, optimizer) in QUADRATIC:
            expected = QUADRATIC[dynamics, optimizer](complex(mu, sigma))
            np.testing.assert_allclose(measured, expected, rtol=1e-6)


QUADRATIC = {  # the multiplier of an eigenvector, for the eigenvalue mu + i sigma
    ("simultaneous", "sgd(0.3)"): lambda value: abs(1 - 0.3 * value),
    ("extragradient", "sgd(0.3)"): lambda value: abs(1 - 0.3 * value + 0.09 * value**2),
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
}


@pytest.mark.parametrize(
    "dynamics",
    [
        "consensus(0.5)",
        "sga(1.0)",
        "alternating(2)",
        "alternating(3, reuse_fakes=True)",
        "extragradient",
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
        ("simultaneous", "sgd(0.1, momentum=0.5)"),
        ("alternating", "optimistic_sgd(0.1)"),
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


def test_alternating_is_the_discriminator_first_and_the_generator_against_the_new_one(x64):
    game = GAMES.build("bilinear")
    path = play(DYNAMICS.build("alternating"), optax.sgd(0.1), game, [1.0], [2.0], 1)
    y = 2.0 + 0.1 * 1.0
    np.testing.assert_allclose(path[1], [1.0 - 0.1 * y, y])


def test_three_discriminator_steps_are_three_steps_and_not_one_that_is_longer(x64):
    game = GAMES.build("bilinear")
    momentum = optax.sgd(0.1, momentum=0.5)
    path = play(DYNAMICS.build("alternating(3)"), momentum, game, [1.0], [2.0], 1)
    y = 2.0 + 0.1 * (1 + 1.5 + 1.75)  # the momentum grows towards 2
    np.testing.assert_allclose(path[1], [1.0 - 0.1 * y, y])


def test_both_players_look_ahead_before_either_steps(x64):
    game = GAMES.build("bilinear")
    path = play(DYNAMICS.build("extragradient"), optax.sgd(0.1), game, [1.0], [2.0], 1)
    ahead_x, ahead_y = 1.0 - 0.1 * 2.0, 2.0 + 0.1 * 1.0
    np.testing.assert_allclose(path[1], [1.0 - 0.1 * ahead_y, 2.0 + 0.1 * ahead_x])


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 999), eta=st.floats(0.01, 0.5))
def test_past_extragradients_half_iterates_are_optimistic_descent(seed, eta):
    """w_{t+1/2} = w_t - eta F(w_{t-1/2}), with F(w_{-1/2}) = 0 as OGDA's first past gradient is."""
    with jax.enable_x64(True):
        x, y = np.random.default_rng(seed).standard_normal([2, 2])
        game = GAMES.build("quadratic((0.1, 0.3), (1.0, 0.5))")
        past = play(DYNAMICS.build("past_extragradient"), optax.sgd(eta), game, x, y, 12)
        optimistic = OPTIMIZERS.build(f"optimistic_sgd({eta!r})")
        ogda = play(DYNAMICS.build("simultaneous"), optimistic, game, x, y, 12)
        # A full step goes from w_t by -eta F(w_{t+1/2}); so F at the half steps is in the path.
        step = np.diff(past, axis=0)  # -eta F(w_{t+1/2})
        half = past[1:-1] + step[:-1]  # w_{t+1/2} for t >= 1
        np.testing.assert_allclose(half, ogda[1:-1], rtol=1e-8, atol=1e-10)


def test_lookahead_goes_back_towards_the_weights_before_step_1(x64):
    game = GAMES.build("bilinear")
    inner = play(DYNAMICS.build("simultaneous"), optax.sgd(0.1), game, [1.0], [2.0], 3)
    path = play(
        DYNAMICS.build("lookahead(steps=3, alpha=0.25)"), optax.sgd(0.1), game, [1.0], [2.0], 6
    )
    np.testing.assert_allclose(path[1:3], inner[1:3])
    start = np.array([1.0, 2.0])
    np.testing.assert_allclose(path[3], start + 0.25 * (inner[3] - start))
    again = play(DYNAMICS.build("simultaneous"), optax.sgd(0.1), game, path[3, :1], path[3, 1:], 3)
    np.testing.assert_allclose(path[6], path[3] + 0.25 * (again[3] - path[3]))


class Noisy(Game):
    """A game whose field is linear plus the batch: fresh batches can be told apart."""

    matrix = np.random.default_rng(0).standard_normal([4, 4])

    def init(self, key):
        raise NotImplementedError

    def gradient(self, role, players, batch, key):
        point = jnp.concatenate([players.generator.params, players.discriminator.params])
        field = jnp.asarray(self.matrix) @ point + batch
        own = field[:2] if role == "generator" else field[2:]
        return Gradient(own, jnp.zeros([]), players.of(role).variables, {})

    def loss(self, role, players, batch, key):
        raise NotImplementedError


def test_extra_adam_is_algorithm_4(x64):
    """Gidel et al. 2019, in NumPy: one pair of moments, both half steps from w_t, fresh batches."""
    b1, b2, eta, eps = 0.5, 0.9, 0.01, 1e-8
    rng = np.random.default_rng(1)
    noise = rng.standard_normal([10, 2, 4])
    w = rng.standard_normal(4)
    game, rule = Noisy(), DYNAMICS.build("extragradient")
    optimizers, players = setup(game, optax.adam(eta, b1=b1, b2=b2, eps=eps), w[:2], w[2:])
    m = v = np.zeros(4)
    count = 0
    for batches in noise:
        start = w
        for batch in batches:
            g = game.matrix @ w + batch
            count += 1
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            direction = (m / (1 - b1**count)) / (np.sqrt(v / (1 - b2**count)) + eps)
            w = start - eta * direction
        moved = rule.step(
            game, optimizers, players, (), [jnp.asarray(b) for b in batches], jax.random.key(0)
        )
        players = moved.players
        ours = np.concatenate([players.generator.params, players.discriminator.params])
        np.testing.assert_allclose(ours, w, rtol=1e-10)


class Cubic(Game):
    """A game that is neither zero-sum nor linear, with its field written out."""

    def init(self, key):
        raise NotImplementedError

    def loss(self, role, players, batch, key):
        x, y = players.generator.params, players.discriminator.params
        if role == "generator":
            return jnp.sum(x**4) + jnp.sum(x[0] * y[1] ** 2) + 2 * x[1] * y[0], ({}, {})
        return jnp.sum(jnp.sin(y)) - jnp.sum(x**2 * y), ({}, {})

    @staticmethod
    def field(w):
        (x0, x1), (y0, y1) = w[:2], w[2:]
        return jnp.array(
            [
                4 * x0**3 + y1**2,
                4 * x1**3 + 2 * y0,
                jnp.cos(y0) - x0**2,
                jnp.cos(y1) - x1**2,
            ]
        )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["consensus", "sga", "sga_plain"])
def test_consensus_and_sga_against_the_explicit_jacobian(x64, name, seed):
    w = np.random.default_rng(seed).standard_normal(4)
    force, jacobian = np.asarray(Cubic.field(w)), np.asarray(jax.jacobian(Cubic.field)(w))
    if name == "consensus":
        spec, direction = "consensus(0.3)", force + 0.3 * jacobian.T @ force
    else:
        rotation = (jacobian - jacobian.T) / 2
        grad_h = jacobian.T @ force
        product = (force @ grad_h) * (rotation.T @ force @ grad_h)
        sign = np.sign(product / 4 + 0.1) if name == "sga" else 1.0
        spec = f"sga(0.3, align={name == 'sga'})"
        direction = force + 0.3 * sign * rotation.T @ force
    path = play(DYNAMICS.build(spec), optax.sgd(0.1), Cubic(), w[:2], w[2:], 1)
    np.testing.assert_allclose(path[1], w - 0.1 * direction, rtol=1e-9)


class Recording(Game):
    """Writes down who is asked for a gradient, with which batch and key."""

    def __init__(self):
        self.calls = []

    def init(self, key):
        raise NotImplementedError

    def loss(self, role, players, batch, key):
        def record(batch, key):
            self.calls.append((role, int(batch), tuple(np.asarray(key).tolist())))

        jax.debug.callback(record, batch, jax.random.key_data(key), ordered=True)
        return jnp.sum(players.of(role).params ** 2), ({}, {})


def record(spec, batches):
    game = Recording()
    optimizers, players = setup(game, optax.sgd(0.1), [1.0], [1.0])
    rule = DYNAMICS.build(spec)
    assert rule.num_batches == len(batches)
    rule.step(game, optimizers, players, rule.init(players), batches, jax.random.key(0))
    jax.effects_barrier()
    return game.calls


def test_discriminator_steps_see_fresh_batches_and_keys():
    calls = record("alternating(discriminator_steps=3)", [0, 1, 2])
    roles = [(role, batch) for role, batch, _ in calls]
    assert roles == [("discriminator", i) for i in range(3)] + [("generator", 2)]
    assert len({key for _, _, key in calls}) == 4


@pytest.mark.parametrize("steps", [1, 3])
def test_reused_fakes_are_of_the_discriminators_last_batch_and_key(steps):
    calls = record(f"alternating({steps}, reuse_fakes=True)", list(range(steps)))
    roles = [(role, batch) for role, batch, _ in calls]
    last = steps - 1
    assert roles == [("discriminator", i) for i in range(steps)] + [("generator", last)]
    assert calls[-1][2] == calls[-2][2]
    keys = [key for role, _, key in calls if role == "discriminator"]
    fresh = record(f"alternating({steps})", list(range(steps)))
    assert keys == [key for role, _, key in fresh if role == "discriminator"]
    assert len(set(keys)) == steps


def test_both_gradients_of_a_simultaneous_step_share_batch_and_key():
    (_, batch_g, key_g), (_, batch_d, key_d) = record("simultaneous", [7])
    assert (batch_g, key_g) == (batch_d, key_d)


def test_the_half_steps_of_extragradient_see_fresh_batches_and_keys():
    calls = record("lookahead(extragradient)", [3, 4])
    assert [batch for _, batch, _ in calls] == [3, 3, 4, 4]
    assert calls[0][2] == calls[1][2] != calls[2][2] == calls[3][2]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("alternating(0)", r"discriminator_steps must be in \[1, 100\], given 0"),
        ("alternating(reuse_fakes=1)", "reuse_fakes must be bool, given 1"),
        ("lookahead(steps=0)", "steps must be at least 1, given 0"),
        ("lookahead(alpha=1.5)", r"alpha must be in \[0, 1\], given 1.5"),
        ("lookahead(inner='extragradient')", "inner must be Dynamics, given 'extragradient'"),
        ("consensus(-1.0)", "gamma must be at least 0"),
        ("sga(-1.0)", "weight must be at least 0"),
    ],
)
def test_misuse(spec, words):
    with pytest.raises(UsageError, match=words):
        DYNAMICS.build(spec)


def test_past_extragradient_hands_on_the_past_loss(x64):
    """Optimizers that watch the loss see the last one, not a made-up 0."""
    game = GAMES.build("bilinear")
    optimizers, players = setup(game, OPTIMIZERS.build("sgd(0.1)"), [1.0], [2.0])
    rule = DYNAMICS.build("past_extragradient")
    moved = rule.step(game, optimizers, players, rule.init(players), [None], jax.random.key(0))
    _, loss = moved.dynamics_state.generator
    np.testing.assert_allclose(loss, 1.0 * 2.0)  # x y at the first look ahead, which stays put


class Counting(Game):
    """Has A (x + y) and -A^T (x + y) as gradients, and counts the products that a step computes.

    A gradient is one, and so is its derivative along a vector. Each depends on both players, so that
    none can be taken out of a loop.
    """

    MATRIX = np.array([[1.0, 2.0], [3.0, 5.0]])

    def __init__(self):
        self.count = 0

    def init(self, key):
        raise NotImplementedError

    def loss(self, role, players, batch, key):
        raise AssertionError("gradients are all that a dynamics asks for")

    def gradient(self, role, players, batch, key):
        both = players.generator.params + players.discriminator.params
        if role == "generator":
            value = self._product(self.MATRIX, both)
        else:
            value = -self._product(self.MATRIX.T, both)
        return Gradient(value=value, loss=jnp.zeros([]), variables={}, metrics={})

    def _product(self, matrix, vector):
        def multiply(matrix, vector):
            self.count += 1
            return np.asarray(matrix @ np.asarray(vector), vector.dtype)

        def call(matrix, vector):  # is left out of a compiled step that does not need it
            return jax.pure_callback(lambda v: multiply(matrix, v), vector, vector)

        return jax.custom_derivatives.linear_call(
            lambda _, v: call(matrix, v), lambda _, v: call(matrix.T, v), (), vector
        )


COUNTED = [
    "alternating(3)",
    "alternating(2, reuse_fakes=True)",
    "lookahead(extragradient)",
    "lookahead(alternating(2))",
]


@pytest.mark.parametrize("spec", [*DYNAMICS, *COUNTED])
def test_a_step_computes_as_many_gradients_as_it_says(x64, spec):
    rule, game = DYNAMICS.build(spec), Counting()
    optimizers, players = setup(game, OPTIMIZERS.build("sgd(0.1)"), np.ones(2), np.ones(2))
    batches = list(jnp.arange(rule.num_batches))

    def step(players, dynamics_state):
        return rule.step(game, optimizers, players, dynamics_state, batches, jax.random.key(0))

    jax.block_until_ready(jax.jit(step)(players, rule.init(players)).players)
    assert game.count == rule.gradients_per_step
