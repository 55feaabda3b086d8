import numpy as np
import pytest

from gan.data import DATASETS
from gan.errors import UsageError


def test_arrays(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, [6, 8, 8]).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([0, 1, 2, 0, 1, 2]))
    dataset = DATASETS.build(f"npz({str(tmp_path / 'a.npz')!r})")
    assert (dataset.shape, dataset.num_classes) == ((8, 8, 1), 3)
    assert dataset.names == ("0", "1", "2")
    np.testing.assert_array_equal(dataset.load().examples[..., 0], images)


def test_names_of_classes(tmp_path):
    images, names = np.zeros([2, 8, 8], np.uint8), np.array(["cat", "dog", "zebra"])
    np.savez(tmp_path / "a.npz", images=images, labels=[0, 1], class_names=names)
    dataset = DATASETS.build(f"npz({str(tmp_path / 'a.npz')!r})")
    assert (dataset.num_classes, dataset.class_names) == (3, ("cat", "dog", "zebra"))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros(3)}, "has no array 'images'; found: x"),
        ({"a\nb": np.zeros(3)}, r"found: a\\nb"),
        ({"images": np.zeros([3, 8, 8])}, r"images are float64 \(3, 8, 8, 1\)"),
        ({"images": np.zeros([3, 8, 9], np.uint8)}, "they must be square"),
        (
            {"images": np.zeros([3, 8, 8], np.uint8), "labels": np.zeros(2, int)},
            "3 integers from 0",
        ),
        (
            {"images": np.zeros([2, 8, 8], np.uint8), "labels": [0, 2], "class_names": ["a", "b"]},
            r"class_names are <U1 \(2,\); at least 3 texts are needed",
        ),
        ({"images": np.zeros([2, 8, 8], np.uint8), "class_names": [1]}, "at least 1 texts"),
        ({"images": np.array([{}], object)}, "not an .npz of plain arrays"),
    ],
)
def test_misuse_of_arrays(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=words):
        DATASETS.build(f"npz({str(tmp_path / 'a.npz')!r})")
