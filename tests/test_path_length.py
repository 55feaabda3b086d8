import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.errors import UsageError
from gan.models import DISCRIMINATORS, GENERATORS
from gan.regularizers import REGULARIZERS
from tests.penalties import seen

LATENTS = jnp.zeros([4, 3])
LINEAR = np.random.default_rng(0).normal(size=[3, 4 * 2 * 5]).astype(np.float32)


def inputs(generate, latents=LATENTS):
    examples = jnp.zeros([len(latents), 4, 2, 5])

    def split(rows):
        labels = jnp.arange(len(latents))[rows]
        return latents[rows], lambda z: generate(z, labels)

    return seen(None, examples, role="generator", latents=latents, split=split)


def linear(latents, labels):
    """G(z) = z A, each example scaled by its label + 1."""
    return (labels + 1)[:, None, None, None] * (latents @ LINEAR).reshape(-1, 4, 2, 5)


def lengths():
    """||A y|| of samples 0 and 2, y of variance 1 / (4 * 2)."""
    noise = [jax.random.normal(jax.random.key(i), [4, 2, 5]) / np.sqrt(8) for i in (0, 2)]
    scaled = zip((1, 3), noise, strict=True)
    return np.array([scale * np.linalg.norm(LINEAR @ np.ravel(y)) for scale, y in scaled])


def test_three_steps_of_a_linear_generator():
    regularizer = REGULARIZERS.build("path_length(decay=0.25)")
    state, average = regularizer.init(), 0.0
    for _ in range(3):
        average = 0.75 * average + 0.25 * lengths().mean()
        value, means = regularizer.penalty(inputs(linear), state)
        state = regularizer.update(state, means)
        np.testing.assert_allclose(value, np.mean((lengths() - average) ** 2), rtol=1e-5)
        np.testing.assert_allclose(state["length"], average, rtol=1e-5)


def test_the_average_passes_the_gradient_of_the_newest_lengths():
    """G is scaled by s: l = s l_0, and the average is m + decay (s mean(l_0) - m)."""
    regularizer = REGULARIZERS.build("path_length(decay=0.25)")
    state = {"length": jnp.asarray(2.0)}

    def of(scale):
        return regularizer.penalty(inputs(lambda *given: scale * linear(*given)), state)[0]

    own = lengths()
    distances = own - (2 + 0.25 * (own.mean() - 2))
    expected = np.mean(2 * distances * (own - 0.25 * own.mean()))
    np.testing.assert_allclose(jax.grad(of)(1.0), expected, rtol=1e-5)


def test_layers_of_w_each_have_a_part_of_the_squared_norm():
    """x = sum over L of w_l A: each layer's slope is A y, and so is the root of their mean square."""

    def split(rows):
        return jnp.zeros([4, 6, 3])[rows], lambda w: (w.sum(1) @ LINEAR).reshape(-1, 4, 2, 5)

    given = seen(None, jnp.zeros([4, 4, 2, 5]), role="generator", latents=LATENTS, split=split)
    _, means = REGULARIZERS.build("path_length").penalty(given, {"length": 0.0})
    noise = [jax.random.normal(jax.random.key(i), [4, 2, 5]) / np.sqrt(8) for i in (0, 2)]
    expected = np.mean([np.linalg.norm(LINEAR @ np.ravel(y)) for y in noise])
    np.testing.assert_allclose(means["length"], expected, rtol=1e-5)


def test_defaults_are_those_of_the_reference():
    built = REGULARIZERS.build("path_length")
    assert (built.weight, built.every, built.decay, built.batch_shrink) == (2, 4, 0.01, 2)


def test_a_batch_that_does_not_divide():
    with pytest.raises(UsageError, match=r"batch_shrink=3.* does not divide the 4 examples"):
        REGULARIZERS.build("path_length(batch_shrink=3)").penalty(inputs(linear), {})


def test_a_generator_with_batch_normalisation_is_refused():
    data = {"shape": (8, 8, 1), "num_classes": 3}
    discriminator = DISCRIMINATORS.build("mlp", **data)
    regularizer = REGULARIZERS.build("path_length")
    for spec in ("mlp", "r3gan", "dcgan(batch_norm=False)"):
        regularizer.check_networks(GENERATORS.build(spec, **data), discriminator)
    for spec in ("dcgan", "resnet"):
        with pytest.raises(ValueError, match="without batch normalisation"):
            regularizer.check_networks(GENERATORS.build(spec, **data), discriminator)
