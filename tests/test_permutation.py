import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.data.permutation import indices_at, permute
from gan.errors import UsageError


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 3_000), key=st.integers(0, 2**32 - 1))
def test_permute_is_a_permutation(size, key):
    positions = jnp.arange(size, dtype=jnp.uint32)
    image = jax.jit(permute, static_argnums=1)(positions, size, jnp.full([size], key, jnp.uint32))
    assert sorted(np.asarray(image)) == list(range(size))


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 60), batch_size=st.integers(1, 90), seed=st.integers(0, 2**32 - 1))
def test_each_epoch_shows_each_example_once_and_no_tail_is_dropped(size, batch_size, seed):
    count = -(-4 * size // batch_size)  # four epochs, rounded up
    row = np.concatenate([indices_at(size, batch_size, seed, i) for i in range(count)])
    for epoch in range(4):
        assert sorted(row[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_seeds_and_epochs_differ():
    rows = [
        np.asarray(indices_at(1_000, 1_000, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)
    ]
    for i, row in enumerate(rows):
        for other in rows[:i]:
            assert np.mean(row == other) < 0.02


def test_a_permutation_looks_like_chance():
    """The position of an example is uniform over epochs, and neighbours do not stay together."""
    rows = np.asarray(jax.vmap(lambda epoch: indices_at(64, 64, 5, epoch))(jnp.arange(2_000)))
    counts = np.stack([np.bincount(rows[:, position], minlength=64) for position in range(64)])
    chi_squared = ((counts - 2_000 / 64) ** 2 / (2_000 / 64)).sum()
    degrees = 63 * 63
    assert abs(chi_squared - degrees) < 6 * np.sqrt(2 * degrees)
    neighbours = np.mean(np.diff(rows, axis=1) == 1)
    assert abs(neighbours - 1 / 64) < 0.003


def test_late_batches_do_not_overflow():
    """Against Python's own integers, far beyond 2**32 examples."""
    size, batch_size, index = 50_000, 256, 2**31 - 5
    row = np.asarray(indices_at(size, batch_size, 0, index))
    first = index * batch_size
    epochs = {}
    for j, drawn in enumerate(row):
        epochs.setdefault((first + j) // size, []).append(drawn)
    for indices in epochs.values():
        assert len(set(indices)) == len(indices)  # without repetition inside an epoch
    assert row.min() >= 0
    assert row.max() < size


def test_too_large_a_product_is_refused():
    with pytest.raises(UsageError, match="at most 255"):
        indices_at(2**24, 2**8, 0, 0)
