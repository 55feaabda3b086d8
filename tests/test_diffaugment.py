import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.augmentation import DISCRIMINATOR_AUGMENTATIONS
from gan.augmentation.diffaugment import CHANGES, cut_out, recolour, translate
from gan.errors import UsageError

SHAPES = [(16, 24, 3), (9, 7, 1), (2, 3, 1), (1, 1, 3)]


def image(shape=(16, 24, 3)):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_colour_against_the_formulas():
    x = image()
    y = x + 0.25
    grey = y.mean(2, keepdims=True)
    y = (y - grey) * 1.75 + grey
    y = (y - y.mean()) * 0.5 + y.mean()
    np.testing.assert_allclose(recolour(x, 0.25, 1.75, 0.5), y, atol=1e-6)


def test_the_saturation_of_a_grey_image_is_none():
    x = image((5, 5, 1))
    np.testing.assert_allclose(recolour(x, 0.0, 1.9, 1.0), x, atol=1e-6)


@pytest.mark.parametrize("shift", [(0, 0), (2, -3), (-2, 3), (1, 0)])
def test_translation_pixel_by_pixel(shift):
    x = image()
    expected = np.zeros_like(x)
    for i in range(16):
        for j in range(24):
            k, m = i + shift[0], j + shift[1]
            if 0 <= k < 16 and 0 <= m < 24:
                expected[i, j] = x[k, m]
    np.testing.assert_array_equal(translate(x, jnp.array(shift)), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_pixel_by_pixel(shape):
    """As in the authors' code: a grid of half the size around the centre, clipped to the image."""
    x, cut = 2 + image(shape), jax.jit(cut_out)
    h, w = shape[0] // 2, shape[1] // 2
    for row in range(shape[0] + 1 - h % 2):
        for column in range(0, shape[1] + 1 - w % 2, 5):
            expected = x.copy()
            for i in range(h):
                for j in range(w):
                    place = np.clip(
                        [i + row - h // 2, j + column - w // 2], 0, np.array(shape[:2]) - 1
                    )
                    expected[tuple(place)] = 0
            np.testing.assert_array_equal(cut(x, jnp.array([row, column])), expected)


def many(name, x):
    """What becomes of an image with many keys."""
    keys = jax.random.split(jax.random.key(0), 2_000)
    return np.asarray(jax.jit(jax.vmap(CHANGES[name], (None, 0)))(x, keys))


def test_the_range_of_colours():
    """Of an image of two greys a and b: the mean moves, the difference is scaled by the contrast."""
    x = np.array([-0.5, 0.5], np.float32).reshape(1, 2, 1)
    y = many("color", x)[:, 0, :, 0]
    for draws, low, high in ((y.mean(1), -0.5, 0.5), (y[:, 1] - y[:, 0], 0.5, 1.5)):
        assert low <= draws.min() < low + 0.01
        assert high - 0.01 < draws.max() <= high
        np.testing.assert_allclose(draws.mean(), (low + high) / 2, atol=0.03)
    # Of one pixel, its differences to its grey are scaled by U(0, 2).
    pixel = np.array([-0.5, 0.0, 0.5], np.float32).reshape(1, 1, 3)
    z = many("color", pixel)[:, 0, 0]
    product = z[:, 2] - z[:, 0]  # of a saturation in [0, 2] and a contrast in [0.5, 1.5]
    assert 0 <= product.min() < 0.05
    assert 2.5 < product.max() <= 3
    np.testing.assert_allclose(product.mean(), 1, atol=0.05)


def test_the_range_of_translations():
    """Of 16 x 24 pixels by -2..2 and -3..3, each equally often."""
    x, found = image((16, 24, 1)), {}
    for y in many("translation", x):
        (k,), (m,) = np.nonzero(x[:, :, 0] == y[8, 12, 0])
        found[k - 8, m - 12] = found.get((k - 8, m - 12), 0) + 1
    assert set(found) == {(k, m) for k in range(-2, 3) for m in range(-3, 4)}
    assert min(found.values()) > 2_000 / 35 / 2


def test_the_range_of_cutouts():
    """The centre is at one of 17 and 25 places, each equally often."""
    holes = many("cutout", image((16, 24, 1)))[:, :, :, 0] == 0
    rows, columns = holes.any(2).sum(1), holes.any(1).sum(1)
    assert set(rows) == set(range(4, 9))  # a rectangle half outside at the least
    assert set(columns) == set(range(6, 13))
    np.testing.assert_allclose((rows == 8).mean(), 9 / 17, atol=0.04)
    np.testing.assert_allclose((columns == 12).mean(), 13 / 25, atol=0.04)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_size_and_type(shape, dtype):
    augmentation = DISCRIMINATOR_AUGMENTATIONS.build("diffaugment('cutout, color,translation')")
    augmentation.check_shape(shape)
    images = jax.ShapeDtypeStruct((2, *shape), dtype)
    keys = jax.random.split(jax.random.key(1), 2)
    changed = jax.eval_shape(augmentation, images, {}, keys)
    assert (changed.shape, changed.dtype) == (images.shape, images.dtype)


def test_a_policy_is_in_order():
    """What is cut out is 0 at the end only where nothing is added to it afterwards."""
    keys, x = jax.random.split(jax.random.key(1), 4), jnp.stack([image()] * 4)
    for policy, zeros in (("color,cutout", True), ("cutout,color", False)):
        augmentation = DISCRIMINATOR_AUGMENTATIONS.build(f"diffaugment('{policy}')")
        y = np.asarray(jax.jit(augmentation)(x, {}, keys))
        assert (y == 0).any(axis=(1, 2, 3)).all() == zeros


def test_misuse():
    for policy, hint in (("colour", "'color'"), ("cutuot", "'cutout'"), ("", "known: color, tr")):
        with pytest.raises(UsageError, match=f"unknown change '{policy}'; .*{hint}"):
            DISCRIMINATOR_AUGMENTATIONS.build(f"diffaugment('{policy}')")
    augmentation = DISCRIMINATOR_AUGMENTATIONS.build("diffaugment")
    with pytest.raises(ValueError, match=r"of images, and an example has shape \[2\]"):
        augmentation.check_shape((2,))
