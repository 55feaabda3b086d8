import jax.numpy as jnp
import numpy as np
import pytest

from gan.errors import UsageError
from gan.models.minibatch_stddev import append_minibatch_stddev

X = np.random.default_rng(0).normal(size=[8, 3, 2, 6]).astype(np.float32)


@pytest.mark.parametrize(("group", "channels"), [(4, 1), (2, 3), (8, 2), (100, 1), (1, 1)])
def test_each_group_is_every_nth_image(group, channels):
    y = np.asarray(append_minibatch_stddev(jnp.asarray(X), group, channels))
    assert y.shape == (8, 3, 2, 6 + channels)
    np.testing.assert_array_equal(y[..., :6], X)
    size = min(group, 8)
    stride, share = 8 // size, 6 // channels
    for i in range(8):
        members = X[i % stride :: stride]
        assert len(members) == size
        for j in range(channels):
            part = members[..., j * share : (j + 1) * share].astype(np.float64)
            want = np.sqrt(part.var(0) + 1e-8).mean()
            np.testing.assert_allclose(y[i, ..., 6 + j], np.full([3, 2], want), rtol=1e-4)


@pytest.mark.parametrize(
    ("group", "channels", "words"),
    [
        (3, 1, "groups of 3 do not divide a batch, or a part of it, of 8 examples"),
        (4, 4, "4 channels do not divide the 6 of the features"),
    ],
)
def test_what_does_not_divide(group, channels, words):
    with pytest.raises(UsageError, match=words):
        append_minibatch_stddev(jnp.asarray(X), group, channels)
