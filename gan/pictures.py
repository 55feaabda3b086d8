"""Pictures of samples: grids of images, and points in the plane."""

import math
import pathlib

import numpy as np

_GRID_PIXELS = 512  # small images are enlarged until a grid is about this wide


def image_grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Lays images side by side, row by row, small ones enlarged by a whole factor.

    Args:
      images: uint8 `[N, H, W, C]`.
      columns: By default as many as make the grid square.

    Returns:
      uint8 `[H', W', C]`.
    """
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = max(1, _GRID_PIXELS // (columns * width))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)  # [N, H s, W s, C]
    gap = max(1, scale // 2)
    tall, wide = height * scale + gap, width * scale + gap
    grid = np.full([rows * tall + gap, columns * wide + gap, channels], 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * tall + gap, (i % columns) * wide + gap
        grid[top : top + height * scale, left : left + width * scale] = image
    return grid


def scatter(points: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Draws generated points over real ones.

    Args:
      points: Generated, `[N, 2]`.
      real: `[M, 2]`.

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


def write_png(path: pathlib.Path, picture: np.ndarray) -> None:
    """Writes uint8 `[H, W, C]`, C = 1 or 3, beside its place first and then moves it there."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(beside, "PNG")
    beside.replace(path)
