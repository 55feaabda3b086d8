import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from gan.losses import LOSSES
from gan.schedules import counted_from

# No two are equal: which of them is among the largest would be open.
logits = st.lists(st.floats(-30, 30), min_size=3, max_size=3, unique=True).map(np.array)


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


def relative_entropy(label, logits):
    """Mean cross-entropy of a label in [0, 1]."""
    return np.mean(label * log_loss(expit(logits)) + (1 - label) * log_loss(expit(-logits)))


EXPECTED |= {
    "acgan": EXPECTED["non_saturating"],  # what classes add is tested below
    "label_noise": EXPECTED["non_saturating"],  # and so is noise
    "top_k": (  # 2 of 3
        EXPECTED["non_saturating"][0],
        lambda r, f: np.mean(log_loss(expit(np.sort(f)[1:]))),
    ),
    "top_k(relativistic, 0.3)": (
        EXPECTED["relativistic"][0],
        lambda r, f: log_loss(expit(f - r))[np.argmax(f)],
    ),
    "top_k(wasserstein, fraction=linear_schedule(0.1, 1.0, 10))": (
        EXPECTED["wasserstein"][0],
        lambda r, f: -np.max(f),
    ),
    "non_saturating(smoothing=0.1)": (
        lambda r, f: relative_entropy(0.9, r) + np.mean(log_loss(expit(-f))),
        EXPECTED["non_saturating"][1],
    ),
    "minimax(smoothing=0.3)": (
        lambda r, f: relative_entropy(0.7, r) + np.mean(log_loss(expit(-f))),
        EXPECTED["minimax"][1],
    ),
    "least_squares(smoothing=0.2)": (
        lambda r, f: 0.5 * np.mean((r - 0.8) ** 2) + 0.5 * np.mean(f**2),
        EXPECTED["least_squares"][1],
    ),
}


@pytest.mark.parametrize("name", sorted({*LOSSES, *EXPECTED}))
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


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_the_loss_of_classes_is_the_cross_entropy():
    rng = np.random.default_rng(0)
    real, fake, labels = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), np.array([0, 1, 2, 2, 0])
    of_real, of_fake = (np.mean(log_loss(softmax(x)[np.arange(5), labels])) for x in (real, fake))
    for spec, discriminator, generator in (
        ("acgan(hinge)", of_real + of_fake, of_fake),
        ("acgan(hinge, 2.0, 0.1, of_fake=False)", 2 * of_real, 0.1 * of_fake),
    ):
        classes = LOSSES.build(spec).classes
        np.testing.assert_allclose(classes.discriminator(real, fake, labels), discriminator, 1e-6)
        np.testing.assert_allclose(classes.generator(fake, labels), generator, 1e-6)
    metrics = classes.metrics(real, fake, labels)
    np.testing.assert_allclose(metrics["class_accuracy/real"], np.mean(real.argmax(-1) == labels))
    np.testing.assert_allclose(metrics["class_loss"], 2 * of_real, 1e-6)


@pytest.mark.parametrize(
    "spec", ["label_noise(hinge, 0.25)", "label_noise(hinge, linear_schedule(0.0, 0.5, 100))"]
)
def test_label_noise_swaps_pairs_as_often_as_it_says(spec):
    noise, count = LOSSES.build(spec).label_noise, 4_000
    real, fake = jnp.arange(count) + 1.0, -jnp.arange(count) - 1.0
    keys = jax.random.split(jax.random.key(0), count)
    as_real, as_fake = noise.swap(real, fake, keys, jnp.array(50))
    np.testing.assert_array_equal(as_real, -as_fake)  # pairs stay pairs
    np.testing.assert_allclose(np.mean(as_real < 0), 0.25, atol=0.03)


def test_top_k_follows_its_schedule():
    spec = "top_k(wasserstein, exponential_decay(1.0, 10, 0.5, staircase=True, end_value=0.25))"
    loss, fake = LOSSES.build(spec), jnp.array([4.0, 3.0, 2.0, 1.0])
    for step, expected in ((0, -2.5), (9, -2.5), (10, -3.5), (20, -4.0), (90, -4.0)):
        with counted_from(jnp.array(step)):
            assert loss.generator(fake, fake) == expected


@pytest.mark.parametrize("name", LOSSES)
def test_confidence_is_0_where_the_loss_does_not_tell_real_from_fake(name):
    """At the logits with which the discriminator's loss of a pair is the same if they change places."""
    loss = LOSSES.build(name)
    middle = {"least_squares": 0.5}.get(name, 0.0)
    if loss.confidence is None:
        assert name == "wasserstein"
        return
    for shift in (-1.0, 1.0):
        real, fake = jnp.array([middle + shift]), jnp.array([middle - shift])
        better = loss.discriminator(real, fake) < loss.discriminator(fake, real)
        assert (float(loss.confidence(real, fake)[0]) > 0) == bool(better)
    assert loss.confidence(jnp.array([middle]), jnp.array([middle]))[0] == 0


def test_an_adaptive_augmentation_sees_the_confidence():
    """With relativistic logits it is that of the difference, whatever is added to both."""
    assert LOSSES.build("relativistic").confidence(jnp.array([7.0]), jnp.array([8.0]))[0] < 0
