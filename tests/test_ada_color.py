import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.augmentation.ada_color import Colour, band_gains, cut_out, filter_bands, recolour
from gan.augmentation.ada_filters import bands

AXIS = np.ones(3) / np.sqrt(3)  # of greys


def image(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def changed(x, **numbers):
    matrix, offset = Colour(**numbers).affine()
    return np.asarray(recolour(x[None], matrix[None], offset[None])[0])


def expected_matrix(brightness=0.0, contrast=1.0, flip=0.0, hue=0.0, saturation=1.0):
    """The product of homogeneous matrices `[4, 4]` of appendix B."""
    v = np.append(AXIS, 0)
    add = np.eye(4)
    add[:3, 3] = brightness
    scale = np.diag([contrast] * 3 + [1])
    mirror = np.eye(4) - 2 * flip * np.outer(v, v)
    # Rodrigues' formula
    cross = np.array([[0, -AXIS[2], AXIS[1]], [AXIS[2], 0, -AXIS[0]], [-AXIS[1], AXIS[0], 0]])
    turn = np.eye(4)
    turn[:3, :3] = np.eye(3) + np.sin(hue) * cross + (1 - np.cos(hue)) * cross @ cross
    colourful = np.outer(v, v) + (np.eye(4) - np.outer(v, v)) * saturation
    return colourful @ turn @ mirror @ scale @ add


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"brightness": 0.3},
        {"contrast": 1.7},
        {"flip": 1.0},
        {"hue": 2.1},
        {"saturation": 0.2},
        {"brightness": -0.2, "contrast": 0.6, "flip": 1.0, "hue": -0.7, "saturation": 1.9},
    ],
)
def test_colours_against_the_product_of_the_papers_matrices(numbers):
    matrix = expected_matrix(**numbers)
    x = image(4, 5, 3)
    np.testing.assert_allclose(
        changed(x, **numbers), x @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-6
    )
    grey = image(4, 5, 1)  # as (l, l, l), of which the mean is kept
    row = matrix[:3].mean(0)
    np.testing.assert_allclose(changed(grey, **numbers), grey * row[:3].sum() + row[3], atol=1e-6)


def test_a_third_of_a_turn_of_the_hue_moves_the_channels():
    x = image(2, 2, 3)
    np.testing.assert_allclose(changed(x, hue=2 * np.pi / 3), np.roll(x, 1, axis=2), atol=1e-6)


def test_band_gains_keep_the_expected_power():
    factors = np.array([0.5, 2.0, 1.0, 3.0])
    power = np.array([10, 1, 1, 1]) / 13
    expected = np.ones(4)
    for band, factor in enumerate(factors):
        gains = np.ones(4)
        gains[band] = factor
        expected *= gains / np.sqrt(power @ gains**2)
    np.testing.assert_allclose(band_gains(jnp.asarray(factors)), expected, rtol=1e-6)
    np.testing.assert_allclose(band_gains(jnp.ones(4)), np.ones(4), rtol=1e-6)


def test_filtering_is_a_separable_convolution():
    x, gains = image(2, 6, 8, 3), np.array([[1.5, 0.5, 2.0, 0.1], [1, 1, 1, 1]])
    filtered = jax.jit(filter_bands)(x, gains.astype(np.float32))
    np.testing.assert_allclose(filtered[1], x[1], atol=1e-5)
    expected = x[0].astype(float)
    for axis in (0, 1):
        pad = [(21, 21) if axis == other else (0, 0) for other in range(3)]
        expected = np.apply_along_axis(
            np.convolve, axis, np.pad(expected, pad, mode="reflect"), gains[0] @ bands(), "valid"
        )
    np.testing.assert_allclose(filtered[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("centre", "size"), [((0.5, 0.25), 0.5), ((0.0, 1.0), 0.3), ((0.4, 0.4), 0)]
)
def test_cutout_pixel_by_pixel(centre, size):
    x = 2 + image(6, 9, 1)
    y = cut_out(x, jnp.array(centre), size)
    for i in range(6):
        for j in range(9):
            down, along = abs((i + 0.5) / 6 - centre[0]), abs((j + 0.5) / 9 - centre[1])
            assert y[i, j, 0] == (0 if max(down, along) < size / 2 else x[i, j, 0])
