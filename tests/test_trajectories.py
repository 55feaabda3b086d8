import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan.analysis.linearization import jacobian
from gan.analysis.trajectories import Method, measured_contraction, play, simulate
from gan.dynamics import DYNAMICS
from gan.dynamics.simultaneous import Simultaneous
from gan.errors import UsageError
from gan.games import GAMES
from gan.games.custom import make_game
from gan.players import Pair


def test_methods_do_not_affect_one_another(x64):
    game = GAMES.build("bilinear((1.0, 0.5))")
    both = [Method("simultaneous", "sgd(0.1)"), Method("extragradient", "adam(0.1)")]
    together = simulate(game, both, 20)
    assert together.shape == (1, 2, 21, 2, 2)
    for i, method in enumerate(both):
        np.testing.assert_allclose(simulate(game, [method], 20)[0, 0], together[0, i], rtol=1e-12)


def test_a_path_is_the_recurrence(x64):
    path = simulate(GAMES.build("bilinear"), [Method("simultaneous", "sgd(0.1)")], 5, (9.0, 2.0))[
        1, 0
    ]
    x, y = 2.0, 2.0
    for point in path:
        np.testing.assert_allclose(point[:, 0], [x, y], rtol=1e-12)
        x, y = x - 0.1 * y, y + 0.1 * x


@pytest.mark.parametrize("rate", [0.5, 0.99, 1.0, 1.5])
def test_contraction_of_a_spiral(rate):
    steps = np.arange(3_000)
    with np.errstate(over="ignore", under="ignore"):
        spiral = (rate * np.exp(0.3j)) ** steps
    path = np.stack([spiral.real, spiral.imag], axis=1)[..., None]
    np.testing.assert_allclose(measured_contraction(path), rate, rtol=1e-9)


@pytest.mark.parametrize("loss", ["non_saturating", "minimax", "wasserstein"])
@pytest.mark.parametrize("r1", [0.0, 0.5, 3.0])
def test_dirac_has_mescheders_eigenvalues(x64, loss, r1):
    """-gamma / 2 +- sqrt(gamma^2 / 4 - f'(0)^2) for the flow, so with the other sign for the field."""
    slope = 1.0 if loss == "wasserstein" else 0.5
    values = np.linalg.eigvals(jacobian(GAMES.build(f"dirac({loss!r}, r1={r1})")))
    root = np.emath.sqrt(r1**2 / 4 - slope**2)
    expected = np.array([r1 / 2 + root, r1 / 2 - root])
    np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(expected), atol=1e-12)


def test_r1_lets_plain_descent_converge_on_the_dirac_gan(x64):
    sgd = [Method("simultaneous", "sgd(0.1)")]
    without = simulate(GAMES.build("dirac"), sgd, 2_000)[0, 0, -1]
    regularized = simulate(GAMES.build("dirac(r1=1.0)"), sgd, 2_000)[0, 0, -1]
    assert np.linalg.norm(without) > 1
    assert np.linalg.norm(regularized) < 1e-6


def own_bilinear():
    return make_game(
        lambda x, y, batch, key: x @ y, lambda x, y, batch, key: -(x @ y), jnp.ones(1), jnp.ones(1)
    )


@pytest.mark.parametrize("dynamics", list(DYNAMICS))
def test_losses_of_ones_own_are_played_like_a_game_of_ours(dynamics, x64):
    optimizer = "sgd(0.1)"
    path = play(own_bilinear(), optimizer, dynamics, num_steps=50)
    ours = play(GAMES.build("bilinear"), optimizer, dynamics, num_steps=50)
    np.testing.assert_allclose(path.generator, ours.generator, rtol=1e-9)
    np.testing.assert_allclose(path.discriminator, ours.discriminator, rtol=1e-9)
    simulated = simulate(GAMES.build("bilinear"), [Method(dynamics, optimizer)], 50)[0, 0]
    np.testing.assert_allclose(ours.generator, simulated[:, 0], rtol=1e-9)


def test_gradient_descent_on_two_losses_grows_as_it_should(x64):
    """|z_t|^2 = (1 + eta^2)^t |z_0|^2 on x . y, for any optimizer of optax and any pytree."""

    def inner(x, y, batch, key):
        return sum(a @ b for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True))

    start = {"a": jnp.ones(2), "b": (jnp.ones(3),)}
    game = make_game(inner, lambda *arguments: -inner(*arguments), start, start)
    path = play(game, optax.sgd(0.1), Simultaneous(), num_steps=100)
    assert jax.tree.map(jnp.shape, path.generator) == {"a": (101, 2), "b": ((101, 3),)}
    squares = sum((leaf**2).sum(1) for leaf in jax.tree.leaves(path))
    np.testing.assert_allclose(squares, 10 * 1.01 ** np.arange(101), rtol=1e-12)


@pytest.mark.parametrize(("dynamics", "drawn"), [("simultaneous", 1), ("extragradient", 2)])
def test_batches_are_counted_over_the_whole_play(dynamics, drawn):
    """With the loss x b, a step of size 1 goes by the batch b that the step is made with."""
    game = make_game(
        lambda x, y, batch, key: (x * batch).sum(), lambda x, y, batch, key: (y * batch).sum(),
        jnp.zeros(1), jnp.zeros(1),
    )  # fmt: skip
    path = play(game, "sgd(1.0)", dynamics, num_steps=5, batches=lambda number: number + 0.0)
    made_with = np.arange(5) * drawn + drawn - 1
    np.testing.assert_allclose(path.generator[1:, 0], -np.cumsum(made_with))


def test_each_player_may_have_its_own_optimizer():
    optimizers = Pair(generator=optax.sgd(0.1), discriminator=optax.sgd(0.2))
    path = play(own_bilinear(), optimizers, num_steps=1)
    assert (float(path.generator[1, 0]), float(path.discriminator[1, 0])) == pytest.approx(
        (0.9, 1.2)
    )
    with pytest.raises(UsageError, match="did you mean 'extragradient'"):
        play(own_bilinear(), "sgd(0.1)", "extragradent", num_steps=1)
