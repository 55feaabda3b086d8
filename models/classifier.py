"""A small classifier of images, whose last hidden layer is a space of features."""

from typing import NamedTuple

import jax
import numpy as np
from flax import linen as nn

from gan.models.layers import Conv


class Seen(NamedTuple):
    """What a network makes of images.

    Attributes:
      vectors: Features, `[B, D]`.
      logits: Of each class, `[B, K]`.
    """

    vectors: jax.Array | np.ndarray
    logits: jax.Array | np.ndarray


class Classifier(nn.Module):
    """Convolutions of stride 2 down to at most 7 x 7 pixels, and one hidden layer.

    Attributes:
      num_classes: K.
      width: Channels of the first convolution; each further one has twice as many.
      num_features: D.
    """

    num_classes: int
    width: int = 32
    num_features: int = 128

    @nn.compact
    def __call__(self, images: jax.Array) -> Seen:
        """Images `[B, H, W, C]` in [-1, 1]."""
        x, width = images, self.width
        while x is images or x.shape[1] > 7:
            x = nn.relu(Conv(width, (5, 5), (2, 2), [(2, 2), (2, 2)])(x))  # [B, H/2, W/2, width]
            width = 2 * width
        x = x.reshape(len(x), -1)
        vectors = nn.relu(nn.Dense(self.num_features)(x))
        return Seen(vectors, nn.Dense(self.num_classes)(vectors))
