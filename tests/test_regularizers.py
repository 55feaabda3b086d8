import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.data.dataset import Batch
from gan.errors import UsageError
from gan.regularizers import REGULARIZERS

REAL = jnp.array([[1.0, 2.0], [0.5, -1.0], [0.0, 3.0]])
FAKE = jnp.array([[-1.0, 0.0], [2.0, 2.0], [1.0, -2.0]])


def critic(x):
    """Its gradient is (2 x_0, 3)."""
    return x[:, 0] ** 2 + 3 * x[:, 1]


def batch(index=0):
    return Batch(examples=REAL, labels=jnp.zeros(3, jnp.int32), update=jnp.asarray(index))


def squared(x):
    return 4 * x[:, 0] ** 2 + 9


def test_r1_and_r2_against_the_analytic_gradient():
    key = jax.random.key(0)
    for name, x in (("r1", REAL), ("r2", FAKE)):
        penalty = REGULARIZERS.build(f"{name}(weight=3.0)")(critic, batch(), FAKE, key)
        np.testing.assert_allclose(penalty, 1.5 * np.mean(squared(x)), rtol=1e-6)


def test_gradient_penalty_of_a_linear_critic():
    """A linear critic has the same gradient wherever the mixing lands."""
    slope = jnp.array([3.0, 4.0])  # of norm 5
    regularizer = REGULARIZERS.build("gradient_penalty(weight=2.0)")
    penalty = regularizer(lambda x: x @ slope, batch(), FAKE, jax.random.key(0))
    np.testing.assert_allclose(penalty, 2 * (5 - 1) ** 2, rtol=1e-6)


def test_gradient_penalty_mixes_each_sample_by_itself():
    """With D(x) = |x|^2 / 2 the gradient is x itself, so the penalty tells where x was."""
    regularizer = REGULARIZERS.build("gradient_penalty(weight=1.0)")
    real, fake = jnp.zeros([400, 1]), 2 * jnp.ones([400, 1])
    many = Batch(examples=real, labels=jnp.zeros(400, jnp.int32), update=jnp.zeros([], jnp.int32))
    penalty = regularizer(lambda x: jnp.sum(x**2, 1) / 2, many, fake, jax.random.key(0))
    # x is uniform on [0, 2]: E (x - 1)^2 = 1 / 3; one ratio for all would give (2 r - 1)^2.
    np.testing.assert_allclose(penalty, 1 / 3, atol=0.05)


def test_gradient_penalty_is_smooth_where_the_gradient_vanishes():
    def of(scale):
        regularizer = REGULARIZERS.build("gradient_penalty(1.0)")
        return regularizer(lambda x: scale * x[:, 0], batch(), FAKE, jax.random.key(0))

    value, slope = jax.value_and_grad(of)(0.0)
    assert (value, slope) == (1, 0)


def test_lazy_regularization_keeps_the_mean():
    lazy = REGULARIZERS.build("r1(weight=1.0, every=4)")
    always = REGULARIZERS.build("r1(weight=1.0)")(critic, batch(), FAKE, jax.random.key(0))
    values = [float(lazy(critic, batch(i), FAKE, jax.random.key(0))) for i in range(8)]
    np.testing.assert_allclose(values, [4 * always, 0, 0, 0] * 2, rtol=1e-6)


def test_misuse():
    with pytest.raises(UsageError, match="every must be at least 1, given 0"):
        REGULARIZERS.build("r1(every=0)")
