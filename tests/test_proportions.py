"""Labels in the proportions of a histogram: exact, for any histogram and any number of labels."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gan.data.proportions import labels_in_proportion

HISTOGRAMS = st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2_000)), min_size=1, max_size=12)


@given(HISTOGRAMS, st.integers(1, 400))
def test_every_beginning_has_the_proportions_to_within_one(counts, number):
    assume(any(counts))
    labels = labels_in_proportion(np.array(counts), number)
    assert (labels.dtype, labels.shape) == (np.int32, (number,))
    so_far = np.cumsum(labels[:, None] == np.arange(len(counts)), axis=0)  # [N, classes]
    due = np.arange(1, number + 1)[:, None] * np.array(counts) / sum(counts)
    assert np.abs(so_far - due).max() < 1


@given(HISTOGRAMS, st.integers(1, 3))
def test_as_many_as_the_data_or_a_multiple_have_their_histogram(counts, times):
    assume(any(counts))
    labels = labels_in_proportion(np.array(counts), times * sum(counts))
    np.testing.assert_array_equal(
        np.bincount(labels, minlength=len(counts)), times * np.array(counts)
    )


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 1_000])
def test_equal_classes_take_turns(classes):
    labels = labels_in_proportion(np.full(classes, 500), 25)
    np.testing.assert_array_equal(labels, np.arange(25) % classes)


def test_an_optimal_sequence_by_search():
    """Of all sequences of six labels for shares 3, 2, 1, none stays closer to its share."""
    counts = np.array([3, 2, 1])

    def worst(labels):
        so_far = np.cumsum(np.array(labels)[:, None] == np.arange(3), axis=0)
        return np.abs(so_far - np.arange(1, 7)[:, None] * counts / 6).max()

    found = worst(labels_in_proportion(counts, 6))
    bound = 1 - 1 / (2 * len(counts) - 2)  # Tijdeman's theorem
    assert min(map(worst, itertools.product(range(3), repeat=6))) <= found <= bound
