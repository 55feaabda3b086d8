"""The user's own images as arrays in an `.npz` file."""

import pathlib

import numpy as np

from gan.data.dataset import DATASETS, Dataset, Examples
from gan.errors import UsageError, describe, printable
from gan.files import user_path
from gan.untrusted import names_in_npz, read_npz


@DATASETS.register("npz")
def npz(path: str) -> Dataset:
    """Reads the arrays of an `.npz`: `images`, and `labels` and `class_names` where there are any.

    Args:
      path: Path of the `.npz`. `images` is uint8, `[N, H, W]` or `[N, H, W, C]` with H = W and C =
        1 or 3; `labels` are N integers from 0; `class_names` are texts, one for each class.

    Raises:
      UsageError: for a file or arrays of any other kind.
    """
    file = user_path(path)
    arrays = _read_arrays(file)
    if "images" not in arrays:
        found = ", ".join(printable(name)[:40] for name in names_in_npz(file)[:10]) or "none"
        raise UsageError(f"{file} has no array 'images'; found: {found}")
    images = arrays["images"]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        raise UsageError(
            f"{file}: images are {images.dtype} {images.shape}; uint8 [N, H, W] or [N, H, W, C] "
            f"with C = 1 or 3 is accepted"
        )
    if images.shape[1] != images.shape[2] or not len(images):
        raise UsageError(
            f"{file}: images are {images.shape}; at least one is needed, and they must be square"
        )
    labels = arrays.get("labels", np.zeros(len(images), np.int32))
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise UsageError(
            f"{file}: labels are {labels.dtype} {labels.shape}; {len(images)} integers from 0 are "
            f"needed, one for each image"
        )
    num_classes = int(labels.max()) + 1
    names = arrays.get("class_names")
    if names is not None:
        if names.ndim != 1 or names.dtype.kind != "U" or len(names) < num_classes:
            raise UsageError(
                f"{file}: class_names are {names.dtype} {names.shape}; at least {num_classes} texts are "
                f"needed, one for each class"
            )
        num_classes = len(names)
    return Dataset(
        file.stem,
        shape=images.shape[1:],
        num_classes=num_classes,
        load=lambda: Examples(images, labels.astype(np.int32)),
        class_names=() if names is None else tuple(printable(str(name)) for name in names),
    )


def _read_arrays(file: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(file, ("images", "labels", "class_names"))
    except Exception as error:  # an archive may hold anything
        raise UsageError(f"{file} is not an .npz of plain arrays: {describe(error)}") from error
