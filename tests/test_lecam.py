import jax
import jax.numpy as jnp
import numpy as np

from gan.regularizers import REGULARIZERS
from tests.penalties import seen

LOGITS = np.random.default_rng(0).normal([[1.0], [-0.5]], 1.0, [5, 2, 4]).astype(np.float32)


def given(real, fake, step):
    points = jnp.zeros([len(real), 1])
    return seen(
        None, points, step=step, real_logits=jnp.asarray(real), fake_logits=jnp.asarray(fake)
    )


def test_five_steps_by_hand():
    """The averages hold the batch's own means before the penalty is taken; up to the start they are these."""
    lecam = REGULARIZERS.build("lecam(decay=0.75, start_step=1)")
    state, average_real, average_fake = lecam.init(), 0.0, 0.0
    for step, (real, fake) in enumerate(LOGITS):
        decay = 0.75 if step > 1 else 0.0
        average_real = decay * average_real + (1 - decay) * real.mean()
        average_fake = decay * average_fake + (1 - decay) * fake.mean()
        expected = np.mean(np.maximum(real - average_fake, 0) ** 2)
        expected += np.mean(np.maximum(average_real - fake, 0) ** 2)
        value, means = lecam.penalty(given(real, fake, step), state)
        state = lecam.update(state, means)
        np.testing.assert_allclose(value, expected if step > 1 else 0, rtol=1e-5)
        np.testing.assert_allclose(state["real"], average_real, rtol=1e-5)
        np.testing.assert_allclose(state["fake"], average_fake, rtol=1e-5)


def test_the_averages_are_constants_to_the_gradient():
    lecam = REGULARIZERS.build("lecam(start_step=0)")
    state = {"real": jnp.asarray(2.0), "fake": jnp.asarray(-1.0), "seen": jnp.ones([])}
    real, fake = LOGITS[0]
    of_real, of_fake = jax.grad(
        lambda real, fake: lecam.penalty(given(real, fake, 1), state)[0], (0, 1)
    )(real, fake)
    anchor_real, anchor_fake = 1.8 + 0.1 * real.mean(), -0.9 + 0.1 * fake.mean()
    np.testing.assert_allclose(of_real, 2 * np.maximum(real - anchor_fake, 0) / 4, rtol=1e-5)
    np.testing.assert_allclose(of_fake, -2 * np.maximum(anchor_real - fake, 0) / 4, rtol=1e-5)


def test_in_a_run_that_is_under_way_the_averages_start_from_the_first_means():
    lecam = REGULARIZERS.build("lecam(start_step=0)")
    real, fake = LOGITS[0]
    _, means = lecam.penalty(given(real, fake, 700), lecam.init())
    state = lecam.update(lecam.init(), means)
    np.testing.assert_allclose(
        [state["real"], state["fake"]], [real.mean(), fake.mean()], rtol=1e-6
    )
