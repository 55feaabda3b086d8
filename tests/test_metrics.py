import functools
from unittest import mock

import numpy as np
import pytest
import scipy.linalg
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.data import DATASETS
from gan.data.dataset import Mixture
from gan.metrics.fid import frechet_distance
from gan.metrics.inception_score import inception_score
from gan.metrics.kid import kernel_inception_distance
from gan.metrics.mode_coverage import mode_coverage
from gan.metrics.prdc import prdc
from gan.metrics.summary import Moments, Predictions
from gan.metrics.vendi import diversity, make_reference

SQUARE = Mixture(np.array([[0.0, 0.0], [0.0, 10.0], [10.0, 0.0], [10.0, 10.0]]), std=1.0)


def test_hand_made_cases():
    near = np.array([[0.0, 2.9], [0.1, 0.0], [0.0, 12.9], [10.0, -2.0]])
    far = np.array([[0.0, 3.1], [5.0, 5.0], [20.0, 20.0], [0.0, 13.1]])
    scores = mode_coverage(np.concatenate([near, far]), SQUARE)
    assert scores["modes_covered"] == 3
    assert scores["high_quality"] == 0.5
    share = np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(scores["kl_to_uniform"], np.sum(share * np.log(share / 0.25)))


def test_all_modes_alike_and_one_mode_only():
    assert mode_coverage(SQUARE.means, SQUARE)["kl_to_uniform"] == 0
    np.testing.assert_allclose(mode_coverage(SQUARE.means[:1], SQUARE)["kl_to_uniform"], np.log(4))


def test_nothing_good():
    scores = mode_coverage(np.full([3, 2], 50.0), SQUARE)
    assert scores == {"modes_covered": 0, "high_quality": 0, "kl_to_uniform": np.inf}


def test_real_points_have_the_score_of_chance():
    """Within three standard deviations in two dimensions: 1 - exp(-9 / 2)."""
    dataset = DATASETS.build("gaussians")
    scores = mode_coverage(dataset.load().examples, dataset.mixture)
    assert scores["modes_covered"] == 8
    np.testing.assert_allclose(scores["high_quality"], 1 - np.exp(-4.5), atol=0.002)
    assert scores["kl_to_uniform"] < 1e-3


def frechet(a, b):
    return frechet_distance(Moments.of(a), Moments.of(b))


def test_frechet_distance_against_scipys_square_root():
    rng = np.random.default_rng(0)
    a = rng.standard_normal([300, 6]) @ rng.standard_normal([6, 6])
    b = rng.standard_normal([200, 6]) @ rng.standard_normal([6, 6]) + 1
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    shift = a.mean(0) - b.mean(0)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = shift @ shift + np.trace(cov_a + cov_b - 2 * root)
    np.testing.assert_allclose(frechet(a, b), expected, rtol=1e-8)


def test_frechet_distance_of_equal_shifted_and_flat_sets():
    rng = np.random.default_rng(1)
    x = rng.standard_normal([50, 3]) * [1.0, 2.0, 0.0]  # a constant coordinate: a singular matrix
    np.testing.assert_allclose(frechet(x, x), 0, atol=1e-9)
    np.testing.assert_allclose(frechet(x, x + np.array([3.0, 0.0, 4.0])), 25, rtol=1e-9)


def test_frechet_distance_of_fewer_vectors_than_coordinates():
    """As of 100 images in 2,048 features; scipy's root of such a product is complex."""
    x = np.random.default_rng(2).standard_normal([20, 64])
    np.testing.assert_allclose(frechet(x, x), 0, atol=1e-9)
    # Of (c^2 C, C): tr(C) (c - 1)^2, and a shift of the means by c - 1 times the mean.
    expected = np.trace(np.cov(x.T)) + np.square(x.mean(0)).sum()
    np.testing.assert_allclose(frechet(2 * x, x), expected, rtol=1e-9)


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    far=st.sampled_from([0.0, 1e6]),
    seed=st.integers(0, 100),
)
def test_moments_are_joined_without_loss(sizes, far, seed):
    """Also far from the origin, where a sum of squares would lose all its digits."""
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal([size, 3]) + far for size in sizes]
    joined = functools.reduce(Moments.join, map(Moments.of, parts))
    whole = np.concatenate(parts)
    assert joined.count == len(whole)
    np.testing.assert_allclose(joined.mean, whole.mean(0), rtol=1e-12)
    if len(whole) > 1:
        np.testing.assert_allclose(joined.covariance, np.cov(whole.T), rtol=1e-6, atol=1e-8)


def test_kernel_distance_against_the_estimator_term_by_term():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal([9, 4]), rng.standard_normal([9, 4]) + 0.5
    k = lambda a, b: (a @ b / 4 + 1) ** 3
    pairs = [(i, j) for i in range(9) for j in range(9)]
    expected = (
        sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / (9 * 8)
        - 2 * sum(k(x[i], y[j]) for i, j in pairs) / 81
    )
    mean, std = kernel_inception_distance(x, y, num_subsets=3, subset_size=1_000)
    np.testing.assert_allclose(mean, expected, atol=1e-12)
    assert np.isnan(std)  # every subset would be all there is


def test_kernel_distance_is_unbiased():
    """Of two samples of one distribution it is 0 on average, and positive for another one."""
    rng = np.random.default_rng(4)
    draws = [rng.standard_normal([2, 50, 4]) for _ in range(300)]
    own = [kernel_inception_distance(a, b, num_subsets=1)[0] for a, b in draws]
    other = [kernel_inception_distance(a, 1.5 * b, num_subsets=1)[0] for a, b in draws]
    assert abs(np.mean(own)) < 3 * np.std(own) / np.sqrt(300)
    assert np.mean(other) > 10 * np.std(own) / np.sqrt(300)


def test_inception_score_of_known_predictions():
    sure = 50.0 * np.eye(4)[np.arange(40) % 4]  # each of four classes, without doubt
    parts = [Predictions.of(sure[:20]), Predictions.of(sure[20:])]
    np.testing.assert_allclose(inception_score(parts), [4, 0], atol=1e-9)
    np.testing.assert_allclose(inception_score([Predictions.of(sure[:1])]), [1, 0], atol=1e-9)
    np.testing.assert_allclose(
        inception_score([Predictions.of(np.zeros([7, 3]))]), [1, 0], atol=1e-9
    )
    logits = np.random.default_rng(5).standard_normal([30, 5])
    p = scipy.special.softmax(logits, axis=1)
    kl = scipy.special.rel_entr(p, p.mean(0)).sum(1)
    joined = Predictions.of(logits[:11]).join(Predictions.of(logits[11:]))
    np.testing.assert_allclose(inception_score([joined]), [np.exp(kl.mean()), 0], rtol=1e-12)


def neighbours_by_hand(real, fake, ball, wide_ball):
    def distances(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=-1)

    def radii(x, k):
        return np.sort(distances(x, x), axis=1)[:, k]  # the first is itself

    between = distances(real, fake)  # [N, M]
    in_real = between <= radii(real, ball)[:, None]
    in_wide = between <= radii(real, wide_ball)[:, None]
    return {
        "precision": in_real.any(0).mean(),
        "recall": (between <= radii(fake, ball)).any(1).mean(),
        "density": in_wide.sum(0).mean() / wide_ball,
        "coverage": in_wide.any(1).mean(),
    }


@pytest.mark.parametrize("block", [7, 1_000])
@settings(max_examples=15, deadline=None)
@given(
    n=st.sampled_from([12, 33]),
    m=st.sampled_from([12, 40]),
    scale=st.sampled_from([0.3, 1.0, 2.0]),
    seed=st.integers(0, 1_000),
)
def test_neighbour_scores_against_their_definitions(block, n, m, scale, seed):
    rng = np.random.default_rng(seed)
    real = rng.standard_normal([n, 3]).astype(np.float32)
    fake = (scale * rng.standard_normal([m, 3])).astype(np.float32)
    with mock.patch("gan.metrics.prdc._BLOCK", block):
        scores = prdc(real, fake, ball=2, wide_ball=4)
    expected = neighbours_by_hand(real, fake, 2, 4)
    assert scores == pytest.approx(expected, abs=1e-6)


def test_neighbour_scores_of_equal_and_of_distant_sets():
    x = np.random.default_rng(6).standard_normal([100, 8]).astype(np.float32)
    same = prdc(x, x)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    np.testing.assert_allclose(same["density"], 6 / 5)  # a vector is in its own ball too
    far = prdc(x, x + 1_000)
    assert far == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


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
    np.testing.assert_allclose(diversity(fake, make_reference(real)), expected, rtol=1e-9)


def test_diversity_counts_what_is_different():
    """Real examples in 32 tight pairs: 32 things, of which the samples show some."""
    real = np.repeat(1_000.0 * np.eye(32), 2, axis=0)
    real[1::2] += 1e-3
    np.testing.assert_allclose(diversity(real[::-1], make_reference(real)), 1)
    for shown in (1, 4, 16):
        fake = np.repeat(real[: 2 * shown : 2], 64 // shown, axis=0)
        # Of a pair both count, but for what they have in common: exp(-4).
        expected = shown / (64 / (1 + np.exp(-4)))
        np.testing.assert_allclose(diversity(fake, make_reference(real)), expected, rtol=1e-6)
    images = np.random.default_rng(0).integers(0, 256, [40, 8, 8, 1]).astype(np.uint8)
    np.testing.assert_allclose(diversity(images, make_reference(images)), 1)
    assert diversity(np.repeat(images[:1], 40, axis=0), make_reference(images)) < 0.1
    assert diversity(np.repeat(images[:1], 40, axis=0), make_reference(np.zeros_like(images))) == 1


@pytest.fixture(scope="module")
def vectors():
    """Real and fake features with unequal covariances."""
    rng = np.random.default_rng(7)
    mix = rng.standard_normal([16, 16]) / 4
    real = rng.standard_normal([400, 16]) @ mix
    return real, 0.9 * rng.standard_normal([400, 16]) @ mix + 0.1


def test_frechet_distance_is_torch_fidelitys(torch_fidelity, vectors):
    fid = torch_fidelity("metric_fid")
    statistics = [{"mu": x.mean(0), "sigma": np.cov(x.T)} for x in vectors]
    expected = fid.fid_statistics_to_metric(*statistics, verbose=False)
    expected = expected["frechet_inception_distance"]
    np.testing.assert_allclose(frechet(*vectors), expected, rtol=1e-6)


def test_kernel_distance_is_torch_fidelitys(torch_fidelity, vectors):
    """Of one subset of all: which subsets are drawn is each program's own."""
    import torch

    kid = torch_fidelity("metric_kid")
    options = {
        "kid_subsets": 1, "kid_subset_size": 400, "kid_kernel_poly_degree": 3,
        "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1, "rng_seed": 0, "verbose": False,
    }  # fmt: skip
    expected = kid.kid_features_to_metric(*map(torch.tensor, vectors), **options)
    mean, _ = kernel_inception_distance(*vectors, num_subsets=1)
    np.testing.assert_allclose(mean, expected["kernel_inception_distance_mean"], rtol=1e-6)


def test_inception_score_is_torch_fidelitys(torch_fidelity, vectors):
    import torch

    isc = torch_fidelity("metric_isc")
    logits = 3 * vectors[0]
    expected = isc.isc_features_to_metric(torch.tensor(logits), 10, False, 0)
    mean, std = inception_score([Predictions.of(part) for part in np.split(logits, 10)])
    np.testing.assert_allclose(mean, expected["inception_score_mean"], rtol=1e-6)
    np.testing.assert_allclose(std, expected["inception_score_std"], rtol=1e-4)


def test_precision_and_recall_are_torch_fidelitys(torch_fidelity, vectors):
    import torch

    prc = torch_fidelity("metric_prc")
    real, fake = (x.astype(np.float32) for x in vectors)
    options = {"prc_neighborhood": 3, "prc_batch_size": 100, "verbose": False}
    expected = prc.prc_features_to_metric(torch.tensor(fake), torch.tensor(real), **options)
    scores = prdc(real, fake)
    assert scores["precision"] == pytest.approx(expected["precision"], abs=1e-6)
    assert scores["recall"] == pytest.approx(expected["recall"], abs=1e-6)
