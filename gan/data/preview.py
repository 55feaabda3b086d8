"""A first look at a dataset: its summary in words, and a picture of some of its examples."""

import collections
import pathlib

import numpy as np

from gan.data.class_summary import describe_classes
from gan.data.dataset import Dataset, Examples
from gan.errors import UsageError, printable
from gan.files import replacing, user_path
from gan.image_grid import grid_labels, image_grid, write_png


def summary(dataset: Dataset, examples: Examples) -> str:
    """Summarises a dataset in lines of text: count and shape, range of values, classes."""
    values, labels = examples
    counts = np.bincount(labels, minlength=dataset.num_classes)
    low, high, mean = values.min(), values.max(), values.mean(dtype=np.float64)
    lines = [
        f"{dataset.name}: {len(labels):,} examples of {' x '.join(map(str, dataset.shape))}",
        f"{values.dtype}, from {low:.4g} to {high:.4g}, mean {mean:.4g}",
        *describe_classes(dataset.names, counts.tolist()),
    ]
    return "\n  ".join(map(printable, lines))


def check_name(path: str) -> None:
    """Raises UsageError for a path that does not end in .png."""
    if pathlib.Path(path).suffix != ".png":
        raise UsageError(f"--preview={path}: a name that ends in .png is accepted")


def preview(dataset: Dataset, examples: Examples, path: str) -> None:
    """Draws images of each class in turn with its name, or points in colours by label, to a PNG.

    Raises:
      UsageError: for points that are not in the plane, or a file that cannot be written.
    """
    if len(dataset.shape) == 1 and dataset.shape != (2,):
        raise UsageError(f"--preview: points of {dataset.shape[0]} dimensions cannot be drawn")
    try:
        if len(dataset.shape) == 3:
            places = _in_turn(examples.labels, max(dataset.shape[:2]))
            names = [dataset.names[label] for label in examples.labels[places]]
            write_png(user_path(path), image_grid(examples.examples[places], names))
        else:
            _scatter(examples, user_path(path))
    except OSError as error:
        raise UsageError(f"--preview={path} cannot be written: {error.strerror}") from error


def _in_turn(labels: np.ndarray, size: int) -> np.ndarray:
    """Returns the places of some examples of the classes that there are, in turn.

    They are spread over each class, since neighbours are often alike: frames, or patches of a photo.

    Args:
      labels: Those of all examples, `[N]`.
      size: The larger side of an image, in pixels.
    """
    wanted = collections.Counter(grid_labels(np.unique(labels).tolist(), size).tolist())
    chosen = [_spread(np.flatnonzero(labels == label), count) for label, count in wanted.items()]
    turns = np.concatenate([np.arange(len(own)) for own in chosen])
    return np.concatenate(chosen)[np.argsort(turns, kind="stable")]


def _spread(places: np.ndarray, count: int) -> np.ndarray:
    """Returns so many of the places, or all, at equal distances."""
    count = min(count, len(places))
    return places[np.arange(count) * len(places) // max(count, 1)]


def _scatter(examples: Examples, path: pathlib.Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.8, 7.8), layout="constrained")
    FigureCanvasAgg(figure)
    (x, y), labels = examples.examples.T, examples.labels
    figure.add_subplot(aspect="equal").scatter(x, y, s=2, c=labels, cmap="tab10")
    with replacing(path) as part:
        figure.savefig(part, dpi=100, format="png")
