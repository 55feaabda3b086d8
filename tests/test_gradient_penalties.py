import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.regularizers import REGULARIZERS
from tests.penalties import seen

REAL = jnp.array([[1.0, 2.0], [0.5, -1.0], [0.0, 3.0]])
FAKE = jnp.array([[-1.0, 0.0], [2.0, 2.0], [1.0, -2.0]])


def critic(x):
    """Its gradient is (2 x_0, 3)."""
    return x[:, 0] ** 2 + 3 * x[:, 1]


def half_norm(x):
    """Its gradient is x itself, so a penalty tells where x was."""
    return jnp.sum(x**2, 1) / 2


def penalty(spec, critic, real=REAL, fake=FAKE):
    value, means = REGULARIZERS.build(spec).penalty(seen(critic, real, fake), {})
    assert means == {}
    return value


def test_r1_and_r2_against_the_analytic_gradient():
    for name, x in (("r1", REAL), ("r2", FAKE)):
        np.testing.assert_allclose(
            penalty(name, critic), np.mean(4 * x[:, 0] ** 2 + 9) / 2, rtol=1e-6
        )


@pytest.mark.parametrize(("name", "x"), [("r1", REAL), ("r2", FAKE)])
def test_finite_differences_with_their_draws(name, x):
    sigma = 0.25
    noise = np.stack([jax.random.normal(jax.random.key(i), [2]) for i in range(3)])
    moved = np.asarray(x) + sigma * noise
    differences = (np.asarray(critic(moved)) - np.asarray(critic(x))) / sigma
    got = penalty(f"{name}(approximate=True, sigma={sigma})", critic)
    np.testing.assert_allclose(got, np.mean(differences**2) / 2, rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.01, 1.0, 3.0])
def test_finite_differences_are_the_norm_up_to_sigma_squared(sigma):
    """With D(x) = a x_0^2 + 3 x_1: E ((D(x + sigma e) - D(x)) / sigma)^2 = ||g||^2 + 3 a^2 sigma^2."""
    count = 20_000
    many = jnp.broadcast_to(REAL[0], [count, 2])
    got = penalty(f"r1(approximate=True, sigma={sigma})", critic, many, many)
    expected = (13 + 3 * sigma**2) / 2
    np.testing.assert_allclose(got, expected, rtol=0.07)  # 4 times the standard error at sigma = 3


def test_finite_differences_of_a_linear_critic_are_exact_in_the_mean():
    count = 20_000
    got = penalty("r1(approximate=True, sigma=5.0)", lambda x: x @ jnp.array([3.0, 4.0]),
                  jnp.zeros([count, 2]), jnp.zeros([count, 2]))  # fmt: skip
    np.testing.assert_allclose(got, 25 / 2, rtol=5 * np.sqrt(2 / count))


def test_finite_differences_take_the_logits_that_are_there():
    calls = []

    def counting(x):
        calls.append(x)
        return critic(x)

    regularizer = REGULARIZERS.build("r1(approximate=True)")
    regularizer.penalty(seen(counting, REAL, real_logits=critic(REAL)), {})
    assert len(calls) == 1


def test_gradient_penalty_of_a_linear_critic():
    """A linear critic has the same gradient wherever the mixing lands."""
    slope = jnp.array([3.0, 4.0])  # of norm 5
    np.testing.assert_allclose(
        penalty("gradient_penalty", lambda x: x @ slope), (5 - 1) ** 2, rtol=1e-6
    )


def test_gradient_penalty_mixes_each_sample_by_itself():
    real, fake = jnp.zeros([400, 1]), 2 * jnp.ones([400, 1])
    # x is uniform on [0, 2]: E (x - 1)^2 = 1 / 3; one ratio for all would give (2 r - 1)^2.
    np.testing.assert_allclose(penalty("gradient_penalty", half_norm, real, fake), 1 / 3, atol=0.05)


@pytest.mark.parametrize("name", ["gradient_penalty", "dragan"])
def test_the_penalty_is_smooth_where_the_gradient_vanishes(name):
    value, slope = jax.value_and_grad(lambda scale: penalty(name, lambda x: scale * x[:, 0]))(0.0)
    assert (value, slope) == (1, 0)


def test_dragan_with_its_draws():
    real = np.asarray(REAL)
    near = []
    for number, x in enumerate(real):
        ratio_key, noise_key = jax.random.split(jax.random.key(number))
        noise = np.asarray(jax.random.uniform(noise_key, [2]))
        near.append(x + float(jax.random.uniform(ratio_key)) * 0.5 * np.std(real) * noise)
    expected = np.mean((np.linalg.norm(near, axis=1) - 1) ** 2)
    np.testing.assert_allclose(penalty("dragan", half_norm), expected, rtol=1e-6)
    assert REGULARIZERS.build("dragan").weight == 10


def test_dragan_looks_on_one_side_as_far_as_half_a_standard_deviation():
    """Of the values 0 and 6, of standard deviation 3: x = value + 1.5 a u, E a u = 1/4, E (a u)^2 = 1/9."""
    real = jnp.tile(jnp.array([[0.0], [6.0]]), [2000, 1])
    around_zero = 1.5**2 / 9 - 2 * 1.5 / 4 + 1  # E (x - 1)^2
    around_six = 5**2 + 2 * 5 * 1.5 / 4 + 1.5**2 / 9
    np.testing.assert_allclose(
        penalty("dragan", half_norm, real, real), (around_zero + around_six) / 2, rtol=0.01
    )
