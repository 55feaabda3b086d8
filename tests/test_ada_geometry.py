import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.augmentation import ada_filters
from gan.augmentation.ada_geometry import Geometry, resample

H, W = 12, 16


def image(height=H, width=W, channels=3):
    return np.random.default_rng(0).uniform(-1, 1, (height, width, channels)).astype(np.float32)


def smooth(height=H, width=W):
    """Waves that are long against a pixel: resampling is then nearly exact."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return np.stack([np.cos(3 * x + 1), np.sin(2 * y + x), x * y], -1).astype(np.float32)


resample = jax.jit(resample)


def moved(x, **numbers):
    return np.asarray(resample(x[None], Geometry(**numbers).inverse()[None])[0])


def expected(x, inverse):
    """The authors' pipeline, with loops: pad, upsample, interpolate, downsample."""
    pad, (height, width) = 30, x.shape[:2]
    fine = np.pad(x.astype(float), [(pad, pad), (pad, pad), (0, 0)], mode="reflect")
    for axis in (0, 1):
        zeros = np.zeros([2 * n if a == axis else n for a, n in enumerate(fine.shape)])
        zeros[(slice(None),) * axis + (slice(None, None, 2),)] = fine
        fine = np.apply_along_axis(np.convolve, axis, zeros, np.sqrt(2) * ada_filters.SYM6)
        fine = np.take(fine, range(5, fine.shape[axis]), axis)  # pixel 0 is at 2 pad
    points = np.zeros([2 * height + 10, 2 * width + 10, x.shape[2]])
    for i in range(points.shape[0]):
        for j in range(points.shape[1]):
            place = np.array([(j - 5) / 2 - (width - 1) / 2, (i - 5) / 2 - (height - 1) / 2, 1])
            source = inverse @ place  # in pixels from the middle
            u = 2 * (source[1] + (height - 1) / 2 + pad)
            v = 2 * (source[0] + (width - 1) / 2 + pad)
            top, left = math.floor(u), math.floor(v)
            for k in (0, 1):
                for m in (0, 1):
                    weight = (1 - abs(u - top - k)) * (1 - abs(v - left - m))
                    points[i, j] += weight * fine[top + k, left + m]
    for axis in (0, 1):
        points = np.apply_along_axis(
            np.correlate, axis, points, ada_filters.SYM6 / np.sqrt(2), "valid"
        )
    return points[::2, ::2]


def matrices(
    flip=0, turns=0, shift=(0, 0), scale=1, rotation=0, stretch=1, rotation_after=0, move=(0, 0)
):
    """The product of the paper's matrices, of places to where they move; then its inverse."""

    def turn(angle):  # anticlockwise on a screen, whose y points downwards
        cos, sin = math.cos(angle), math.sin(angle)
        return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])

    def translate(by):
        return np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1]])

    steps = [
        np.diag([1 - 2 * flip, 1, 1]), turn(turns * math.pi / 2), translate(shift),
        np.diag([scale, scale, 1]), turn(rotation), np.diag([stretch, 1 / stretch, 1]),
        turn(rotation_after), translate(move),
    ]  # fmt: skip
    total = np.eye(3)
    for step in steps:
        total = step @ total
    return np.linalg.inv(total)


CASES = [
    {"flip": 1},
    {"turns": 3},
    {"shift": (2, -1)},
    {"scale": 1.3},
    {"rotation": 0.4},
    {"stretch": 0.8},
    {"rotation_after": -2.0},
    {"move": (0.3, -1.7)},
    {
        "flip": 1, "turns": 1, "shift": (-1, 2), "scale": 0.7, "rotation": 1.1, "stretch": 1.2,
        "rotation_after": 0.3, "move": (2.4, 0.6),
    },
]  # fmt: skip


@pytest.mark.parametrize("numbers", CASES)
def test_each_change_against_the_pipeline_of_the_paper(numbers):
    inverse = matrices(**numbers)
    np.testing.assert_allclose(Geometry(**numbers).inverse(), inverse, atol=1e-5)
    x = image()
    np.testing.assert_allclose(moved(x, **numbers), expected(x, inverse), atol=2e-4)


def test_the_identity():
    np.testing.assert_allclose(moved(image()), image(), atol=1e-5)
    for shape in ((2, 3, 1), (5, 2, 1)):
        np.testing.assert_allclose(moved(image(*shape)), image(*shape), atol=1e-5)


def test_whole_pixels_and_quarter_turns_are_those_of_numpy():
    """But for the wavelet, which is not quite symmetric, where an image is mirrored or turned."""
    x = image()
    padded = np.pad(x, [(4, 4), (4, 4), (0, 0)], mode="reflect")
    shifted = moved(x, shift=(3.0, -2.0))
    np.testing.assert_allclose(shifted, padded[6 : 6 + H, 1 : 1 + W], atol=1e-5)
    y = smooth()
    np.testing.assert_allclose(moved(y, flip=1.0), y[:, ::-1], atol=0.05)
    square = smooth(16, 16)
    for turns in (1, 2, 3):
        turned = moved(square, turns=float(turns))
        np.testing.assert_allclose(turned, np.rot90(square, turns), atol=0.05)
        assert np.abs(turned - np.rot90(square, -turns)).max() > 0.3 or turns == 2
    np.testing.assert_allclose(moved(square, rotation=math.pi / 2), np.rot90(square), atol=0.05)


def test_a_zoom_magnifies_about_the_middle():
    y, x = np.mgrid[:H, :W]
    ramp = np.stack([x - (W - 1) / 2, y - (H - 1) / 2], -1).astype(np.float32)
    inner = slice(3, -3), slice(3, -3)
    np.testing.assert_allclose(moved(ramp, scale=2.0)[inner], ramp[inner] / 2, atol=0.1)


def test_far_away_the_reflections_go_on():
    x = image()
    far = moved(x, shift=(2 * (W - 1) * 5.0, 2 * (H - 1) * -3.0))
    np.testing.assert_allclose(far, x, atol=1e-4)


def test_the_derivatives_are_those_of_a_linear_map():
    """<resample(x), y> = <x, transpose(y)>, and the transpose of the transpose is the map itself."""
    x, y = image()[None], image()[None, ::-1] ** 2
    inverses = Geometry(scale=0.6, rotation=0.5, move=(1.2, 0.1)).inverse()[None]
    transpose = jax.jit(lambda y: jax.vjp(lambda x: resample(x, inverses), x)[1](y)[0])
    forward = resample(x, inverses)
    np.testing.assert_allclose((forward * y).sum(), (x * transpose(y)).sum(), rtol=1e-4)
    again = jax.jit(lambda x: jax.vjp(transpose, jnp.asarray(y))[1](x)[0])(x)
    np.testing.assert_allclose(again, forward, atol=1e-5)


def test_each_image_has_its_own_matrix():
    x = np.stack([image(), image()[::-1]])
    inverses = jnp.stack([Geometry(shift=(1.0, 0.0)).inverse(), Geometry(scale=1.2).inverse()])
    both = resample(x, inverses)
    for i in range(2):
        np.testing.assert_allclose(
            both[i], resample(x[i : i + 1], inverses[i : i + 1])[0], atol=1e-5
        )
