"""Normalisations against NumPy: SVDs, means and variances."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gan.models.layers import Conv, Dense
from gan.models.normalization import (
    applying,
    class_affine,
    conditional_batch_norm,
    projected_affine,
)

X = 3 + 2 * jax.random.normal(jax.random.key(0), [4, 5, 3, 6])
LABELS = jnp.array([1, 0, 1, 2], jnp.int32)


class Layers(nn.Module):
    """A convolution, a dense layer and an embedding, all normalised."""

    @nn.compact
    def __call__(self, x, labels, *, train):
        apply = applying(spectral=True, train=train)
        x = apply(Conv(7, (3, 3)), x)
        x = apply(Dense(4), x.mean((1, 2)))
        return x + apply(nn.Embed(9, 4), labels)


def test_layers_are_divided_by_their_largest_singular_value():
    layers = Layers()
    variables = layers.init(jax.random.key(1), X, LABELS, train=True)

    def once(_, variables):
        _, new = layers.apply(variables, X, LABELS, train=True, mutable=["batch_stats"])
        return variables | new

    variables = jax.jit(lambda v: jax.lax.fori_loop(0, 300, once, v))(variables)
    params = variables["params"]
    matrices = {
        name: np.asarray(next(v for k, v in layer.items() if k != "bias"), np.float64)
        for name, layer in params.items()
    }
    largest = {
        name: np.linalg.svd(x.reshape(-1, x.shape[-1]), compute_uv=False)[0]
        for name, x in matrices.items()
    }
    found = {
        name.split("/")[0]: value
        for own in variables["batch_stats"].values()
        for name, value in own.items()
        if name.endswith("/sigma")
    }
    assert set(found) == set(largest) == {"Conv_0", "Dense_0", "Embed_0"}
    for name, sigma in largest.items():
        np.testing.assert_allclose(found[name], sigma, rtol=1e-4)
    divided = {
        name: {k: v if k == "bias" else v / largest[name] for k, v in layer.items()}
        for name, layer in params.items()
    }
    y = Conv(7, (3, 3)).apply({"params": divided["Conv_0"]}, X).mean((1, 2))
    y = Dense(4).apply({"params": divided["Dense_0"]}, y) + divided["Embed_0"]["embedding"][LABELS]
    result = layers.apply(variables, X, LABELS, train=False)
    np.testing.assert_allclose(result, y, rtol=1e-4, atol=1e-5)


class Constant(nn.Module):
    """A layer whose kernel starts at 3, normalised."""

    @nn.compact
    def __call__(self, x):
        layer = Conv(7, (3, 3), kernel_init=nn.initializers.constant(3.0))
        return applying(spectral=True, train=True)(layer, x)


def test_parameters_start_as_the_initialiser_makes_them():
    """Linen's own layer divides them by their norm."""
    y, variables = Constant().init_with_output(jax.random.key(1), X)
    np.testing.assert_array_equal(variables["params"]["Conv_0"]["kernel"], 3.0)
    again, _ = Constant().apply(variables, X, mutable=["batch_stats"])
    np.testing.assert_allclose(again, y, rtol=1e-5)  # of rank 1: one power iteration finds sigma


def normalised(x, scale, bias):
    x = np.asarray(x, np.float64)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    y = (x - mean) / np.sqrt(variance + 1e-5)
    return y * np.asarray(scale)[:, None, None] + np.asarray(bias)[:, None, None]


class Conditional(nn.Module):
    """Conditional batch normalisation, of a class or of a vector."""

    of_class: bool

    @nn.compact
    def __call__(self, x, given, *, train):
        if self.of_class:
            init = nn.initializers.normal(1.0)
            scale, bias = class_affine(given, 3, x.shape[-1], init, init)
        else:
            apply = applying(spectral=False, train=train)
            scale, bias = projected_affine(given, lambda: Dense(6, use_bias=False), apply)
        return conditional_batch_norm(x, scale, bias, train=train)


def test_conditional_batch_norm_of_classes():
    layer = Conditional(of_class=True)
    variables = layer.init(jax.random.key(1), X, LABELS, train=True)
    y, new = layer.apply(variables, X, LABELS, train=True, mutable=["batch_stats"])
    tables = [np.asarray(variables["params"][f"Embed_{i}"]["embedding"]) for i in range(2)]
    expected = normalised(X, *(table[np.asarray(LABELS)] for table in tables))
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)
    mean = new["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * X.mean((0, 1, 2)), rtol=1e-4)  # momentum 0.9, from 0
    assert set(variables["params"]) == {"Embed_0", "Embed_1"}


def test_conditional_batch_norm_of_vectors():
    layer, vectors = Conditional(of_class=False), jax.random.normal(jax.random.key(3), [4, 5])
    variables = layer.init(jax.random.key(1), X, vectors, train=True)
    y, _ = layer.apply(variables, X, vectors, train=True, mutable=["batch_stats"])
    maps = [np.asarray(variables["params"][f"Dense_{i}"]["kernel"]) for i in range(2)]
    expected = normalised(X, 1 + np.asarray(vectors) @ maps[0], np.asarray(vectors) @ maps[1])
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)
