"""A look at a dataset: what it holds in words, and some of it as a picture."""

import pathlib

import numpy as np

from gan.data.dataset import Dataset, Examples
from gan.errors import UsageError

_ROWS, _COLUMNS = 6, 8


def summary(dataset: Dataset, examples: Examples) -> str:
    """Count, size, classes and range of values, a line each."""
    values, labels = examples
    counts = np.bincount(labels, minlength=dataset.num_classes)
    each = " to ".join(dict.fromkeys(f"{count:,}" for count in (counts.min(), counts.max())))
    low, high, mean = values.min(), values.max(), values.mean(dtype=np.float64)
    lines = [
        f"{dataset.name}: {len(labels):,} examples of {' x '.join(map(str, dataset.shape))}",
        f"  {values.dtype}, from {low:.4g} to {high:.4g}, mean {mean:.4g}",
        f"  {dataset.num_classes} class(es), {each} of each",
    ]
    return "\n".join(lines)


def check_name(path: str) -> None:
    """Raises UsageError where a preview cannot have this name."""
    if pathlib.Path(path).suffix != ".png":
        raise UsageError(f"--preview={path}: a name in .png is accepted")


def preview(dataset: Dataset, examples: Examples, path: str) -> None:
    """Draws the first examples with their labels, or all points coloured by theirs.

    Raises:
      UsageError: where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    place = pathlib.Path(path)
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
        place.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(place, dpi=100)
    except OSError as error:
        raise UsageError(f"--preview={path} cannot be written: {error.strerror}") from error
