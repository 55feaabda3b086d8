import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from gan.models import layers
from gan.models.layers import Conv, ConvTranspose, Geometry, convolve

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
small = st.tuples(st.integers(1, 5), st.integers(1, 5))
strides = st.tuples(st.integers(1, 3), st.integers(1, 3))
pads = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)


def native(geometry, x, w):
    return lax.conv_general_dilated(
        x, w, geometry.stride, geometry.padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@settings(deadline=None, max_examples=12)
@given(image=sizes, kernel=small, stride=strides, padding=pads, seed=st.integers(0, 99))
def test_convolve_is_laxs_with_its_first_and_second_derivatives(
    image, kernel, stride, padding, seed
):
    geometry = Geometry(image, kernel, stride, padding)
    if min(geometry.output) < 1:
        return
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        x, dx = rng.standard_normal([2, 2, *image, 2])
        w, dw = rng.standard_normal([2, *kernel, 2, 3])

        def penalised(function):
            def loss(x, w):
                y = function(geometry, x, w)
                return jnp.sum(jnp.tanh(y) * y)

            def both(x, w):
                gx, gw = jax.grad(loss, (0, 1))(x, w)
                return jnp.sum(gx**2 * dx) + jnp.sum(gw**3 * dw)

            return loss(x, w), jax.grad(loss, (0, 1))(x, w), jax.grad(both, (0, 1))(x, w)

        ours, theirs = jax.jit(penalised, static_argnums=0)(convolve), penalised(native)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8), ours, theirs
        )


@pytest.mark.parametrize("cpu_form", ["input", "kernel"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_form_for_cpus_is_the_native_one(cpu_form, stride):
    geometry = Geometry((9, 8), (4, 3), (stride, stride), ((1, 1), (2, 0)))
    rng = np.random.default_rng(0)
    x = rng.standard_normal([2, 9, 8, 3], np.float32)
    w = rng.standard_normal([4, 3, 3, 5], np.float32)
    y = rng.standard_normal([2, *geometry.output, 5], np.float32)
    if cpu_form == "input":
        ours, theirs = (f(geometry, y, w) for f in (layers._input_by_phases, layers._native_input))
    else:
        ours, theirs = (f(geometry, x, y) for f in (layers._kernel_by_swap, layers._native_kernel))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", ["SAME", ((1, 1), (1, 1)), ((0, 2), (1, 0))])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(4, 4), (3, 5)])
def test_conv_takes_linens_parameters(kernel, stride, padding):
    strides = (stride, stride)
    theirs = nn.Conv(6, kernel, strides=strides, padding=padding)
    x = jax.random.normal(jax.random.key(0), [2, 10, 8, 3])
    variables = theirs.init(jax.random.key(1), x)
    ours = Conv(6, kernel, strides, padding)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), x)) == jax.tree.map(
        jnp.shape, variables
    )
    np.testing.assert_allclose(
        ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [(4, 4), (3, 5), (6, 3)])
def test_conv_transpose_takes_linens_parameters(kernel, stride):
    strides = (stride, stride)
    theirs = nn.ConvTranspose(6, kernel, strides=strides)
    x = jax.random.normal(jax.random.key(0), [2, 5, 4, 3])
    variables = theirs.init(jax.random.key(1), x)
    ours = ConvTranspose(6, kernel, strides)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), x)) == jax.tree.map(
        jnp.shape, variables
    )
    np.testing.assert_allclose(
        ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-4, atol=1e-5
    )


def test_under_vmap_and_in_a_loop():
    geometry = Geometry((6, 6), (4, 4), (2, 2), ((1, 1), (1, 1)))
    x = jax.random.normal(jax.random.key(0), [3, 2, 6, 6, 2])
    w = jax.random.normal(jax.random.key(1), [4, 4, 2, 5])

    def loss(x, w):
        return jnp.sum(convolve(geometry, x, w) ** 2)

    expected = jnp.stack([jax.grad(loss, 1)(one, w) for one in x])
    np.testing.assert_allclose(
        jax.vmap(jax.grad(loss, 1), (0, None))(x, w), expected, rtol=1e-4, atol=1e-3
    )
    looped = jax.lax.map(lambda one: jax.grad(loss, 1)(one, w), x)
    np.testing.assert_allclose(looped, expected, rtol=1e-4, atol=1e-3)
