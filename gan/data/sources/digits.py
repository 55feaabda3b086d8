"""1,797 real handwritten digits of 8x8 pixels that come with scikit-learn, without a network."""

import numpy as np

from gan.data.dataset import DATASETS, Dataset, Examples


@DATASETS.register("digits")
def digits() -> Dataset:
    """Reads grey 8x8 digits of ten classes.

    Reference: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (the test
    set).
    """

    def load() -> Examples:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # [N, 8, 8]
        return Examples(images[..., None], bunch.target.astype(np.int32))

    return Dataset("digits", shape=(8, 8, 1), num_classes=10, load=load)
