import jax.numpy as jnp
import numpy as np
import pytest

from gan.averaging import AVERAGING
from gan.errors import UsageError
from gan.players import PlayerState


def generator(value):
    return PlayerState({"w": jnp.array([value])}, {"n": jnp.array(int(value))}, ())


def path(spec, values):
    averaging = AVERAGING.build(spec)
    average = averaging.init(generator(values[0]))
    out = []
    for step, value in enumerate(values[1:], start=1):
        average = averaging.update(average, generator(value), jnp.array(step))
        out.append(average)
    return out


def test_ema_is_the_recurrence():
    values = np.random.default_rng(0).standard_normal(9) * 3
    expected, out = values[0], []
    for value in values[1:]:
        expected = 0.9 * expected + 0.1 * value
        out.append(expected)
    ours = [float(average["params"]["w"][0]) for average in path("ema(decay=0.9)", values)]
    np.testing.assert_allclose(ours, out, rtol=1e-5)


def test_ema_follows_until_its_start_step():
    averages = path("ema(0.5, start_step=2)", [0.0, 1.0, 2.0, 4.0])
    np.testing.assert_allclose([a["params"]["w"][0] for a in averages], [1.0, 2.0, 3.0])


def test_what_is_not_a_float_is_taken_from_the_newest():
    assert int(path("ema(0.9)", [1.0, 5.0])[0]["variables"]["n"]) == 5


def test_uniform_is_the_mean():
    values = np.random.default_rng(0).standard_normal(9)
    ours = [float(average["params"]["w"][0]) for average in path("uniform", values)]
    expected = [values[1 : t + 1].mean() for t in range(1, 9)]
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_uniform_starts_after_its_start_step():
    averages = path("uniform(start_step=2)", [0.0, 1.0, 2.0, 4.0, 8.0])
    np.testing.assert_allclose([a["params"]["w"][0] for a in averages], [1.0, 2.0, 4.0, 6.0])


@pytest.mark.parametrize("spec", ["ema(1.0)", "ema(-0.1)"])
def test_misuse(spec):
    with pytest.raises(UsageError, match=r"decay must be in \[0, 1\)"):
        AVERAGING.build(spec)
