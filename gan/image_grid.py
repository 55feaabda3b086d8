"""Images of samples: grids of generated images, and scatter plots of points in the plane."""

import math
import pathlib

import numpy as np

from gan.files import replacing

_GRID_PIXELS = 512  # images are enlarged until a grid is about this wide


def image_grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Arranges images in a grid, row by row; enlarges small ones by a whole factor.

    Args:
      images: uint8 `[N, H, W, C]`.
      columns: Number of columns; by default as many as make the grid square.

    Returns:
      uint8 `[H', W', C]`.
    """
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = max(1, _GRID_PIXELS // (columns * width))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)  # [N, H s, W s, C]
    gap = max(1, scale // 2)
    cell_height, cell_width = height * scale + gap, width * scale + gap
    grid_shape = (rows * cell_height + gap, columns * cell_width + gap, channels)
    grid = np.full(grid_shape, 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * cell_height + gap, (i % columns) * cell_width + gap
        grid[top : top + height * scale, left : left + width * scale] = image
    return grid


def scatter(points: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Draws generated points over real ones.

    Args:
      points: Generated points, `[N, 2]`.
      real: Real points, `[M, 2]`.

    Returns:
      uint8 `[H, W, 3]`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.12, 5.12), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(aspect="equal")
    axes.scatter(real[:, 0], real[:, 1], s=4, color="0.75", label="real")
    axes.scatter(points[:, 0], points[:, 1], s=4, color="tab:blue", alpha=0.5, label="generated")
    limit = 1.4 * float(np.abs(real).max())
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    axes.legend(loc="upper right")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write_png(path: pathlib.Path, image: np.ndarray) -> None:
    """Writes an image, uint8 `[H, W, C]` with C = 1 or 3; the file appears whole or not at all."""
    from PIL import Image

    with replacing(path) as part:
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(part, "PNG")
