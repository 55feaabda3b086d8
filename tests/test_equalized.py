import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import signal

from gan.models.equalized import EqualizedConv, EqualizedDense, leaky_relu

RNG = np.random.default_rng(0)


def test_dense_divides_by_the_fan_in_and_multiplies_by_its_rate():
    x = RNG.normal(size=[3, 50]).astype(np.float32)
    layer = EqualizedDense(40, lr_multiplier=0.01, bias_init=1.0)
    params = layer.init(jax.random.key(0), x)["params"]
    np.testing.assert_allclose(params["kernel"].std(), 100, rtol=0.05)
    np.testing.assert_array_equal(params["bias"], np.ones(40))
    want = x @ params["kernel"] * 0.01 / np.sqrt(50) + 0.01
    np.testing.assert_allclose(layer.apply({"params": params}, x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3])
def test_conv_divides_by_the_fan_in(size):
    x = RNG.normal(size=[2, 5, 4, 6]).astype(np.float32)
    layer = EqualizedConv(7, (size, size))
    params = layer.init(jax.random.key(0), x)["params"]
    assert 0.8 < params["kernel"].std() < 1.2
    params["bias"] = jnp.arange(7.0)
    kernel = np.asarray(params["kernel"]) / np.sqrt(6 * size * size)
    want = np.stack(
        [
            [
                sum(signal.correlate2d(image[..., i], kernel[..., i, j], "same") for i in range(6))
                + j
                for j in range(7)
            ]
            for image in x
        ]
    )
    y = layer.apply({"params": params}, x)
    np.testing.assert_allclose(y, want.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_outputs_keep_their_variance():
    """Of inputs with variance 1, whatever the width; the activation's gain is He et al.'s, without its slope."""
    x = RNG.normal(size=[64, 4, 4, 100]).astype(np.float32)
    for layer, inputs in ((EqualizedConv(90, (3, 3)), x), (EqualizedDense(500, 0.1), x[:, 0, 0])):
        y, _ = jax.jit(layer.init_with_output)(jax.random.key(0), inputs)
        y = y[:, 1:-1, 1:-1] if y.ndim == 4 else y
        np.testing.assert_allclose(y.std(), 1, rtol=0.05)
    np.testing.assert_allclose(jnp.square(leaky_relu(x)).mean(), 1.04, rtol=0.01)


def test_adam_moves_a_layer_by_its_rate():
    """One step of Adam changes each effective weight by the learning rate times rate / sqrt(fan-in)."""
    x = RNG.normal(size=[8, 25]).astype(np.float32)
    for rate in (1.0, 0.01):
        layer = EqualizedDense(3, rate)
        variables = layer.init(jax.random.key(0), x)
        gradient = jax.grad(lambda v, layer=layer: jnp.sum(layer.apply(v, x) ** 2))(variables)
        optimizer = optax.adam(0.1, eps=1e-12)
        updates, _ = optimizer.update(gradient, optimizer.init(variables))
        moved = optax.apply_updates(variables, updates)

        def effective(v, layer=layer):
            bias = layer.apply(v, np.zeros([1, 25], np.float32))
            return layer.apply(v, np.eye(25, dtype=np.float32)) - bias

        change = np.abs(effective(moved) - effective(variables))
        np.testing.assert_allclose(change, 0.1 * rate / 5, rtol=1e-2)


def test_resampling_changes_the_size():
    x = jnp.ones([1, 4, 6, 2])
    for resample, shape in (("up", (1, 8, 12, 3)), ("down", (1, 2, 3, 3))):
        layer = EqualizedConv(3, (3, 3), resample=resample, use_bias=False)
        y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
        assert y.shape == shape
        assert set(variables["params"]) == {"kernel"}
