import numpy as np
import pytest

from gan.analysis.linearization import jacobian
from gan.analysis.trajectories import Method, measured_contraction, simulate
from gan.games import GAMES


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
