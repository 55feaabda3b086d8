"""A small image classifier whose last hidden layer gives features for scores."""

from typing import NamedTuple

import jax
import numpy as np
from flax import linen as nn

from gan.models.layers import Conv


class FeatureOutput(NamedTuple):
    """Features and class logits of images.

    Attributes:
      vectors: Features, `[B, D]`.
      logits: Logits of the classes, `[B, K]`.
    """

    vectors: jax.Array | np.ndarray
    logits: jax.Array | np.ndarray


class Classifier(nn.Module):
    """Convolutions with stride 2 down to at most 7x7 pixels, and one hidden layer.

    Attributes:
      num_classes: Number of classes, K.
      width: Channels of the first convolution; each further one has twice as many.
      num_features: Units of the hidden layer, D.
    """

    num_classes: int
    width: int = 32
    num_features: int = 128

    @nn.compact
    def __call__(self, images: jax.Array) -> FeatureOutput:
        """Classifies images `[B, H, W, C]` in [-1, 1]."""
        x, width = images, self.width
        while x is images or x.shape[1] > 7:
            x = nn.relu(Conv(width, (5, 5), (2, 2), [(2, 2), (2, 2)])(x))  # [B, H/2, W/2, width]
            width = 2 * width
        x = x.reshape(len(x), -1)
        vectors = nn.relu(nn.Dense(self.num_features)(x))
        return FeatureOutput(vectors, nn.Dense(self.num_classes)(vectors))
