"""Images of any size to squares of one size."""

from typing import Annotated, TypeAlias

import numpy as np

from gan.argument_bounds import AtLeast

Resolution: TypeAlias = Annotated[int, AtLeast(1)]
"""The side of a square image in pixels."""


def center_crop(image: np.ndarray, resolution: int) -> np.ndarray:
    """Crops an image to its largest central square and resizes it with antialiasing (Lanczos).

    Args:
      image: uint8 `[H, W, C]`, C = 1 or 3.
      resolution: Side of the result in pixels.

    Returns:
      uint8 `[resolution, resolution, C]`.
    """
    from PIL import Image

    height, width, channels = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    cropped = Image.fromarray(square[..., 0] if channels == 1 else square)
    resized = cropped.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return np.asarray(resized).reshape(resolution, resolution, channels)
