import time

import numpy as np
import pytest

from gan.data import DATASETS
from gan.data.dataset import to_float, to_uint8
from gan.errors import UsageError


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    dataset = DATASETS.build("digits")
    examples, labels = dataset.load()
    assert examples.shape == (1797, *dataset.shape)
    assert examples.dtype == np.uint8
    expected = load_digits()
    np.testing.assert_allclose(examples[..., 0] / 255 * 16, expected.images, atol=0.04)
    np.testing.assert_array_equal(labels, expected.target)


def test_noise_is_uniform_and_always_the_same():
    dataset = DATASETS.build("noise(16, channels=1, num_images=500)")
    images, labels = dataset.load()
    assert images.shape == (500, *dataset.shape) == (500, 16, 16, 1)
    assert images.dtype == np.uint8
    assert abs(images.mean() - 127.5) < 1  # 74 / sqrt(128,000) = 0.2
    assert set(np.unique(labels)) == set(range(dataset.num_classes))
    np.testing.assert_array_equal(images, DATASETS.build("noise(16, 1, 500)").load()[0])
    with pytest.raises(UsageError, match="size must be at least 1, given 0"):
        DATASETS.build("noise(0)")


@pytest.mark.parametrize(
    ("spec", "modes", "std"),
    [
        ("gaussians", 8, 0.02),
        ("gaussians(modes=25, layout='grid')", 25, 0.05),
        ("gaussians(4, 'grid', std=0.5)", 4, 0.5),
    ],
)
def test_gaussians_are_drawn_from_their_mixture(spec, modes, std):
    dataset = DATASETS.build(spec)
    points, labels = dataset.load()
    assert points.dtype == np.float32
    assert dataset.num_classes == modes == len(np.unique(labels))
    for mode in range(modes):
        mine = points[labels == mode]
        np.testing.assert_allclose(mine.mean(0), dataset.mixture.means[mode], atol=6 * std / 40)
        np.testing.assert_allclose(mine.std(0), std, rtol=0.1)


def test_ring_and_grid_have_the_papers_places():
    ring = DATASETS.build("gaussians").mixture.means
    np.testing.assert_allclose(np.linalg.norm(ring, axis=1), 2)
    grid = DATASETS.build("gaussians(25, 'grid')").mixture.means
    assert {tuple(mean) for mean in grid} == {
        (x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)
    }


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("gaussians(0)", r"modes must be in \[1, 10000\]"),
        ("gaussians(8, 'grid')", "square number for a grid, given 8"),
        ("gaussians(8, 'star')", "'ring' or 'grid', given 'star'"),
        ("gaussians(8, std=0.0)", "std must be above 0"),
        ("digit", "did you mean 'digits'"),
    ],
)
def test_misuse(spec, words):
    with pytest.raises(UsageError, match=words):
        DATASETS.build(spec)


def test_missing_data_says_at_once_what_to_run(tmp_path):
    dataset = DATASETS.build("mnist", data_dir=str(tmp_path))
    assert (dataset.shape, dataset.num_classes) == ((28, 28, 1), 10)  # known without the data
    begin = time.monotonic()
    with pytest.raises(
        UsageError, match=r"mnist: not prepared in data_dir .*prepare_data.py --dataset mnist"
    ):
        dataset.load()
    assert time.monotonic() - begin < 5
    assert not list(tmp_path.iterdir())


def test_uint8_and_float_are_inverse():
    every = np.arange(256, dtype=np.uint8)
    floats = np.asarray(to_float(every))
    assert (floats.min(), floats.max()) == (-1, 1)
    np.testing.assert_array_equal(to_uint8(floats), every)
    np.testing.assert_array_equal(to_uint8(np.array([-3.0, 3.0])), [0, 255])


def test_points_stay_as_they_are():
    points = np.array([[0.5, -3.0]], np.float32)
    np.testing.assert_array_equal(to_float(points), points)
