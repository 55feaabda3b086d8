import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from gan.models.resampling import (
    BILINEAR,
    downsample,
    downsampling_convolution,
    resample,
    smooth,
    upsample,
    upsampling_convolution,
)

TAPS = (1.0, -2.0, 0.0, 3.0, 4.0)
X = np.random.default_rng(0).normal(size=[2, 7, 6, 3]).astype(np.float32)


def along(row, taps, up, down, padding):
    """Resamples one row: zeros inserted and added, a convolution, pixels dropped."""
    inserted = np.zeros(len(row) * up)
    inserted[::up] = row
    padded = np.pad(inserted, [max(pad, 0) for pad in padding])
    padded = padded[max(-padding[0], 0) : len(padded) - max(-padding[1], 0)]
    return np.convolve(padded, np.array(taps) / sum(taps), "valid")[::down]


def expected(x, taps, up=1, down=1, padding=(0, 0)):
    for axis in (1, 2):
        x = np.apply_along_axis(along, axis, x, taps, up, down, padding)
    return x


@pytest.mark.parametrize(
    ("taps", "up", "down", "padding"),
    [
        (TAPS, 1, 1, (0, 0)), (BILINEAR, 2, 1, (2, 1)), (TAPS, 2, 1, (0, 5)), (BILINEAR, 1, 2, (1, 3)),
        (TAPS, 2, 3, (-1, 4)), (BILINEAR, 3, 2, (3, -2)), ((1.0,), 3, 3, (2, 2)),
    ],
)  # fmt: skip
def test_resampling_and_its_derivatives(taps, up, down, padding):
    """It is linear, y = A x: the derivatives of the sum of sin(y) are A' cos(y) and -A' sin(y) A."""

    def ours(x):
        return resample(x, taps, up=up, down=down, padding=padding, gain=9.0)

    def slope(x):
        return jax.grad(lambda x: jnp.sum(jnp.sin(ours(x))))(x)

    other = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    y, first, second = jax.jit(
        lambda x: (ours(x), slope(x), jax.grad(lambda x: jnp.vdot(slope(x), other))(x))
    )(X)
    want, moved = (9 * expected(x, taps, up, down, padding) for x in (X, other))
    np.testing.assert_allclose(y, want, atol=1e-4)
    # For every vector v, <A' cos(y), v> = <cos(y), A v>; likewise for the second.
    np.testing.assert_allclose(np.vdot(first, other), np.vdot(np.cos(want), moved), rtol=1e-3)
    np.testing.assert_allclose(np.vdot(second, other), -np.vdot(np.sin(want), moved**2), rtol=1e-3)


def test_scipy_says_the_same():
    want = X
    for axis in (1, 2):
        want = signal.upfirdn(np.array(BILINEAR) / 4, want, up=2, axis=axis)
        want = np.take(
            want, range(1, 1 + 2 * X.shape[axis]), axis
        )  # zeros before are (2, 1), not (3, 3)
    np.testing.assert_allclose(upsample(X), want, atol=1e-6)


def test_bilinear_resampling():
    """What R3GAN's networks do as well."""
    x = jax.random.normal(jax.random.key(4), [2, 6, 8, 3])
    doubled = jax.jit(upsample)(x)
    reference = jax.image.resize(x, doubled.shape, "bilinear")
    np.testing.assert_allclose(doubled[:, 1:-1, 1:-1], reference[:, 1:-1, 1:-1], atol=1e-6)
    ones = upsample(jnp.ones([1, 2, 2, 1]))[0, :, :, 0]
    np.testing.assert_allclose(ones, np.outer(*[[0.75, 1, 1, 0.75]] * 2))  # zeros lie outside
    ones = downsample(jnp.ones([1, 6, 6, 1]))[0, :, :, 0]
    np.testing.assert_allclose(ones, np.outer(*[[0.875, 1, 0.875]] * 2))


@pytest.mark.parametrize("taps", [BILINEAR, (1.0, 2.0, 1.0, 0.5, 1.0), (1.0, 5.0)])
def test_filters_keep_the_size_or_double_or_halve_it(taps):
    for function, shape in ((smooth, (6, 6)), (upsample, (12, 12)), (downsample, (3, 3))):
        y = jax.eval_shape(lambda x, function=function: function(x, taps), X[:, :6])
        assert y.shape == (2, *shape, 3)


def test_bfloat16_is_rounded_once():
    x = jnp.asarray(X, jnp.bfloat16)
    y = jax.jit(upsample)(x)
    assert y.dtype == jnp.bfloat16
    exact = jax.jit(upsample)(x.astype(jnp.float32))
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))


def test_an_image_that_is_too_small():
    with pytest.raises(
        ValueError, match=r"7 x 6 pixels is too small for padding .-1, -2. and a filter of 5"
    ):
        resample(X, TAPS, padding=(-1, -2))


def convolved(x, kernel):
    """Correlates each image with a kernel, without padding."""
    (height, width), (rows, columns) = kernel.shape[:2], x.shape[1:3]
    y = np.zeros([len(x), rows - height + 1, columns - width + 1, kernel.shape[-1]])
    for i in range(height):
        for j in range(width):
            part = x[:, i : i + y.shape[1], j : j + y.shape[2]]
            y += np.einsum("bhwc,cd->bhwd", part, kernel[i, j])
    return y


@pytest.mark.parametrize(("size", "taps"), [(1, TAPS), (3, BILINEAR), (5, TAPS), (3, TAPS[:4])])
def test_convolutions_between_resamplings(size, taps):
    """Zeros inserted, filter and convolution, in this order; the latter two, then every second pixel."""
    x = X[:, :6]
    kernel = np.random.default_rng(2).normal(size=[size, size, 3, 4]).astype(np.float32)
    pad = size // 2
    before, after = (len(taps) + 1) // 2 + pad, (len(taps) - 2) // 2 + pad
    doubled = 4 * expected(x, taps, up=2, padding=(before, after))
    want = convolved(doubled, kernel[::-1, ::-1])
    both = jax.jit(
        lambda *a: (upsampling_convolution(*a, taps), downsampling_convolution(*a, taps))
    )
    up, down = both(x, kernel)
    np.testing.assert_allclose(up, want, atol=1e-3)
    before, after = (len(taps) - 1) // 2 + pad, (len(taps) - 2) // 2 + pad
    want = convolved(expected(x, taps, padding=(before, after)), kernel)[:, ::2, ::2]
    np.testing.assert_allclose(down, want, atol=1e-3)
