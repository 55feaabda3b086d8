"""Random pixels, for timing networks with no data."""

import numpy as np

from gan.data.dataset import DATASETS, Dataset, Examples


@DATASETS.register("noise")
def noise(size: int = 32, channels: int = 3, num_images: int = 2_048) -> Dataset:
    """Images of `size` x `size` uniformly random pixels, the same at each call, of ten classes."""
    for name, value in (("size", size), ("channels", channels), ("num_images", num_images)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, given {value}")
    shape = (size, size, channels)

    def load() -> Examples:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (num_images, *shape), np.uint8)
        return Examples(images, rng.integers(0, 10, num_images, np.int32))

    return Dataset("noise", shape=shape, num_classes=10, load=load)
