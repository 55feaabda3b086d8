"""The recipes in `configs/` by name, and stand-ins for data that are not there."""

import pathlib
from collections.abc import Sequence

from gan.errors import UsageError, nearest
from gan.files import user_path
from gan.specs import parse

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs"


def recipes() -> dict[str, pathlib.Path]:
    """Returns the path of each recipe by its name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.py")) if path.stem != "__init__"}


def find_recipes(words: Sequence[str]) -> dict[str, pathlib.Path]:
    """Returns the paths of recipes, given by name or as files, by their names; `all` is every recipe.

    Raises:
      UsageError: for a word that is neither.
    """
    known, found = recipes(), dict[str, pathlib.Path]()
    for word in words:
        if word == "all":
            found |= known
        elif word in known:
            found[word] = known[word]
        elif (path := user_path(word)).suffix in (".py", ".json"):
            found[path.stem] = path
        else:
            hint = nearest(word, known) or f"; known: {', '.join(known)}"
            raise UsageError(f"--config={word} is neither a recipe nor a file{hint}")
    return found


def data_shape(dataset: str) -> tuple[tuple[int, ...], int]:
    """Returns the shape of an example and the number of classes; pictures need not be there.

    Raises:
      UsageError: for a spec of no dataset.
    """
    from gan.data import DATASETS  # imports JAX, for which a list of names has no need

    (spec,) = parse(dataset)
    if spec.name == "images":
        arguments = dict(spec.kwargs)
        side = arguments["resolution"]
        return (side, side, arguments.get("channels", 3)), 3 if arguments.get("labels") else 1
    built = DATASETS.build(dataset)
    return built.shape, built.num_classes


def noise_like(dataset: str) -> str:
    """Returns the spec of random pixels in the shape of a dataset, or its own for points."""
    shape, _ = data_shape(dataset)
    return f"noise({shape[0]}, {shape[2]})" if len(shape) == 3 else dataset
