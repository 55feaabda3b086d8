import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.augmentation import DATA_AUGMENTATIONS
from gan.config import TrainConfig
from gan.errors import UsageError
from gan.trainers.experiment import build

IMAGES = jax.random.uniform(jax.random.key(0), [1_000, 3, 4, 2])


def test_about_half_of_the_images_are_mirrored_and_the_rest_is_as_it_was():
    flipped = np.asarray(DATA_AUGMENTATIONS.build("flip")(IMAGES, jax.random.key(1)))
    same = (flipped == IMAGES).all(axis=(1, 2, 3))
    mirrored = (flipped == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 400 < mirrored.sum() < 600


@pytest.mark.parametrize(("probability", "expected"), [(0.0, IMAGES), (1.0, jnp.flip(IMAGES, 2))])
def test_none_and_all(probability, expected):
    flipped = DATA_AUGMENTATIONS.build(f"flip({probability})")(IMAGES, jax.random.key(1))
    np.testing.assert_array_equal(flipped, expected)


def test_misuse():
    with pytest.raises(UsageError, match=r"probability must be in \[0, 1\], given 2"):
        DATA_AUGMENTATIONS.build("flip(2.0)")
    points = TrainConfig(dataset="gaussians", generator="mlp", discriminator="mlp",
                         data_augmentation=("flip",))  # fmt: skip
    with pytest.raises(UsageError, match="of images, and dataset is 'gaussians'"):
        build(points)
