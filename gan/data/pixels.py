"""Pictures of any size to squares of one size."""

import numpy as np


def check_resolution(resolution: int) -> None:
    """Raises ValueError for a side that no picture can have."""
    if resolution < 1:
        raise ValueError(f"resolution must be at least 1, given {resolution}")


def square(image: np.ndarray, resolution: int) -> np.ndarray:
    """The largest central square, resized with antialiasing (Lanczos).

    Args:
      image: uint8 `[H, W, C]`, C 1 or 3.
      resolution: Of the result, uint8 `[resolution, resolution, C]`.
    """
    from PIL import Image

    height, width, channels = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cropped = image[top : top + side, left : left + side]
    picture = Image.fromarray(cropped[..., 0] if channels == 1 else cropped)
    resized = picture.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return np.asarray(resized).reshape(resolution, resolution, channels)
