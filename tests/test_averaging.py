import jax.numpy as jnp
import numpy as np
import pytest

from gan.averaging import AVERAGING
from gan.errors import UsageError
from gan.players import PlayerState


def generator(value):
    return PlayerState({"w": jnp.array([value])}, {"n": jnp.array(int(value))}, ())


def path(spec, values, batch_size=4):
    averaging = AVERAGING.build(spec, batch_size=batch_size)
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


def recurrence(values, decays):
    """average <- decay average + (1 - decay) newest, in NumPy, from the first value."""
    averages = [values[0]]
    for value, decay in zip(values[1:], decays, strict=True):
        averages.append(decay * averages[-1] + (1 - decay) * value)
    return averages[1:]


def weights(averages):
    return [float(average["params"]["w"][0]) for average in averages]


def test_a_schedule_of_the_decay_is_a_function_of_the_step():
    """The decay of update t + 1, which follows t updates, is schedule(t), as of a learning rate."""
    values = np.random.default_rng(0).standard_normal(7)
    expected = recurrence(values, 0.5 + 0.1 * np.minimum(np.arange(6), 4))
    ours = path("ema(linear_schedule(0.5, 0.9, 4))", values)
    np.testing.assert_allclose(weights(ours), expected, rtol=1e-5)


def test_after_its_half_life_in_images_the_weight_of_the_old_is_a_half():
    averages = path("ema_images(half_life=12, ramp_up=None)", [1.0, 0.0, 0.0, 0.0], batch_size=4)
    np.testing.assert_allclose(weights(averages)[-1], 0.5, rtol=1e-6)


def test_a_very_long_half_life_is_not_rounded_away():
    """1 - decay is 5e-8 here: less than the precision of decay."""
    (average,) = path("ema_images(half_life=5e7, ramp_up=None)", [0.0, 1.0], batch_size=4)
    assert weights([average])[0] == pytest.approx(np.log(2) * 4 / 5e7, rel=1e-5)


def stylegan2_ada(batch_size, half_life, ramp_up, steps):
    """The decays of stylegan2-ada-pytorch's training loop: `cur_nimg` counts the images before."""
    decays, cur_nimg = [], 0
    for step in range(steps):
        nimg = half_life[step] if ramp_up is None else min(half_life[step], cur_nimg * ramp_up)
        decays.append(0.5 ** (batch_size / max(nimg, 1e-8)))
        cur_nimg += batch_size
    return decays


@pytest.mark.parametrize("ramp_up", [0.5, None])
@pytest.mark.parametrize("half_life", ["20", "cosine_schedule(0.0, 30.0, 10)"])
def test_ema_images_is_that_of_stylegan2_and_of_r3gan(ramp_up, half_life):
    values = np.random.default_rng(1).standard_normal(13)
    steps = np.arange(12)
    lives = (
        15 * (1 - np.cos(np.pi * np.minimum(steps / 10, 1))) if "(" in half_life else 20 + 0 * steps
    )
    expected = recurrence(values, stylegan2_ada(4, lives, ramp_up, 12))
    ours = path(f"ema_images({half_life}, ramp_up={ramp_up})", values)
    np.testing.assert_allclose(weights(ours), expected, rtol=1e-5)
    assert weights(ours)[0] == pytest.approx(
        values[1] if ramp_up or "(" in half_life else expected[0]
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("ema(1.0)", r"decay must be in \[0, 1\)"),
        ("ema(-0.1)", r"decay must be in \[0, 1\)"),
        ("ema(linear_schedule(1.5, 0.9, 4))", r"decay must be in \[0, 1\), given 1.5, its value at step 0"),
        ("ema(linear_schedul(0.5, 0.9, 4))", "unknown averaging 'linear_schedul'; did you mean 'linear_sch"),
        ("ema_images(-1)", "half_life must be at least 0"),
        ("ema_images(10, ramp_up=0)", "ramp_up must be above 0"),
        ("ema_images(10, batch_size=4)", "unknown argument 'batch_size'"),
        ("uniform(recalibrate_batch_norm=-1)", r"recalibrate_batch_norm must be in \[0, 10000\]"),
    ],
)  # fmt: skip
def test_misuse(spec, words):
    with pytest.raises(UsageError, match=words):
        AVERAGING.build(spec, batch_size=4)
