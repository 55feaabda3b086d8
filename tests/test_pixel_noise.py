import jax
import jax.numpy as jnp
import numpy as np

from gan.models.pixel_noise import PixelNoise

X = jnp.ones([3, 40, 30, 2])
KEYS = jax.random.split(jax.random.key(1), 3)


def make(number=0):
    layer = PixelNoise(number)
    variables = layer.init(jax.random.key(0), X, None)
    np.testing.assert_array_equal(variables["params"]["strength"], 0)
    return layer, variables | {"params": {"strength": jnp.float32(0.5)}}


def test_it_is_the_same_for_all_channels_and_differs_between_images():
    layer, variables = make()
    noise = (layer.apply(variables, X, KEYS) - X) / 0.5
    np.testing.assert_array_equal(noise[..., 0], noise[..., 1])
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1], atol=0.05)
    assert np.abs(np.corrcoef(noise[..., 0].reshape(3, -1))[0, 1]) < 0.1


def test_each_image_has_that_of_its_own_key_and_each_layer_its_own():
    layer, variables = make()
    every = layer.apply(variables, X, KEYS)
    one = layer.apply(variables, X[1:2], KEYS[1:2])
    np.testing.assert_array_equal(every[1:2], one)
    other = make(number=1)[0].apply(variables, X, KEYS)
    assert jnp.abs(other - every).mean() > 0.1


def test_without_keys_it_is_a_constant_image():
    layer, variables = make()
    image = variables["noise"]["image"]
    assert image.shape == (40, 30, 1)
    np.testing.assert_allclose(layer.apply(variables, X, None), X + 0.5 * image)


def test_without_strength_nothing_is_added():
    layer, variables = make()
    variables["params"]["strength"] = jnp.float32(0)
    np.testing.assert_array_equal(layer.apply(variables, X, KEYS), X)
