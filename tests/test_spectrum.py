"""The spectrum of a game, the maps of steps on linear games, and advice, against dense eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from gan.analysis import advice
from gan.analysis.advice import Method, advise, methods_of, polynomial_dynamics
from gan.analysis.linear_steps import PLAIN, LinearGame, Momentum, StepMap, linear_steps
from gan.analysis.linearization import jacobian as dense_jacobian
from gan.analysis.path_angle import path_angle
from gan.analysis.preconditioner import find_preconditioner
from gan.analysis.spectrum import (
    KINDS,
    TOLERANCE,
    FieldJacobian,
    field_jacobian,
    flat_field,
    leading_spectrum,
)
from gan.data.dataset import Batch
from gan.dynamics import DYNAMICS, LinearOptimizer
from gan.dynamics.dynamics import params_of
from gan.errors import UsageError
from gan.games import GAMES, AdversarialGame
from gan.losses import LOSSES
from gan.models import DISCRIMINATORS, GENERATORS
from gan.optimizers import OPTIMIZERS
from gan.players import Pair, PlayerState, pairwise
from gan.regularizers import REGULARIZERS
from gan.schedules import counted_from


def players_of(game):
    networks = game.init(jax.random.key(0))
    return pairwise(lambda own: PlayerState(own[0].astype(float), {}, ()), networks)


def spectrum_of(game, k=4):
    keys = jax.random.split(jax.random.key(0), 2)
    return leading_spectrum(field_jacobian(game, players_of(game), jnp.zeros(2), keys), k)


def values_of(spectrum):
    return np.sort_complex([own.value for own in spectrum.eigenvalues])


def test_bilinear_games_only_rotate(x64):
    spectrum = spectrum_of(GAMES.build("bilinear((1.0, 3.0))"))
    np.testing.assert_allclose(values_of(spectrum), [1j, 3j], atol=1e-12)
    np.testing.assert_allclose(spectrum.rotation, 1)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.8, 3.0])
def test_dirac_has_mescheders_eigenvalues_with_the_sign_of_a_field_that_is_descended(x64, gamma):
    """Theirs are -gamma / 2 +- sqrt(gamma^2 / 4 - f'(0)^2), of the flow w' = -F(w); f'(0) = 1/2."""
    game = GAMES.build(f"dirac(r1={gamma})")
    zeros = pairwise(lambda own: own.at(jnp.zeros(1)), players_of(game))
    jacobian = field_jacobian(game, zeros, jnp.zeros(2), jax.random.split(jax.random.key(0), 2))
    spectrum = leading_spectrum(jacobian, 2)
    root = np.emath.sqrt(gamma**2 / 4 - 1 / 4)
    expected = {complex(-(-gamma / 2 + sign * root)) for sign in (1, -1)}
    expected = [value for value in expected if value.imag >= 0]
    np.testing.assert_allclose(values_of(spectrum), np.sort_complex(expected), atol=1e-12)
    modulus = abs(gamma / 2 + root)
    np.testing.assert_allclose(spectrum.rotation, abs(root.imag) / modulus, atol=1e-12)


def of_matrices(matrices):
    """The Jacobian of fields F_b(w) = J_b w."""
    mean = matrices.mean(0)
    return FieldJacobian(
        len(mean), len(matrices), lambda v: matrices @ v, lambda u: mean.T @ u, lambda v: mean @ v
    )


def first_of(kind, values, k):
    rank = {"LM": np.abs, "LR": np.real, "SR": lambda x: -x.real, "LI": lambda x: abs(x.imag)}[kind]
    return values[np.argsort(-rank(values))][:k]


@pytest.mark.parametrize("seed", range(3))
def test_arnoldi_finds_the_rim_of_random_quadratic_games(seed):
    """In 80 dimensions; products in float32 have the noise that they have on a GPU."""
    rng = np.random.default_rng(seed)
    matrix = np.diag(np.geomspace(0.01, 3, 80)) + rng.normal(size=[80, 80]) / 9
    exact = np.linalg.eigvals(matrix)
    single = matrix.astype(np.float32)

    def product(transposed):
        return lambda v: (transposed @ v.astype(np.float32)).astype(float)

    jacobian = FieldJacobian(80, 1, lambda v: product(single)(v)[None], product(single.T))
    spectrum = leading_spectrum(jacobian, 3)
    assert spectrum.found == dict.fromkeys(KINDS, 3)
    for own in spectrum.eigenvalues:
        assert own.converged
        assert np.abs(exact - own.value).min() < 20 * TOLERANCE * abs(own.value)
    for kind in KINDS:
        for value in first_of(kind, exact, 2):
            upper = complex(value.real, abs(value.imag))
            near = [
                own for own in spectrum.eigenvalues if abs(own.value - upper) < 0.02 * abs(upper)
            ]
            assert any(kind in own.kinds for own in near), (kind, value)


def test_standard_errors_are_those_of_the_eigenvalues_over_batches():
    """First-order perturbation, of a matrix that is far from normal, against each batch's own eigenvalues."""
    rng = np.random.default_rng(0)
    basis = rng.normal(size=[6, 6])
    matrix = basis @ np.diag([5.0, 3, 2, 1, 0.5, -1]) @ np.linalg.inv(basis)
    matrices = matrix + 1e-5 * rng.normal(size=[5, 6, 6])
    of_batches = np.array([np.sort(np.linalg.eigvals(own).real) for own in matrices])
    expected = of_batches.std(0, ddof=1) / np.sqrt(5)
    found = sorted(
        leading_spectrum(of_matrices(matrices), 6).eigenvalues, key=lambda x: x.value.real
    )
    np.testing.assert_allclose([own.error[0] for own in found], expected, rtol=1e-3)
    left = np.linalg.inv(basis)
    conditions = np.linalg.norm(left, axis=1) * np.linalg.norm(basis, axis=0)
    by_value = conditions[np.argsort([5.0, 3, 2, 1, 0.5, -1])]
    np.testing.assert_allclose([own.condition for own in found], by_value, rtol=1e-3)


def test_a_scaled_field_has_the_eigenvalues_and_errors_of_the_scaled_matrix():
    """Complex ones too: a rotation, each of whose batches is a little different."""
    rng = np.random.default_rng(0)
    rotation = np.array([[0.3, -2.0], [1.0, 0.5]])
    matrices = rotation + 1e-5 * rng.normal(size=[6, 2, 2])
    scale = np.array([1.0, 30.0])
    jacobian = of_matrices(matrices).scaled(scale)
    dense = scale[:, None] * matrices
    v = rng.normal(size=2)
    np.testing.assert_allclose(jacobian.product(v), dense.mean(0) @ v)
    np.testing.assert_allclose(jacobian.transposed(v), dense.mean(0).T @ v)
    with jax.enable_x64(True):
        np.testing.assert_allclose(jacobian.traced(jnp.asarray(v)), dense.mean(0) @ v)
    (found,) = leading_spectrum(jacobian, 1).eigenvalues
    values = np.linalg.eigvals(dense)
    values = values[values.imag > 0]
    np.testing.assert_allclose(found.value, values.mean(), rtol=1e-6)
    root = np.sqrt(len(values))
    expected = values.real.std(ddof=1) / root, values.imag.std(ddof=1) / root
    np.testing.assert_allclose(found.error, expected, rtol=1e-3)


def test_what_does_not_converge_is_left_out_or_marked():
    """Eigenvalues on a circle have no rim; Arnoldi's method is stopped."""
    shift = np.roll(np.eye(400), 1, axis=0)
    spectrum = leading_spectrum(of_matrices(shift[None]), 2, ["LM"])
    assert spectrum.found["LM"] < 2
    assert np.isnan(spectrum.rotation) or spectrum.eigenvalues


@pytest.fixture(scope="module")
def gan():
    """A GAN of two-layer perceptrons in double precision, whose penalty depends on both players."""
    data = {"shape": (2, 2, 1), "num_classes": 1}
    game = AdversarialGame(
        GENERATORS.build("mlp(4, 1)", **data), DISCRIMINATORS.build("mlp(4, 1)", **data),
        LOSSES.build("non_saturating"), 3, (2, 2, 1), {"bcr": REGULARIZERS.build("bcr")},
    )  # fmt: skip
    with jax.enable_x64(True):
        networks = game.init(jax.random.key(0))
        rng = np.random.default_rng(0)
        players = pairwise(
            lambda own: PlayerState(
                jax.tree.map(lambda x: jnp.asarray(x + 0.5 * rng.normal(size=x.shape)), own[0]),
                {},
                (),
            ),
            networks,
        )
        examples = jnp.asarray(rng.normal(size=[3, 8, 2, 2, 1]))
        batches = Batch(examples, jnp.zeros([3, 8], jnp.int32), jnp.zeros(3, jnp.int32))
        yield game, players, batches, jax.random.split(jax.random.key(1), 3)


def test_a_gans_eigenvalues_are_those_of_its_field_by_differences(gan):
    """Also across the discriminator's penalty on fakes: they are the generator's."""
    game, players, batches, keys = gan
    with jax.enable_x64(True):
        point, unravel = ravel_pytree(params_of(players))

        @jax.jit
        @jax.vmap
        def field(flat):
            drawn = (batches, keys)
            return jax.lax.map(lambda d: flat_field(game, players, unravel(flat), *d), drawn).mean(
                0
            )

        step = 1e-6 * np.eye(point.size)
        dense = np.asarray(field(point + step) - field(point - step)).T / 2e-6
        jacobian = field_jacobian(game, players, batches, keys)
        product = np.stack([jacobian.product(v) for v in np.eye(point.size)[:5]], axis=1)
        np.testing.assert_allclose(product, dense[:, :5], atol=1e-7)
        spectrum = leading_spectrum(jacobian, 2)
    exact = np.linalg.eigvals(dense)
    for own in spectrum.eigenvalues:
        assert np.abs(exact - own.value).min() < 5 * TOLERANCE * abs(own.value)
    largest = np.abs(exact).max()
    np.testing.assert_allclose(abs(spectrum.eigenvalues[0].value), largest, rtol=1e-3)
    rotation = np.abs(exact.imag).max() / largest
    np.testing.assert_allclose(spectrum.rotation, rotation, rtol=0.01)


def random_jacobian(rng, size=4):
    """Of a game whose field attracts everywhere, rotates, and is not normal."""
    values = rng.uniform(0.02, 1, size // 2) + 1j * rng.uniform(0, 2, size // 2)
    middle = np.zeros([size, size])
    for i, value in enumerate(values):
        middle[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [
            [value.real, -value.imag], [value.imag, value.real],
        ]  # fmt: skip
    basis = rng.normal(size=[size, size])
    return basis @ middle @ np.linalg.inv(basis), values


KNOWN = {"simultaneous", "extragradient", "past_extragradient", "lookahead"}
OTHERS = {"alternating", "consensus", "sga"}


def test_which_steps_are_polynomials_is_found_out():
    found = set(polynomial_dynamics("lookahead(alternating)"))
    assert found >= KNOWN
    assert not found & (OTHERS | {"lookahead(alternating)"})


@pytest.mark.parametrize("name", list(DYNAMICS))
def test_the_maps_of_steps_are_those_of_the_dynamics_own_formulas(name):
    rule = DYNAMICS.build(name)
    matrix, _ = random_jacobian(np.random.default_rng(0))
    steps = StepMap(rule)
    for momentum, linear in [
        (PLAIN, LinearOptimizer(0.2)),
        (Momentum(optimism=0.5), LinearOptimizer(0.2, strength=0.1)),
        (Momentum(b1=-0.5), LinearOptimizer(0.3, momentum=-0.5)),
    ]:
        formula = rule.linear_map(matrix, linear)
        if formula is None:
            continue
        found, _ = steps.matrices(matrix[None], np.full(1, 0.2), momentum)
        radius = np.abs(np.linalg.eigvals(found[0, :, :-1])).max()
        assert formula.num_steps == rule.period
        expected = np.abs(np.linalg.eigvals(formula.matrix)).max()
        np.testing.assert_allclose(radius, expected, rtol=1e-6)


def test_steps_that_change_as_they_are_counted_are_not_taken_for_one_map():
    class Slower(type(DYNAMICS.build("simultaneous"))):
        def init(self, players):
            return jnp.ones([], jnp.int32)

        def step(self, game, optimizers, players, dynamics_state, batches, key):
            output = super().step(game, optimizers, players, (), batches, key)
            params = pairwise(
                lambda old, new: old.params + (new.params - old.params) / dynamics_state,
                players, output.players,
            )  # fmt: skip
            moved = pairwise(lambda new, own: new.at(own), output.players, params)
            return output._replace(players=moved, dynamics_state=dynamics_state + 1)

    assert not StepMap(Slower()).is_polynomial()


def test_the_linear_optimizer_is_that_of_optax(x64):
    rng = np.random.default_rng(0)
    links = "trace(decay=0.6, nesterov={}) | scale(0.4) | scale_by_optimistic_gradient(0.1, 0.05) | scale(-1.0)"
    for nesterov in (False, True):
        ours = Momentum(0.6, 0.5, nesterov).optimizer(0.1)
        theirs = OPTIMIZERS.build(links.format(nesterov))
        params = jnp.zeros(3)
        states = [ours.init(params), theirs.init(params)]
        for _ in range(4):
            gradient = jnp.asarray(rng.normal(size=3))
            pairs = [o.update(gradient, s) for o, s in zip((ours, theirs), states, strict=True)]
            states = [state for _, state in pairs]
            np.testing.assert_allclose(pairs[0][0], pairs[1][0], rtol=1e-12)


def test_optimism_of_the_learning_rate_undoes_a_momentum_of_one_half():
    """2 m_t - m_{t-1} = g_t, where m_t = (m_{t-1} + g_t) / 2."""
    steps = StepMap(DYNAMICS.build("simultaneous"))
    values, rates = np.array([0.3 + 1j, 2.0]), np.array([0.1, 0.4])
    plain = steps.multipliers(values, rates, PLAIN)
    np.testing.assert_allclose(plain, np.abs(1 - rates[:, None] * values), rtol=1e-12)
    found = steps.multipliers(values, rates, Momentum(0.5, 1.0))
    forgotten = 0.5  # what the mean remembers, which no step sees
    np.testing.assert_allclose(found, np.maximum(plain, forgotten), rtol=1e-7)


def advice_on(values, dynamics, momentum=PLAIN, rate=0.1):
    found, left_out = advise(np.asarray(values), rate, [Method(dynamics, momentum)])
    return (found[0] if found else None), left_out


def test_the_largest_stable_rates_are_those_of_the_closed_forms():
    """On eigenvalues a > 0 and i: |1 - eta a|, |1 - eta i - eta^2|, and OGDA's largest root."""
    for dynamics, momentum, values, expected in [
        ("simultaneous", PLAIN, [3.0, 1.0], 2 / 3),
        ("simultaneous", PLAIN, [1 + 2j], 2 / 5),
        ("simultaneous", PLAIN, [1j, 1.0], None),
        ("simultaneous", Momentum(0.5), [1.0], 6.0),  # 2 (1 + b1) / (1 - b1)
        ("extragradient", PLAIN, [2j], 1 / 2),
        ("simultaneous", Momentum(optimism=1.0), [2j], 1 / np.sqrt(3) / 2),
    ]:
        found, left_out = advice_on(values, dynamics, momentum)
        if expected is None:  # it has the real one stable, and the imaginary one is left out
            assert left_out.tolist() == [True, False]
        else:
            np.testing.assert_allclose(found.largest_stable_rate, expected, rtol=1e-4)
    best, _ = advice_on([3.0, 1.0], "simultaneous")
    np.testing.assert_allclose([best.best_rate, best.best_radius], [1 / 2, 1 / 2], rtol=1e-3)
    np.testing.assert_allclose(best.radius, 1 - 0.1)


def test_eigenvalues_that_nobody_has_stable_are_left_out():
    methods = methods_of(Method("simultaneous"), adam=True)
    found, left_out = advise(np.array([1j, 0.5, -0.3, -0.01 + 1j]), 0.1, methods)
    assert left_out.tolist() == [False, False, True, False]
    assert found[0].best_radius < 1
    assert advise(np.array([-1.0]), 0.1, methods)[0] == []


def test_of_200_random_quadratics_the_predicted_best_way_is_the_measured_best(monkeypatch):
    """Each method takes real steps on the whole games, which are not normal, at its predicted best rate."""
    monkeypatch.setattr(advice, "_RATES", np.logspace(-1.5, 1, 26))
    rng = np.random.default_rng(0)
    games = [random_jacobian(rng) for _ in range(200)]
    methods = [
        Method(d, m) for d in ("simultaneous", "extragradient") for m in (PLAIN, Momentum(0, 1.0))
    ]
    predicted = []
    for _, values in games:
        by_method = {own.method: own for own in advise(values, 0.1, methods)[0]}
        predicted.append([by_method[method] for method in methods])
    measured = np.zeros([200, len(methods)])
    with jax.enable_x64(True):
        matrices, start = jnp.stack([matrix for matrix, _ in games]), rng.normal(size=4)
        for column, method in enumerate(methods):

            def contraction(matrix, rate, method=method):
                rule, optimizer = DYNAMICS.build(method.dynamics), method.momentum.optimizer(rate)
                steps = linear_steps(rule, lambda w: matrix @ w, (2, 2), optimizer)
                begin = jnp.zeros(steps.size).at[:4].set(start)

                def step(carry, _):
                    state, total = carry
                    state, _ = steps.period(state, steps.start)
                    norm = jnp.linalg.norm(state)
                    return (state / norm, total + jnp.log(norm)), total

                (_, total), totals = jax.lax.scan(step, (begin, 0.0), None, 4000)
                return (total - totals[2000]) / 2000

            rates = jnp.array([own[column].best_rate for own in predicted])
            measured[:, column] = np.exp(jax.jit(jax.vmap(contraction))(matrices, rates))
    radii = np.array([[own.best_radius for own in row] for row in predicted])
    np.testing.assert_allclose(measured, radii, atol=2e-3)
    best = measured[np.arange(200), radii.argmin(1)]
    assert (best <= measured.min(1) + 2e-3).all()
    assert len({*radii.argmin(1)}) > 1  # they are not all of one answer


@pytest.mark.parametrize(
    ("spec", "eps"),
    [
        ("adam(cosine_decay_schedule(0.1, 100), b1=0.5, eps=1e-3)", 1e-3),
        ("clip_by_global_norm(1e9) | optimistic_adam(0.1, 0.3, b2=0.9)", 1e-8),
        ("adam(0.1, b2=linear_schedule(0.9, 0.99, 100))", 1e-8),
        ("by_path(adam(0.1, eps=1e-3), ('b', adam(0.2, eps=1e-3, b1=0.0)))", 1e-3),
    ],
)  # fmt: skip
def test_the_preconditioner_is_adams(x64, spec, eps):
    """Against v by its definition, with as many updates as a run has made."""
    rng = np.random.default_rng(0)
    optimizer = OPTIMIZERS.build(spec)
    params = {"a": jnp.zeros(3), "b": jnp.zeros(2)}
    state = optimizer.init(params)
    v, b2 = np.zeros(5), 0.999
    for step in range(4):
        flat = rng.normal(size=5)
        gradient = {"a": jnp.asarray(flat[:3]), "b": jnp.asarray(flat[3:])}
        with counted_from(jnp.asarray(step)):
            _, state = optimizer.update(gradient, state, params)
        b2 = {"b2=0.9)": 0.9}.get(spec[-7:], 0.9 + 0.0009 * step if "linear" in spec else 0.999)
        v = b2 * v + (1 - b2) * flat**2
    if "linear" in spec:
        b2 = 0.9 + 0.0009 * 4
    player = PlayerState(params, {}, state)
    slower = "adam(0.05)"
    made = OPTIMIZERS.build(slower)
    other = PlayerState(params, {}, made.update(params, made.init(params))[1])
    found = find_preconditioner(Pair(spec, slower), Pair(player, other), 4)
    rate = 0.1 * (1 + np.cos(np.pi * 4 / 100)) / 2 if "cosine" in spec else 0.1
    relative = np.array([1, 1, 1, 2, 2]) if "by_path" in spec else 1
    np.testing.assert_allclose(found.rate, rate)
    np.testing.assert_allclose(
        found.scale[:5], relative / (np.sqrt(v / (1 - b2**4)) + eps), rtol=1e-9
    )
    np.testing.assert_allclose(found.scale[5:], 0.05 / rate / 1e-8)  # its gradients were 0
    assert found.left_out == (["clip_by_global_norm of the generator"] if "clip" in spec else [])
    b1, optimism, nesterov = found.adams.generator[0].momentum
    assert b1 == (0.5 if "b1=0.5" in spec else 0.9)
    assert not nesterov
    np.testing.assert_allclose(optimism, 3.0 if "0.3" in spec else 0.0)


def test_what_is_no_adam_is_refused():
    params = jnp.zeros(2)
    for spec, reason in [
        ("rmsprop(0.1)", "rmsprop"),
        ("adam(0.1)", "no step yet"),
        ("sgd(0.1)", "sgd"),
    ]:
        state = OPTIMIZERS.build(spec).init(params)
        player = PlayerState(params, {}, state)
        with pytest.raises(UsageError, match=reason):
            find_preconditioner(Pair(spec, spec), Pair(player, player), 0)


def test_the_steps_of_a_run_are_those_of_its_linear_map():
    """Alternating descent on a large game, less the identity, against the dense map."""
    matrix, _ = random_jacobian(np.random.default_rng(1), 6)
    rule = DYNAMICS.build("alternating")
    with jax.enable_x64(True):
        steps = linear_steps(
            rule, lambda w: matrix @ w, (3, 3), Momentum(-0.5).optimizer(0.1 / 1.5)
        )
        identity = jnp.eye(steps.size)
        found = jax.vmap(lambda state: steps.period(state, steps.start)[0], 0, 1)(identity)
    formula = rule.linear_map(matrix, LinearOptimizer(0.1 / 1.5 * 1.5, momentum=-0.5))
    np.testing.assert_allclose(
        np.sort_complex(np.linalg.eigvals(found)),
        np.sort_complex(np.linalg.eigvals(formula.matrix)), atol=1e-9,
    )  # fmt: skip


def angle(game, first, second, alpha):
    def at(point):
        return Pair(*(PlayerState(jnp.asarray([x]), {}, ()) for x in point))

    keys = jax.random.split(jax.random.key(0), 2)
    return path_angle(game, at(first), at(second), jnp.zeros(2), keys, np.asarray(alpha))


def test_the_path_angle_switches_sign_where_the_field_attracts(x64):
    game = GAMES.build("quadratic((2.0,), (0.0,))")
    found = angle(game, (3.0, 4.0), (0.0, 0.0), [0.0, 0.5, 0.9, 1.1, 1.5])
    np.testing.assert_allclose(found.cosine, [1, 1, 1, -1, -1], rtol=1e-12)
    np.testing.assert_allclose(found.norm, 2 * 5 * np.array([1, 0.5, 0.1, 0.1, 0.5]))


def test_the_path_angle_has_a_bump_where_the_field_rotates(x64):
    """The line passes the solution at the distance 1: the cosine is 1 there, 1 / sqrt(1 + s^2) away."""
    game = GAMES.build("bilinear")
    alpha = np.linspace(-1, 2, 7)
    found = angle(game, (-2.0, 1.0), (2.0, 1.0), alpha)
    s = -2 + 4 * alpha
    np.testing.assert_allclose(np.abs(found.cosine), 1 / np.sqrt(1 + s**2), rtol=1e-12)
    assert len({*np.sign(found.cosine)}) == 1


def test_a_linear_game_has_its_field(x64):
    matrix = np.arange(9.0).reshape(3, 3)
    game = LinearGame(lambda w: matrix @ w, (1, 2))
    players = Pair(PlayerState(jnp.ones(1), {}, ()), PlayerState(jnp.ones(2), {}, ()))
    field = game.vector_field(players, None, jax.random.key(0))
    np.testing.assert_allclose(field.generator.value, [3])
    np.testing.assert_allclose(game.gradient("discriminator", players, None, None).value, [12, 21])
    np.testing.assert_allclose(dense_jacobian(GAMES.build("bilinear")), [[0, 1], [-1, 0]])
    assert optax.tree.norm(field.discriminator.loss) == 0
