import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.augmentation import DISCRIMINATOR_AUGMENTATIONS

SPECS = {
    "none": "none",
    "diffaugment": "diffaugment",
    "ada": "ada(p=1)",
}  # one for each, that changes every image


@pytest.fixture(params=list(DISCRIMINATOR_AUGMENTATIONS))
def augmentation(request):
    return DISCRIMINATOR_AUGMENTATIONS.build(SPECS[request.param])


def images(*shape):
    return jax.random.uniform(jax.random.key(0), shape, minval=-1, maxval=1)


def keys(number):
    return jax.random.split(jax.random.key(1), number)


@pytest.mark.parametrize("shape", [(3, 8, 12, 3), (2, 9, 7, 1)])
def test_shape_and_type_stay(augmentation, shape):
    augmentation.check_shape(shape[1:])
    for dtype in (jnp.float32, jnp.bfloat16):
        x = jax.ShapeDtypeStruct(shape, dtype)
        changed = jax.eval_shape(augmentation, x, augmentation.init(), keys(shape[0]))
        assert (changed.shape, changed.dtype) == (x.shape, x.dtype)


def test_an_image_is_changed_as_its_own_key_says(augmentation):
    """And not by its place, nor by the other images."""
    x, state, change = images(3, 8, 8, 3), augmentation.init(), jax.jit(augmentation)
    x = x.at[2].set(x[0])
    first, others = change(x, state, keys(3)), jax.random.split(jax.random.key(5), 3)
    second = change(-x.at[0].set(-x[1]), state, others.at[0].set(keys(3)[1]))
    np.testing.assert_allclose(first[1], second[0], rtol=1e-5, atol=1e-5)
    if augmentation != DISCRIMINATOR_AUGMENTATIONS.build("none"):
        assert np.abs(np.asarray(first[0] - first[2])).max() > 0.01


def test_gradients_pass_twice(augmentation):
    """As for R1: the norm of D's gradient in the images before T, and its derivative."""
    x, state, weights = images(2, 8, 8, 3), augmentation.init(), images(8, 8, 3)

    def penalty(scale):
        gradient = jax.grad(
            lambda x: jnp.sum(jnp.sin(scale * augmentation(x, state, keys(2)) * weights))
        )(x)
        return jnp.sum(gradient**2)

    value_and_slope = jax.jit(jax.value_and_grad(penalty))
    (low, _), (value, slope), (high, _) = map(value_and_slope, (0.99, 1.0, 1.01))
    assert value > 0
    np.testing.assert_allclose(slope, (high - low) / 0.02, rtol=1e-2)


def test_none_adds_nothing_to_the_program():
    none = DISCRIMINATOR_AUGMENTATIONS.build("none")
    assert none.init() == {} == none.metrics({}) == none.update({}, jnp.zeros([]), 3)
    program = jax.make_jaxpr(lambda x, keys: none(x, {}, keys))(images(2, 4, 4, 3), keys(2))
    assert not program.eqns
    none.check_shape((2,))
