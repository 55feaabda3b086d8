"""What a run must know of its data where they are not at hand."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan.data import DATASETS, Dataset, Examples
from gan.data.dataset import data_digest
from gan.data.description import changes, describe_dataset, from_mapping
from gan.metrics.vendi import Reference, diversity


def arrays(counts, seed=0, names=(), side=4):
    images = np.random.default_rng(seed).integers(0, 256, (sum(counts), side, side, 1), np.uint8)
    labels = np.arange(len(counts)).repeat(counts).astype(np.int32)
    examples = Examples(images, labels)
    shape = (side, side, 1)
    return Dataset("x", shape, len(counts), lambda: examples, class_names=names), examples


def described(*args, **kwargs):
    return describe_dataset(*arrays(*args, **kwargs))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any), st.integers(0, 9))
def test_it_is_the_same_after_json(counts, seed):
    before = described(counts, seed)
    assert before.class_counts == tuple(counts)
    after = from_mapping(json.loads(json.dumps(dataclasses.asdict(before))))
    assert after == before
    assert changes(before, after) == []


def test_a_mixture_and_the_diversity_come_back():
    dataset = DATASETS.build("gaussians(modes=4)")
    examples = dataset.load()
    description = describe_dataset(dataset, examples, seed=3)
    again = from_mapping(json.loads(json.dumps(dataclasses.asdict(description))))
    rebuilt = again.dataset(dataset.load)
    np.testing.assert_array_equal(rebuilt.mixture.means, dataset.mixture.means)
    assert (rebuilt.mixture.std, rebuilt.shape, rebuilt.num_classes) == (0.02, (2,), 4)
    own = np.random.default_rng(3).permutation(50_000)[:256]
    assert diversity(examples.examples[own], Reference(*again.diversity)) == 1


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (described([3, 4], seed=1), "as many examples of each class, with other values"),
        (described([3, 5]), "there were 7 examples and there are 8"),
        (described([4, 3]), "classes have other numbers of them: 0 (3, now 4), 1 (4, now 3)"),
        (described([3, 2, 2]), "the classes were 0, 1 and are 0, 1, 2"),
        (described([3, 4], names=("cat", "dog"), seed=1), "the classes were 0, 1 and are cat, dog"),
        (described([3, 4], side=5), "an example was 4 x 4 x 1 and is 5 x 5 x 1"),
    ],
)
def test_what_changed_is_said(other, line):
    assert any(text.startswith(line) for text in changes(described([3, 4]), other))


def test_other_names_of_the_same_examples_are_no_change():
    assert changes(described([3, 4]), described([3, 4], names=("cat", "dog"))) == []


@pytest.mark.parametrize(
    "change",
    [{"shape": 3}, {"class_counts": [1, -1]}, {"class_counts": [0, 0]}, {"class_names": ["a"]},
     {"digest": None}, {"more": 1}, {"means": 5}, {"class_counts": []}],
)  # fmt: skip
def test_what_is_no_description(change):
    values = json.loads(json.dumps(dataclasses.asdict(described([3, 4]))))
    with pytest.raises(ValueError, match=r"it describes no classes|it does not describe data"):
        from_mapping(values | change)
    with pytest.raises(ValueError, match="does not describe data"):
        from_mapping({key: values[key] for key in values if key != "digest"})


def test_the_digest_is_of_examples_and_labels():
    _, (images, labels) = arrays([3, 4])
    other_labels = labels[::-1].copy()
    other_images = images.copy()
    other_images[0, 0, 0] ^= 1
    digests = {
        data_digest(Examples(x, y)) for x in (images, other_images) for y in (labels, other_labels)
    }
    assert len(digests) == 4
