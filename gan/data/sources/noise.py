"""Random pixels, for timing networks without data."""

import math
from typing import Annotated

import numpy as np

from gan.argument_bounds import AtLeast
from gan.data.dataset import DATASETS, Dataset, Examples
from gan.memory import check_fits_host

_NUM_CLASSES = 10


@DATASETS.register("noise")
def noise(
    size: Annotated[int, AtLeast(1)] = 32,
    channels: Annotated[int, AtLeast(1)] = 3,
    num_images: Annotated[int, AtLeast(1)] = 2_048,
) -> Dataset:
    """Makes images of uniformly random pixels and labels, always the same.

    Args:
      size: Side of an image in pixels.
      channels: Channels of an image.
      num_images: Number of images.
    """
    shape = (size, size, channels)
    check_fits_host(f"num_images = {num_images} of size = {size}", num_images * math.prod(shape))

    def load() -> Examples:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (num_images, *shape), np.uint8)
        return Examples(images, rng.integers(0, _NUM_CLASSES, num_images, np.int32))

    return Dataset("noise", shape=shape, num_classes=_NUM_CLASSES, load=load)
