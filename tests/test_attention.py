"""Self-attention against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan import precision
from gan.errors import UsageError
from gan.models import DISCRIMINATORS, GENERATORS
from gan.models.attention import SelfAttention
from gan.models.normalization import applying

X = jax.random.normal(jax.random.key(0), [2, 6, 4, 16])
PLAIN = applying(spectral=False, train=True)


def in_numpy(params, x):
    """The sums of the paper, pixel by pixel, in double precision."""
    theta, phi, g, o = (
        np.asarray(params[f"Conv_{i}"]["kernel"], np.float64)[0, 0] for i in range(4)
    )
    batch, height, width, _ = x.shape
    y = np.zeros(x.shape)
    for b in range(batch):
        image = np.asarray(x[b], np.float64)
        squares = [
            [image[i + di, j + dj] for di in (0, 1) for dj in (0, 1)]
            for i in range(0, height, 2)
            for j in range(0, width, 2)
        ]
        keys = [np.max([pixel @ phi for pixel in square], axis=0) for square in squares]
        values = [np.max([pixel @ g for pixel in square], axis=0) for square in squares]
        for i in range(height):
            for j in range(width):
                weights = np.exp([image[i, j] @ theta @ key for key in keys])
                mixed = sum(w * v for w, v in zip(weights, values, strict=True)) / weights.sum()
                y[b, i, j] = mixed @ o
    return np.asarray(x) + float(params["gamma"]) * y


def test_it_is_that_of_the_papers():
    layer = SelfAttention()
    params = layer.init(jax.random.key(1), X, PLAIN)["params"]
    assert [params[f"Conv_{i}"]["kernel"].shape[2:] for i in range(4)] == [
        (16, 2), (16, 2), (16, 8), (8, 16)
    ]  # fmt: skip
    np.testing.assert_array_equal(layer.apply({"params": params}, X, PLAIN), X)  # gamma is 0
    params |= {"gamma": jnp.float32(0.7)}
    apply = jax.jit(lambda x: layer.apply({"params": params}, x, PLAIN))
    y = apply(X)
    np.testing.assert_allclose(y, in_numpy(params, X), rtol=1e-4, atol=1e-4)
    alone = apply(X[1:])
    np.testing.assert_allclose(alone, y[1:], rtol=1e-5, atol=1e-5)


def test_its_second_derivatives_are_those_of_differences():
    layer, x = SelfAttention(), X[:1, :4]
    variables = {"params": layer.init(jax.random.key(1), x, PLAIN)["params"] | {"gamma": 0.7}}
    direction = jax.random.normal(jax.random.key(2), x.shape)

    @jax.jit
    def slope(x):
        return jax.grad(lambda x: jnp.sum(jnp.sin(layer.apply(variables, x, PLAIN))))(x)

    second = jax.jit(jax.grad(lambda x: jnp.vdot(slope(x), direction)))(x)
    with jax.enable_x64(True):
        wide, step = (np.asarray(value, np.float64) for value in (x, 1e-5 * direction))
        expected = (slope(wide + step) - slope(wide - step)) / 2e-5
    np.testing.assert_allclose(second, expected, rtol=1e-3, atol=1e-3)


def test_in_bfloat16_its_softmax_and_the_gradient_of_gamma_are_in_float32():
    layer = SelfAttention(dtype=jnp.bfloat16)
    params = layer.init(jax.random.key(1), X, PLAIN)["params"] | {"gamma": jnp.float32(0.7)}
    x = X.astype(jnp.bfloat16)

    def total(params):
        y = layer.apply({"params": params}, x, PLAIN)
        return jnp.sum(y.astype(jnp.float32)), y

    y = jax.jit(lambda params: total(params)[1])(params)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), in_numpy(params, X), atol=0.05)
    gradient = jax.grad(total, has_aux=True)
    text = str(jax.make_jaxpr(gradient)(params))
    assert "f32[2,24,6] = exp" in text
    assert set(precision.product_types(gradient, params)) == {jnp.dtype(jnp.bfloat16)}
    for equation in precision.equations(jax.make_jaxpr(gradient)(params).jaxpr):
        if equation.primitive.name == "reduce_sum":  # those of 2x2 pixels may be in bfloat16
            operand, result = equation.invars[0].aval, equation.outvars[0].aval
            assert operand.dtype == jnp.float32 or operand.size <= 4 * result.size


@pytest.mark.parametrize("registry", [GENERATORS, DISCRIMINATORS])
def test_a_resnet_has_it_where_it_is_told(registry):
    x = jnp.zeros([2, 6] if registry is GENERATORS else [2, 16, 16, 3])
    labels = jnp.zeros(2, jnp.int32)

    def names(spec):
        module = registry.build(spec, shape=(16, 16, 3), num_classes=2)
        return jax.eval_shape(lambda: module.init(jax.random.key(0), x, labels, train=True))

    plain, attending = names("resnet(8)"), names("resnet(8, attention=8)")
    layer = attending["params"].pop("SelfAttention_0")
    assert layer["Conv_2"]["kernel"].shape == (1, 1, 8, 4)
    assert jax.tree.map(jnp.shape, attending["params"]) == jax.tree.map(jnp.shape, plain["params"])
    vectors = {"generator": 0, "discriminator": 4}[registry.kind]
    statistics = attending["batch_stats"].get("SelfAttention_0", {})
    assert len(jax.tree.leaves(statistics)) == 2 * vectors  # a vector and a value of each kernel


def test_resolutions_that_a_resnet_does_not_have():
    for registry, sides in ((GENERATORS, "14, 28"), (DISCRIMINATORS, "14")):
        with pytest.raises(UsageError, match=rf"must be 0 \(none\), or here {sides}, given 7"):
            registry.build("resnet(attention=7)", shape=(28, 28, 3), num_classes=2)
