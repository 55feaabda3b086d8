import numpy as np
import scipy.linalg

from gan.data import DATASETS
from gan.data.dataset import Mixture
from gan.evaluation import diversity, frechet_distance, mixture_scores

SQUARE = Mixture(np.array([[0.0, 0.0], [0.0, 10.0], [10.0, 0.0], [10.0, 10.0]]), std=1.0)


def test_hand_made_cases():
    near = np.array([[0.0, 2.9], [0.1, 0.0], [0.0, 12.9], [10.0, -2.0]])
    far = np.array([[0.0, 3.1], [5.0, 5.0], [20.0, 20.0], [0.0, 13.1]])
    scores = mixture_scores(np.concatenate([near, far]), SQUARE)
    assert scores["modes_covered"] == 3
    assert scores["high_quality"] == 0.5
    share = np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(scores["kl_to_uniform"], np.sum(share * np.log(share / 0.25)))


def test_all_modes_alike_and_one_mode_only():
    assert mixture_scores(SQUARE.means, SQUARE)["kl_to_uniform"] == 0
    np.testing.assert_allclose(mixture_scores(SQUARE.means[:1], SQUARE)["kl_to_uniform"], np.log(4))


def test_nothing_good():
    scores = mixture_scores(np.full([3, 2], 50.0), SQUARE)
    assert scores == {"modes_covered": 0, "high_quality": 0, "kl_to_uniform": np.inf}


def test_real_points_have_the_score_of_chance():
    """Within three standard deviations in two dimensions: 1 - exp(-9 / 2)."""
    dataset = DATASETS.build("gaussians")
    scores = mixture_scores(dataset.load().examples, dataset.mixture)
    assert scores["modes_covered"] == 8
    np.testing.assert_allclose(scores["high_quality"], 1 - np.exp(-4.5), atol=0.002)
    assert scores["kl_to_uniform"] < 1e-3


def test_frechet_distance_against_scipys_square_root():
    rng = np.random.default_rng(0)
    a = rng.standard_normal([300, 6]) @ rng.standard_normal([6, 6])
    b = rng.standard_normal([200, 6]) @ rng.standard_normal([6, 6]) + 1
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    shift = a.mean(0) - b.mean(0)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = shift @ shift + np.trace(cov_a + cov_b - 2 * root)
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-8)


def test_frechet_distance_of_equal_shifted_and_flat_sets():
    rng = np.random.default_rng(1)
    x = rng.standard_normal([50, 3]) * [1.0, 2.0, 0.0]  # a constant coordinate: a singular matrix
    np.testing.assert_allclose(frechet_distance(x, x), 0, atol=1e-9)
    np.testing.assert_allclose(frechet_distance(x, x + np.array([3.0, 0.0, 4.0])), 25, rtol=1e-9)


def vendi_by_eigenvalues(x, width):
    """The score of order 2 as it is defined, from the eigenvalues of the kernel matrix."""
    squares = np.square(x[:, None] - x[None]).sum(-1)
    values = np.linalg.eigvalsh(np.exp(-squares / (2 * width**2)) / len(x))
    return 1 / np.square(values).sum()


def test_diversity_is_the_ratio_of_vendi_scores():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(50, 3)), 0.5 * rng.normal(size=(50, 3)) + 1
    distances = np.linalg.norm(real[:, None] - real, axis=-1) + 1e9 * np.eye(50)
    width = np.sqrt(np.square(distances.min(axis=1)).mean()) / 2
    expected = vendi_by_eigenvalues(fake, width) / vendi_by_eigenvalues(real, width)
    np.testing.assert_allclose(diversity(fake, real), expected, rtol=1e-9)


def test_diversity_counts_what_is_different():
    """Real examples in 32 tight pairs: 32 things, of which the samples show some."""
    real = np.repeat(1_000.0 * np.eye(32), 2, axis=0)
    real[1::2] += 1e-3
    np.testing.assert_allclose(diversity(real[::-1], real), 1)
    for shown in (1, 4, 16):
        fake = np.repeat(real[: 2 * shown : 2], 64 // shown, axis=0)
        # Of a pair both count, but for what they have in common: exp(-4).
        expected = shown / (64 / (1 + np.exp(-4)))
        np.testing.assert_allclose(diversity(fake, real), expected, rtol=1e-6)
    images = np.random.default_rng(0).integers(0, 256, [40, 8, 8, 1]).astype(np.uint8)
    np.testing.assert_allclose(diversity(images, images), 1)
    assert diversity(np.repeat(images[:1], 40, axis=0), images) < 0.1
    assert diversity(np.repeat(images[:1], 40, axis=0), np.zeros_like(images)) == 1
