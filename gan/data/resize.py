"""Images of any size to squares of one size."""

from typing import Annotated, Literal, TypeAlias

import numpy as np

from gan.argument_bounds import Within

Resolution: TypeAlias = Annotated[int, Within(1, 4_096)]
"""The side of a square image in pixels."""

Resize: TypeAlias = Literal["crop", "stretch", "pad"]
"""How an image becomes a square: by its central square, by another ratio of its sides, or whole
with a background at two sides."""

WHITE = (255, 255, 255)


def resize(
    image: np.ndarray,
    resolution: int,
    how: Resize = "crop",
    background: tuple[int, int, int] = WHITE,
) -> np.ndarray:
    """Resizes an image to a square with antialiasing (Lanczos).

    Args:
      image: uint8 `[H, W, C]`, C = 1 or 3.
      resolution: Side of the result in pixels.
      how: `"crop"` to the largest central square first, `"stretch"` the whole image, or `"pad"` it.
      background: What an image is padded with: red, green and blue from 0 to 255.

    Returns:
      uint8 `[resolution, resolution, C]`.
    """
    height, width, channels = image.shape
    if how == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return _lanczos(image[top : top + side, left : left + side], resolution, resolution)
    if how == "stretch" or height == width:
        return _lanczos(image, resolution, resolution)
    longest = max(height, width)
    height, width = (max(1, round(side * resolution / longest)) for side in (height, width))
    top, left = (resolution - height) // 2, (resolution - width) // 2
    square = np.empty([resolution, resolution, channels], np.uint8)
    square[:] = background if channels == 3 else _luma(background)
    square[top : top + height, left : left + width] = _lanczos(image, height, width)
    return square


def _lanczos(image: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    channels = image.shape[-1]
    whole = Image.fromarray(image[..., 0] if channels == 1 else image)
    resized = whole.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized).reshape(height, width, channels)


def _luma(colour: tuple[int, int, int]) -> int:
    """Returns the grey of a colour, as Pillow converts it (ITU-R 601-2)."""
    from PIL import Image

    return int(np.asarray(Image.new("RGB", (1, 1), colour).convert("L"))[0, 0])
