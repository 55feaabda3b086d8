import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import signal

from gan.models.modulated import ModulatedConv, modulated_convolution
from gan.models.resampling import upsampling_convolution

RNG = np.random.default_rng(0)
X, STYLE, KERNEL = (
    RNG.normal(size=size).astype(np.float32) for size in ([3, 5, 4, 6], [3, 6], [3, 3, 6, 7])
)


def kernels(demodulate):
    """Equations 1 to 3, with a kernel for each image: `[B, k, k, C, C']`."""
    every = []
    for style in STYLE.astype(np.float64):
        kernel = KERNEL * style[:, None]
        if demodulate:
            kernel /= np.sqrt(np.sum(kernel**2, (0, 1, 2)) + 1e-8)
        every.append(kernel)
    return every


@pytest.mark.parametrize("demodulate", [True, False])
def test_every_image_has_a_kernel_of_its_own(demodulate):
    y = modulated_convolution(X, KERNEL, STYLE, demodulate=demodulate)
    for image, kernel, result in zip(X, kernels(demodulate), y, strict=True):
        for j in range(7):
            want = sum(
                signal.correlate2d(image[..., i], kernel[..., i, j], "same") for i in range(6)
            )
            np.testing.assert_allclose(result[..., j], want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("demodulate", [True, False])
def test_upsampling_too(demodulate):
    y = modulated_convolution(X, KERNEL, STYLE, resample="up", demodulate=demodulate)
    alone = jax.jit(upsampling_convolution)
    for image, kernel, result in zip(X, kernels(demodulate), y, strict=True):
        want = alone(image[None], jnp.asarray(kernel, jnp.float32))[0]
        np.testing.assert_allclose(result, want, rtol=1e-3, atol=1e-4)


def test_second_derivatives():
    def function(x, kernel, style):
        return modulated_convolution(x, kernel, style, resample="up")

    check_grads(
        jax.jit(function), (X[:2, :2, :2, :2], KERNEL[..., :2, :2], STYLE[:2, :2]), order=2,
        modes=["rev"], atol=0.05, rtol=0.05,
    )  # fmt: skip


def test_the_layer_takes_its_styles_from_w():
    w = RNG.normal(size=[3, 9]).astype(np.float32)
    for demodulate in (True, False):
        layer = ModulatedConv(7, (3, 3), demodulate=demodulate)
        params = layer.init(jax.random.key(0), X, w)["params"]
        np.testing.assert_array_equal(params["affine"]["bias"], np.ones(6))
        style = w @ params["affine"]["kernel"] / 3 + 1
        kernel = params["kernel"] / (1 if demodulate else np.sqrt(54))
        want = modulated_convolution(X, kernel, style, demodulate=demodulate)
        np.testing.assert_allclose(layer.apply({"params": params}, X, w), want, atol=1e-4)


def test_bfloat16_keeps_styles_and_scales_in_float32():
    y = ModulatedConv(7, (3, 3), dtype=jnp.bfloat16).init_with_output(
        jax.random.key(0), X, 1e4 * np.ones([3, 4], np.float32)
    )[0]
    assert y.dtype == jnp.bfloat16
    assert 0.3 < y.astype(jnp.float32).std() < 3
