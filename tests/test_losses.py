import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from gan.losses import LOSSES

logits = st.lists(st.floats(-30, 30), min_size=3, max_size=3).map(np.array)


def log_loss(probability):
    return -np.log(probability)


# From the papers' own formulas, in probabilities where they are written so.
EXPECTED = {
    "non_saturating": (
        lambda r, f: np.mean(log_loss(expit(r))) + np.mean(log_loss(expit(-f))),
        lambda r, f: np.mean(log_loss(expit(f))),
    ),
    "minimax": (
        lambda r, f: np.mean(log_loss(expit(r))) + np.mean(log_loss(expit(-f))),
        lambda r, f: np.mean(-log_loss(expit(-f))),
    ),
    "hinge": (
        lambda r, f: -np.mean(np.minimum(0, -1 + r)) - np.mean(np.minimum(0, -1 - f)),
        lambda r, f: -np.mean(f),
    ),
    "wasserstein": (lambda r, f: np.mean(f) - np.mean(r), lambda r, f: -np.mean(f)),
    "least_squares": (
        lambda r, f: 0.5 * np.mean((r - 1) ** 2) + 0.5 * np.mean(f**2),
        lambda r, f: 0.5 * np.mean((f - 1) ** 2),
    ),
    "relativistic": (
        lambda r, f: np.mean(log_loss(expit(r - f))),
        lambda r, f: np.mean(log_loss(expit(f - r))),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@settings(deadline=None, max_examples=25)
@given(real=logits, fake=logits)
def test_losses_are_the_papers(name, real, fake):
    with jax.enable_x64(True):
        losses = LOSSES.build(name)
        for ours, theirs in zip(
            (losses.discriminator, losses.generator), EXPECTED[name], strict=True
        ):
            np.testing.assert_allclose(
                ours(jnp.asarray(real), jnp.asarray(fake)),
                theirs(real, fake),
                rtol=1e-7,
                atol=1e-12,
            )


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_finite_far_out(name):
    far = jnp.array([-1e4, 1e4])
    losses = LOSSES.build(name)
    for loss in (losses.discriminator, losses.generator):
        for value in jax.tree.leaves(jax.value_and_grad(loss, (0, 1))(far, -far)):
            assert np.isfinite(value).all()
