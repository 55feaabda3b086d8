"""Images of samples: grids of generated images, and scatter plots of points in the plane."""

import itertools
import math
import pathlib
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gan.files import replacing
from gan.scratch import scratch_folder

_GRID_PIXELS = 512  # images are enlarged until a grid is about this wide
_MAX_PIXELS = 2_048  # of a side of the grid drawn in training
_MAX_ROWS = 12  # so many classes have rows of their own
_CAPTION_WIDTH, _CAPTION_HEIGHT = 48, 13  # least width of an image with a caption; its strip


def grid_labels(present: Sequence[int], size: int) -> np.ndarray:
    """Chooses how many images of which classes a grid shows, so that it stays of bounded size.

    There are about 8 x 8 images of up to 8 classes, as many of each as there are classes of up to 12,
    and one of each of up to 256; fewer where images are large.

    Args:
      present: The classes that there are, at least one.
      size: The larger side of an image, in pixels.

    Returns:
      The labels of the images, sorted, int32 `[N]`.
    """
    classes = np.unique(np.asarray(present, np.int32))
    limit = max(1, _MAX_PIXELS // size)  # images along a side
    side = min(8, limit)
    count = min(len(classes), 256, limit * limit)
    classes = classes[np.arange(count) * len(classes) // count]  # evenly spread
    each = 1
    if count <= side:
        each = side * (side // count)
    elif count <= _MAX_ROWS:
        each = count if count <= limit else side * side // count
    return classes.repeat(each)


def image_grid(images: np.ndarray, captions: Sequence[str] | None = None) -> np.ndarray:
    """Arranges images in a grid, row by row; enlarges small ones by a whole factor.

    A caption stands once above successive images that share it. Up to 12 such groups begin rows of
    their own, unless that makes a tower of the picture.

    Args:
      images: uint8 `[N, H, W, C]`, C = 1 or 3.
      captions: A text for each image, in the same order.

    Returns:
      uint8 `[H', W', C]`.
    """
    count, height, width, channels = images.shape
    lengths, columns, strip = [count], math.ceil(math.sqrt(count)), 0
    scale = max(1, _GRID_PIXELS // (columns * width))
    if captions is not None:
        lengths, columns = _layout(captions, height, width)
        strip = _CAPTION_HEIGHT
        scale = max(1, _GRID_PIXELS // (columns * width), math.ceil(_CAPTION_WIDTH / width))
    places = _places(lengths, columns)
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)  # [N, H s, W s, C]
    gap = max(1, scale // 2)
    cell_height, cell_width = strip + height * scale + gap, width * scale + gap
    grid_shape = (_rows(lengths, columns) * cell_height + gap, columns * cell_width + gap, channels)
    grid = np.full(grid_shape, 255, np.uint8)
    for image, (row, column) in zip(images, places, strict=True):
        top, left = row * cell_height + gap + strip, column * cell_width + gap
        grid[top : top + height * scale, left : left + width * scale] = image
    for text, row, column, room in _shown_captions(captions or (), places, columns):
        top, left = row * cell_height + gap, column * cell_width + gap
        drawn = _draw_caption(text, room * cell_width - gap)  # [strip, W'', 1]
        grid[top : top + strip, left : left + drawn.shape[1]] = drawn
    return grid


def _layout(captions: Sequence[str], height: int, width: int) -> tuple[list[int], int]:
    """Returns the numbers of images that begin new rows, and the columns of the squarest grid."""
    groups = [len(list(group)) for _, group in itertools.groupby(captions)]

    def side(lengths: list[int], columns: int) -> int:
        return max(_rows(lengths, columns) * height, columns * width)

    def squarest(lengths: list[int]) -> int:  # of equal ones the wider: captions add to the height
        return min(range(max(lengths), 0, -1), key=lambda columns: side(lengths, columns))

    columns = squarest(groups)
    tower = _rows(groups, columns) * height > 1.5 * columns * width
    if len(groups) <= _MAX_ROWS and not tower:
        return groups, columns
    return [len(captions)], squarest([len(captions)])


def _rows(lengths: list[int], columns: int) -> int:
    return sum(math.ceil(length / columns) for length in lengths)


def _places(lengths: list[int], columns: int) -> list[tuple[int, int]]:
    """Returns the row and the column of each image; each of the lengths begins a new row."""
    places: list[tuple[int, int]] = []
    for i, length in enumerate(lengths):
        top = _rows(lengths[:i], columns)
        places += [(top + j // columns, j % columns) for j in range(length)]
    return places


def _shown_captions(
    captions: Sequence[str], places: list[tuple[int, int]], columns: int
) -> Iterator[tuple[str, int, int, int]]:
    """Yields captions with their row and column, and how many columns of room each has."""
    runs = itertools.groupby(zip(captions, places, strict=False), lambda one: (one[0], one[1][0]))
    begins = [(caption, row, next(run)[1][1]) for (caption, row), run in runs]
    for (caption, row, column), after in itertools.zip_longest(begins, begins[1:]):
        end = after[2] if after is not None and after[1] == row else columns
        yield caption, row, column, end - column


def _draw_caption(text: str, width: int) -> np.ndarray:
    """Draws a text in black on white, clipped with ".." to a width: uint8 `[13, width, 1]`."""
    font = ImageFont.load_default()  # it has the letters of ASCII
    plain = unicodedata.normalize("NFKD", text[:200])
    letters = (letter for letter in plain if not unicodedata.combining(letter))
    shown = "".join(one if one.isascii() and one.isprintable() else "?" for one in letters)
    if font.getlength(shown) > width:
        while shown and font.getlength(shown + "..") > width:
            shown = shown[:-1]
        shown += ".."
    strip = Image.new("L", (width, _CAPTION_HEIGHT), 255)
    ImageDraw.Draw(strip).text((0, 0), shown, fill=0, font=font)
    return np.asarray(strip)[..., None]


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
    limit = 1.4 * float(np.abs(real if len(real) else points).max())
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    axes.legend(loc="upper right")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write_png(path: pathlib.Path, image: np.ndarray) -> None:
    """Writes an image, uint8 `[H, W, C]` with C = 1 or 3; the file appears whole or not at all."""
    with replacing(path) as part:
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(part, "PNG")


def write_images(
    folder: pathlib.Path, images: np.ndarray, labels: np.ndarray, names: Sequence[str] | None
) -> None:
    """Writes each image to a file of its own, `000000.png`, in a folder that appears whole.

    Args:
      folder: The folder, new or empty.
      images: uint8 `[N, H, W, C]`.
      labels: Their classes, `[N]`.
      names: The classes' names, each of which is a folder in this one; None is no such folders.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder.parent, f".{folder.name}.unfinished.") as scratch:
        written = scratch / "samples"
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = written if names is None else written / _folder_name(names[label], int(label))
            write_png(place / f"{number:06d}.png", image)
        written.replace(folder)


def _folder_name(name: str, number: int) -> str:
    """Returns the name of a class where it can be that of a folder, else its number."""
    return name if re.fullmatch(r"\w[\w .+-]*", name) else str(number)
