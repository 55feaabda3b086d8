import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from gan.analysis.linearization import jacobian, predicted_contraction
from gan.dynamics import DYNAMICS
from gan.dynamics.dynamics import is_proportional
from gan.errors import UsageError
from gan.games import GAMES, Game
from gan.games.custom import make_game
from gan.optimizers import OPTIMIZERS
from gan.players import Gradient, Pair, PlayerState, pairwise
from tests.playing import play, setup


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


@settings(deadline=None, max_examples=40)
@given(delta=st.floats(0.5, 4.0), s=st.floats(0.1, 2.5))
def test_where_alex_gda_converges_on_a_bilinear_game(delta, s):
    """For gamma = 1: the Schur-Cohn conditions of its polynomial, and the rate where s is small."""
    assume(min(abs(delta - 1), abs((2 * delta - 1) * s**2 - 4)) > 1e-2)
    theory = DYNAMICS.build(f"alex_gda(1.0, {delta!r})")
    linear = np.array([[0.0, 1.0], [-1.0, 0.0]])
    within = predicted_contraction(theory, f"sgd({s!r})", linear) < 1
    assert within == (delta > 1 and (2 * delta - 1) * s**2 < 4)
    small = predicted_contraction(theory, "sgd(0.01)", linear)
    np.testing.assert_allclose(1 - small, (delta - 1) * 1e-4 / 2, rtol=2e-2)


@pytest.mark.parametrize("optimizer", ["sgd(0.1, momentum=0.5)", "adam(0.01)"])
def test_alex_gda_without_extrapolation_is_alternating(x64, optimizer):
    game, optimizer = GAMES.build("dirac(r1=0.5)"), OPTIMIZERS.build(optimizer)
    ours, plain = (
        play(DYNAMICS.build(spec), optimizer, game, [1.0], [2.0], 20)
        for spec in ("alex_gda(1.0, 1.0)", "alternating")
    )
    np.testing.assert_allclose(ours, plain, rtol=1e-12)


def test_alex_gda_is_the_authors_recursion(x64):
    """Each player against the other's extrapolation and with its own parameters as they are."""
    rng, eta, gamma, delta = np.random.default_rng(3), 0.1, 1.4, 2.0
    matrix, noise = Noisy.matrix, rng.standard_normal([6, 4])
    g, d = rng.standard_normal([2, 2])
    game, rule = Noisy(), DYNAMICS.build(f"alex_gda({gamma}, {delta})")
    optimizers, players = setup(game, optax.sgd(eta), g, d)
    memory, seen = rule.init(players), g
    for batch in noise:
        d_step = -eta * (matrix @ np.concatenate([seen, d]) + batch)[2:]
        g_step = -eta * (matrix @ np.concatenate([g, d + gamma * d_step]) + batch)[:2]
        seen, g, d = g + delta * g_step, g + g_step, d + d_step
        moved = rule.step(
            game, optimizers, players, memory, [jnp.asarray(batch)], jax.random.key(0)
        )
        players, memory = moved.players, moved.dynamics_state
        np.testing.assert_allclose(players.generator.params, g, rtol=1e-10)
        np.testing.assert_allclose(players.discriminator.params, d, rtol=1e-10)
        np.testing.assert_allclose(memory.ahead, seen, rtol=1e-10)


def test_anchored_descent_has_the_rate_and_the_constant_of_theory(x64):
    """Ryu et al., Theorem 3: |F|^2 falls as k^(2p - 2); on x y, |F| k^(1 - p) goes to gamma |a|.

    For there the iterate follows the point at which the pull and the gradient balance.
    """
    p, gamma, num_steps = 0.6, 2.5, 40_000
    rate = lambda count: (1 - p) / (count + 1.0) ** p
    rule = DYNAMICS.build(f"anchored(strength={(1 - p) * gamma})")
    path = play(rule, optax.sgd(rate), GAMES.build("bilinear"), [1.0], [2.0], num_steps)
    z = a = 1 + 2j
    for k in range(50):  # z = x + i y
        z = z + 1j * rate(k) * z + (1 - p) * gamma / (k + 1) * (a - z)
        np.testing.assert_allclose(path[k + 1], [z.real, z.imag], rtol=1e-9)
    scaled = np.linalg.norm(path[num_steps]) * num_steps ** (1 - p)
    np.testing.assert_allclose(scaled, gamma * abs(a), rtol=0.02)


def test_the_anchor_is_set_anew_and_the_pull_is_no_gradient(x64):
    """With Adam: the moments are those of the field alone, whatever the pull."""
    rule, optimizer = DYNAMICS.build("anchored(0.5, 1.0, refresh=3)"), optax.adam(0.1)
    game = Noisy()
    optimizers, players = setup(game, optimizer, [1.0, -1.0], [2.0, 0.5])
    memory, anchor, state = rule.init(players), np.array([1.0, -1.0, 2.0, 0.5]), None
    w = anchor
    for k in range(8):
        moved = rule.step(game, optimizers, players, memory, [jnp.zeros(4)], jax.random.key(0))
        players, memory = moved.players, moved.dynamics_state
        state = optimizer.init(w) if state is None else state
        updates, state = optimizer.update(jnp.asarray(game.matrix @ w), state)
        w = w + np.asarray(updates) + 0.5 / (k % 3 + 1) * (anchor - w)
        anchor = w if k % 3 == 2 else anchor
        ours = np.concatenate([players.generator.params, players.discriminator.params])
        np.testing.assert_allclose(ours, w, rtol=1e-9)
        assert int(memory.step) == (k + 1) % 3


def test_the_look_ahead_alone_is_longer_by_the_ratio(x64):
    game = GAMES.build("bilinear")
    rule = DYNAMICS.build("extragradient(step_ratio=3.0)")
    path = play(rule, optax.sgd(0.1), game, [1.0], [2.0], 1)
    ahead_x, ahead_y = 1.0 - 0.3 * 2.0, 2.0 + 0.3 * 1.0
    np.testing.assert_allclose(path[1], [1.0 - 0.1 * ahead_y, 2.0 + 0.1 * ahead_x])


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

    @classmethod
    def flow(cls, w, time):
        """The point to which dw/dt = -F(w) leads."""
        return solve_ivp(
            lambda _, w: -np.asarray(cls.field(w)), (0, time), w, rtol=1e-11, atol=1e-12
        ).y[:, -1]


def classical(order, field, w, h):
    """Heun's step, or the classical one of four stages, as textbooks have them."""
    k1 = field(w)
    if order == 2:
        return w - h / 2 * (k1 + field(w - h * k1))
    k2 = field(w - h / 2 * k1)
    k3 = field(w - h / 2 * k2)
    return w - h / 6 * (k1 + 2 * k2 + 2 * k3 + field(w - h * k3))


def pull_of(w):
    """The gradient of |F of the generator|^2 in y, of the cubic game."""
    (x0, x1), (y0, y1) = w[:2], w[2:]
    return np.array([2 * (4 * x1**3 + 2 * y0) * 2, 2 * (4 * x0**3 + y1**2) * 2 * y1])


@pytest.mark.parametrize("penalty", [0.0, 0.2])
@pytest.mark.parametrize("order", [2, 4])
def test_runge_kutta_is_the_classical_step_and_then_the_penalty(x64, order, penalty):
    w = np.random.default_rng(order).uniform(-1, 1, 4)
    rule = DYNAMICS.build(f"rk({order}, penalty={penalty})")
    path = play(rule, optax.sgd(0.1), Cubic(), w[:2], w[2:], 1)
    expected = classical(order, Cubic.field, w, 0.1)
    expected -= 0.1 * penalty * np.concatenate([np.zeros(2), pull_of(w)])
    np.testing.assert_allclose(path[1], expected, rtol=1e-12)


@pytest.mark.parametrize(("order", "ratio"), [(2, 4), (4, 16)])
def test_runge_kutta_follows_the_flow_to_its_order(x64, order, ratio):
    w = np.array([0.4, -0.3, 0.2, 0.5])
    rule, end = DYNAMICS.build(f"rk({order})"), Cubic.flow(w, 0.4)
    errors = [
        np.linalg.norm(play(rule, optax.sgd(0.4 / n), Cubic(), w[:2], w[2:], n)[-1] - end)
        for n in (8, 16)
    ]
    assert ratio * 0.8 < errors[0] / errors[1] < ratio * 1.25


def test_runge_kutta_with_two_rates_is_that_of_the_scaled_field(x64):
    w, rates = np.array([0.4, -0.3, 0.2, 0.5]), np.array([0.05, 0.05, 0.2, 0.2])
    optimizers = Pair(optax.sgd(0.05), optax.sgd(0.2))
    players = pairwise(
        lambda o, p: PlayerState(p, {}, o.init(p)),
        optimizers,
        Pair(jnp.asarray(w[:2]), jnp.asarray(w[2:])),
    )
    rule = DYNAMICS.build("rk")
    moved = rule.step(Cubic(), optimizers, players, (), [None] * 4, jax.random.key(0)).players
    ours = np.concatenate([moved.generator.params, moved.discriminator.params])
    expected = classical(4, lambda w: rates * Cubic.field(w), w, 1.0)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_runge_kuttas_stages_leave_adams_moments_to_the_step(x64):
    """Adam's own formulas in NumPy: each look ahead from the last step's moments, one update a step."""
    w, m, v, eta, eps = np.array([0.4, -0.3, 0.2, 0.5]), 0, 0, 0.02, 1e-8
    path = play(DYNAMICS.build("rk(2)"), optax.adam(eta, eps=eps), Cubic(), w[:2], w[2:], 3)

    def adam(g, count):
        mean, square = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        root = np.sqrt(square / (1 - 0.999**count)) + eps
        return -eta * mean / (1 - 0.9**count) / root, mean, square

    for count in (1, 2, 3):
        first = Cubic.field(w)
        second = Cubic.field(w + adam(first, count)[0])
        change, m, v = adam((first + second) / 2, count)
        w = w + change
        np.testing.assert_allclose(path[count], w, rtol=1e-10)


class Counting(Cubic):
    """Counts, in each player's variables, how often its gradient was taken."""

    def loss(self, role, players, batch, key):
        loss, _ = super().loss(role, players, batch, key)
        return loss, (players.of(role).variables + 1, {})


@pytest.mark.parametrize("spec", ["rk(2)", "rk(4, penalty=0.1)"])
def test_the_variables_pass_through_all_stages_of_runge_kutta(spec):
    optimizers, players = setup(Counting(), optax.sgd(0.1), [0.1, 0.2], [0.3, 0.4])
    players = pairwise(lambda player: player.replace(variables=jnp.zeros([])), players)
    rule = DYNAMICS.build(spec)
    output = rule.step(Counting(), optimizers, players, (), [None] * rule.order, jax.random.key(0))
    assert (
        output.players.generator.variables == output.players.discriminator.variables == rule.order
    )
    start = Cubic().loss("generator", players, None, None)[0]
    np.testing.assert_allclose(output.metrics["loss/generator"], start)  # where the step starts


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


@pytest.mark.parametrize(
    ("weight", "eta", "sigma", "start"),
    [(0.05, 0.3, 1.0, 1.0), (0.2, 0.5, 1.0, 1.0), (0.05, 0.3, 1.0, 1e12)],
)
def test_sga_leaves_a_bilinear_game_as_theory_says_also_in_float32(weight, eta, sigma, start):
    """<F, J^T F> is 0, and lambda positive; what rounding makes of it once decided the sign."""
    game, rule = GAMES.build(f"bilinear(({sigma},))"), DYNAMICS.build(f"sga({weight})")
    path = play(rule, optax.sgd(eta), game, [0.3 * start], [0.7 * start], 500)
    assert jnp.zeros([]).dtype == jnp.float32  # in which it was played
    distances = np.linalg.norm(np.float64(path), axis=1)
    expected = np.hypot(1 - eta * weight * sigma**2, eta * sigma)
    np.testing.assert_allclose(distances[1:] / distances[:-1], expected, rtol=2e-6)
    assert expected > 1
    np.testing.assert_allclose(predicted_contraction(rule, f"sgd({eta})", jacobian(game)), expected)


@pytest.mark.parametrize(("distance", "sign"), [(0.1, 1), (10.0, -1), (1e8, -1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sga_keeps_away_from_an_unstable_point_from_afar(x64, dtype, distance, sign):
    """Algorithm 1's sign for mu < 0: |F|^4 mu sigma^2 / d + 0.1, up to a positive factor of |F|^4."""
    mu, sigma = -0.3, 1.0
    game = GAMES.build(f"quadratic(({mu},), ({sigma},))")
    w = np.array([distance, 0.0], dtype)
    path = play(DYNAMICS.build("sga(0.5)"), optax.sgd(0.1), game, w[:1], w[1:], 1)
    matrix = np.array([[mu, sigma], [-sigma, mu]])
    force, rotation = matrix @ w, (matrix - matrix.T) / 2
    product = (force @ matrix.T @ force) * ((rotation.T @ force) @ (matrix.T @ force))
    assert np.sign(product / 2 + 0.1) == sign
    expected = w - 0.1 * (force + 0.5 * sign * rotation.T @ force)
    np.testing.assert_allclose(path[1], expected, rtol=1e-5)


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


def test_both_half_steps_may_see_the_same_batch_and_key():
    calls = record("lookahead(extragradient(same_batch=True))", [3])
    assert [call[1:] for call in calls] == [(3, calls[0][2])] * 4


def test_alex_gda_has_fresh_latents_for_each_player():
    (first, *_, key_d), (second, *_, key_g) = record("alex_gda", [7])
    assert (first, second) == ("discriminator", "generator")
    assert key_d != key_g


def test_the_stages_of_runge_kutta_see_fresh_batches_and_keys():
    calls = record("rk(4)", [3, 4, 5, 6])
    assert [batch for _, batch, _ in calls] == [3, 3, 4, 4, 5, 5, 6, 6]
    assert [key for _, _, key in calls[::2]] == [key for _, _, key in calls[1::2]]
    assert len({key for _, _, key in calls}) == 4


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("extragradient(step_ratio=0.5)", "step_ratio must be at least 1, given 0.5"),
        ("alex_gda(gamma=-1.0)", "gamma must be at least 0"),
        ("anchored(strength=1.5)", r"strength must be in \[0, 1\], given 1.5"),
        ("anchored(refresh=-1)", "refresh must be at least 0"),
        ("alternating(0)", r"discriminator_steps must be in \[1, 100\], given 0"),
        ("alternating(reuse_fakes=1)", "reuse_fakes must be bool, given 1"),
        ("lookahead(steps=0)", "steps must be at least 1, given 0"),
        ("lookahead(alpha=1.5)", r"alpha must be in \[0, 1\], given 1.5"),
        ("lookahead(inner='extragradient')", "inner must be Dynamics, given 'extragradient'"),
        ("consensus(-1.0)", "gamma must be at least 0"),
        ("sga(-1.0)", "weight must be at least 0"),
        ("rk(3)", "order must be 2 or 4, given 3"),
        ("rk(penalty=-1.0)", "penalty must be at least 0"),
        ("tiada(0.4, 0.6)", "alpha must be at least beta, .* given 0.4 and 0.6"),
        ("tiada(b2=1.0)", r"b2 must be in \[0, 1\), given 1.0"),
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


def tiada_by_hand(mu, sigma, x, y, rate, alpha, beta, b1, b2, num_steps):
    """Li et al. 2023, Algorithm 1, of each coordinate, in NumPy; with b2, Adam's means in place of sums."""
    start = np.zeros_like(x)
    mx, my, vx, vy, path = start, start, start, start, [np.concatenate([x, y])]
    for t in range(1, num_steps + 1):
        gx, gy = mu * x + sigma * y, mu * y - sigma * x
        mx, my = b1 * mx + (1 - b1) * gx, b1 * my + (1 - b1) * gy
        if b2 is None:
            vx, vy = vx + gx**2, vy + gy**2
            sx, sy = vx, vy
        else:
            vx, vy = b2 * vx + (1 - b2) * gx**2, b2 * vy + (1 - b2) * gy**2
            sx, sy = vx / (1 - b2**t), vy / (1 - b2**t)
        ratio = sx.sum() ** alpha / max(sx.sum() ** alpha, sy.sum() ** alpha)
        x = x - rate * ratio * mx / (1 - b1**t) / (sx**alpha + 1e-8)
        y = y - rate * my / (1 - b1**t) / (sy**beta + 1e-8)
        path.append(np.concatenate([x, y]))
    return np.array(path)


@pytest.mark.parametrize(("b1", "b2"), [(0.0, None), (0.5, 0.9)])
@settings(deadline=None, max_examples=6)
@given(
    seed=st.integers(0, 999), rate=st.floats(0.01, 0.3), alpha=st.floats(0.5, 0.9), beta=st.floats(0.1, 0.5)
)  # fmt: skip
def test_tiada_is_its_papers_algorithm(b1, b2, seed, rate, alpha, beta):
    with jax.enable_x64(True):
        x, y = np.random.default_rng(seed).standard_normal([2, 2]) * [[0.3], [2.0]]
        rule = DYNAMICS.build(f"tiada({alpha!r}, {beta!r}, b1={b1}, b2={b2})")
        game = GAMES.build("quadratic((0.1, 0.3), (1.0, 0.5))")
        path = play(rule, optax.sgd(rate), game, x, y, 12)
        mu, sigma = np.array([0.1, 0.3]), np.array([1.0, 0.5])
        expected = tiada_by_hand(mu, sigma, x, y, rate, alpha, beta, b1, b2, 12)
        np.testing.assert_allclose(path, expected, rtol=1e-6, atol=1e-9)


def test_tiadas_generator_is_the_slower_player(x64):
    """Algorithm 1 of one coordinate each: the larger v is the generator's denominator, by itself."""
    game, (x, y) = GAMES.build("bilinear"), (3.0, 0.5)  # the gradients are y and -x
    path = play(DYNAMICS.build("tiada(0.6, 0.4, eps=0.0)"), optax.sgd(0.1), game, [x], [y], 1)
    np.testing.assert_allclose(path[1], [x - 0.1 * y / 9.0**0.6, y + 0.1 * x / 9.0**0.4])
    path = play(DYNAMICS.build("tiada(0.6, 0.4, eps=0.0)"), optax.sgd(0.1), game, [y], [x], 1)
    np.testing.assert_allclose(path[1], [y - 0.1 * x / 9.0**0.6, x + 0.1 * y / 0.25**0.4])


def test_tiada_converges_where_descent_with_equal_rates_leaves(x64):
    """The paper's quadratic, -y^2 / 2 + 2 x y - 2 x^2: max over y of it is 0, but y has to be faster."""
    one = make_game(
        lambda x, y, batch, key: jnp.sum(-(y**2) / 2 + 2 * x * y - 2 * x**2),
        lambda x, y, batch, key: -jnp.sum(-(y**2) / 2 + 2 * x * y - 2 * x**2),
        jnp.ones(1),
        jnp.zeros(1),
    )
    adaptive = play(DYNAMICS.build("tiada"), optax.sgd(0.1), one, [1.0], [0.0], 3_000)
    x, y = adaptive[-1]
    assert abs(2 * y - 4 * x) < 1e-3
    plain = play(DYNAMICS.build("simultaneous"), optax.sgd(0.1), one, [1.0], [0.0], 300)
    assert not abs(2 * plain[-1, 1] - 4 * plain[-1, 0]) < 1


@pytest.mark.parametrize(
    ("optimizer", "grows"),
    [
        ("sgd(0.1)", True),
        ("optimistic_sgd(0.1)", True),
        ("sgd(0.1, momentum=0.9)", True),
        ("add_decayed_weights(0.1) | sgd(0.1)", True),
        ("schedule_free_sgd(0.1)", True),
        ("adam(0.1)", False),
        ("optimistic_amsgrad(0.1)", False),
        ("radam(0.1)", False),
        ("by_path(sgd(0.1), ('bias', adam(0.1)))", False),
    ],
)
def test_optimizers_that_undo_a_division_are_known(optimizer, grows):
    params = {"kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32), "bias": jnp.zeros(3)}
    assert is_proportional(OPTIMIZERS.build(optimizer), params) == grows
