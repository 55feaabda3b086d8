"""A first look at a dataset: its summary in words, and a plot of some of its examples."""

import pathlib

import numpy as np

from gan.data.dataset import Dataset, Examples
from gan.errors import UsageError
from gan.files import replacing

_ROWS, _COLUMNS = 6, 8


def summary(dataset: Dataset, examples: Examples) -> str:
    """Summarises a dataset in lines of text: count and shape, range of values, classes."""
    values, labels = examples
    counts = np.bincount(labels, minlength=dataset.num_classes)
    class_sizes = dict.fromkeys(f"{count:,}" for count in (counts.min(), counts.max()))
    low, high, mean = values.min(), values.max(), values.mean(dtype=np.float64)
    lines = [
        f"{dataset.name}: {len(labels):,} examples of {' x '.join(map(str, dataset.shape))}",
        f"  {values.dtype}, from {low:.4g} to {high:.4g}, mean {mean:.4g}",
        f"  {dataset.num_classes} class(es), {' to '.join(class_sizes)} of each",
    ]
    return "\n".join(lines)


def check_name(path: str) -> None:
    """Raises UsageError for a path that does not end in .png."""
    if pathlib.Path(path).suffix != ".png":
        raise UsageError(f"--preview={path}: a name that ends in .png is accepted")


def preview(dataset: Dataset, examples: Examples, path: str) -> None:
    """Draws the first images with their labels, or all points in colours by label, to a PNG.

    Raises:
      UsageError: for points that are not in the plane, or a file that cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.1 * _COLUMNS, 1.3 * _ROWS), layout="constrained")
    FigureCanvasAgg(figure)
    values, labels = examples
    if len(dataset.shape) == 3:
        for i in range(min(_ROWS * _COLUMNS, len(values))):
            axes = figure.add_subplot(_ROWS, _COLUMNS, i + 1)
            image = values[i][..., 0] if dataset.shape[-1] == 1 else values[i]
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_title(str(labels[i]), fontsize=9)
            axes.axis("off")
    elif dataset.shape == (2,):
        axes = figure.add_subplot(aspect="equal")
        axes.scatter(values[:, 0], values[:, 1], s=2, c=labels, cmap="tab10")
    else:
        raise UsageError(f"--preview: points of {dataset.shape[0]} dimensions cannot be drawn")
    try:
        with replacing(pathlib.Path(path)) as part:
            figure.savefig(part, dpi=100, format="png")
    except OSError as error:
        raise UsageError(f"--preview={path} cannot be written: {error.strerror}") from error
