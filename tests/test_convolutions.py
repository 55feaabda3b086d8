from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from gan.models import convolutions, cpu_convolutions
from gan.models.convolutions import convolve
from gan.models.geometry import Geometry

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
small = st.tuples(st.integers(1, 5), st.integers(1, 5))
strides = st.tuples(st.integers(1, 3), st.integers(1, 3))
pads = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)


def native(geometry, x, w):
    return lax.conv_general_dilated(
        x,
        w,
        geometry.stride,
        geometry.padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=geometry.groups,
    )


@settings(deadline=None, max_examples=12)
@given(
    image=sizes, kernel=small, stride=strides, padding=pads, groups=st.integers(1, 3),
    channels=st.sampled_from([2, cpu_convolutions._MIN_PHASE_CHANNELS]), seed=st.integers(0, 99),
)  # fmt: skip
@example(
    image=(5, 4), kernel=(1, 1), stride=(1, 1), padding=((0, 0), (0, 0)), groups=1, channels=2,
    seed=0,
)  # a product of matrices  # fmt: skip
@example(
    image=(5, 4), kernel=(4, 1), stride=(2, 3), padding=((1, 2), (0, 1)), groups=1, channels=16,
    seed=0,
)  # phases of unequal lengths, one of them without taps  # fmt: skip
@example(
    image=(3, 3), kernel=(3, 3), stride=(1, 1), padding=((1, 1), (1, 1)), groups=33, channels=2,
    seed=0,
)  # no longer one by one  # fmt: skip
def test_convolve_is_laxs_with_its_first_and_second_derivatives(
    image, kernel, stride, padding, groups, channels, seed
):
    geometry = Geometry(image, kernel, stride, padding, groups)
    if min(geometry.output) < 1:
        return
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        x, dx = rng.standard_normal([2, 2, *image, channels * groups])
        w, dw = rng.standard_normal([2, *kernel, channels, 3 * groups]) / channels

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


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("least", [0, 10**9], ids=["eigen", "ynnpack"])
def test_the_forms_for_cpus_are_the_native_ones(stride, groups, least, monkeypatch):
    monkeypatch.setattr(cpu_convolutions, "_min_eigen_products", lambda: least)
    at_once = partial(cpu_convolutions.input_gradient_at_once, convolve=cpu_convolutions.convolve)
    geometry = Geometry((9, 8), (4, 3), (stride, stride), ((1, 1), (2, 0)), groups)
    rng = np.random.default_rng(0)
    x = rng.standard_normal([2, 9, 8, 3 * groups], np.float32)
    w = rng.standard_normal([4, 3, 3, 5 * groups], np.float32)
    y = rng.standard_normal([2, *geometry.output, 5 * groups], np.float32)
    for ours, theirs, arrays in (
        (cpu_convolutions._convolve, convolutions._native_convolve, (x, w)),
        (at_once, convolutions._native_input_gradient, (y, w)),
        (cpu_convolutions._input_gradient_by_phases, convolutions._native_input_gradient, (y, w)),
        (cpu_convolutions._kernel_gradient, convolutions._native_kernel_gradient, (x, y)),
    ):
        np.testing.assert_allclose(
            cpu_convolutions._by_group(ours, geometry, *arrays),
            theirs(geometry, *arrays),
            rtol=1e-4,
            atol=1e-4,
        )


@settings(deadline=None, max_examples=10)
@given(image=sizes, kernel=small, stride=strides, padding=pads)
@example(image=(5, 5), kernel=(2, 2), stride=(1, 1), padding=((2, 0), (2, 0)))
def test_no_form_for_cpus_reads_past_an_image(image, kernel, stride, padding):
    """XLA's library for float32 does where padding is negative before an image; that for float64 does not."""
    geometry = Geometry(image, kernel, stride, padding)
    if min(geometry.output) < 1:
        return
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal([2, *image, 16]), rng.standard_normal([*kernel, 16, 16])
    y = rng.standard_normal([2, *geometry.output, 16])
    for form, arrays in (
        (cpu_convolutions.convolve, (x, w)),
        (cpu_convolutions.input_gradient, (y, w)),
        (cpu_convolutions.kernel_gradient, (x, y)),
    ):
        with jax.enable_x64(True):
            exact = form(geometry, *arrays)
        ours = form(geometry, *map(np.float32, arrays))
        np.testing.assert_allclose(ours, exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_forms_for_cpus_sum_bfloat16_in_float32(groups, kernel):
    """Of positive numbers, so that 256 of them summed in bfloat16 would be off by several per cent."""
    pad = kernel[0] // 2
    geometry = Geometry((8, 8), kernel, (1, 1), ((pad, pad), (pad, pad)), groups)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(size=[4, 8, 8, 256 * groups]), jnp.bfloat16)
    w = jnp.asarray(rng.uniform(size=[*kernel, 256, 8 * groups]), jnp.bfloat16)
    y = jnp.asarray(rng.uniform(size=[4, 8, 8, 8 * groups]), jnp.bfloat16)
    for form, arrays in (
        (cpu_convolutions._convolve, (x, w)),
        (cpu_convolutions._input_gradient, (y, w)),
        (cpu_convolutions._kernel_gradient, (x, y)),
    ):
        form = jax.jit(partial(cpu_convolutions._by_group, form, geometry))
        result = form(*arrays)
        assert result.dtype == jnp.bfloat16
        exact = form(*(array.astype(jnp.float32) for array in arrays))
        np.testing.assert_allclose(np.float32(result), exact, rtol=2**-8 + 1e-4)  # one rounding


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


@pytest.mark.parametrize("groups", [1, 2])
def test_on_eight_devices(groups):
    """The batch is split; each device's share of a kernel's gradient is summed."""
    geometry = Geometry((6, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), groups)
    x = jax.random.normal(jax.random.key(0), [16, 6, 6, 4])
    w = jax.random.normal(jax.random.key(1), [3, 3, 4 // groups, 8])

    def losses(function):
        loss = jax.value_and_grad(lambda x, w: jnp.sum(function(geometry, x, w) ** 2), (0, 1))
        return jax.jit(loss)

    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    placed = [
        jax.device_put(array, NamedSharding(mesh, PartitionSpec(*axes)))
        for array, axes in ((x, ["data"]), (w, []))
    ]
    value, (dx, dw) = losses(convolve)(*placed)
    assert dx.sharding.spec == PartitionSpec("data")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3),
        (value, (dx, dw)),
        losses(native)(x, w),
    )
