"""Image datasets that TensorFlow Datasets has prepared, read without TensorFlow where it can be."""

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from gan.data.dataset import DATASETS, Dataset, Examples
from gan.errors import UsageError


@DATASETS.register("mnist")
def mnist(split: str = "train", *, data_dir: str | None = None) -> Dataset:
    """Grey 28x28 handwritten digits of ten classes (LeCun et al., 1998): 60,000 to train on."""
    return _dataset("mnist", split, data_dir)


@DATASETS.register("cifar10")
def cifar10(split: str = "train", *, data_dir: str | None = None) -> Dataset:
    """Colour 32x32 photos of ten classes (Krizhevsky, 2009): 50,000 to train on."""
    return _dataset("cifar10", split, data_dir)


def _dataset(name: str, split: str, data_dir: str | None) -> Dataset:
    """One split of a dataset that TFDS knows.

    Args:
      name: TFDS's name of it.
      split: TFDS's words for a part, such as `"train"` or `"train[:1000]"`.
      data_dir: Where TFDS prepared it; None is TFDS's own default.
    """
    import tensorflow_datasets as tfds

    data_dir = os.path.expanduser(data_dir or os.path.join("~", "tensorflow_datasets"))
    builder = tfds.builder(name, data_dir=data_dir)
    features = builder.info.features
    return Dataset(
        name,
        shape=tuple(features["image"].shape),
        num_classes=features["label"].num_classes,
        load=lambda: _load(builder, split),
    )


def _load(builder: Any, split: str) -> Examples:
    """All records of a split. Nothing is downloaded."""
    if not builder.info.splits:
        folder = builder._data_dir_root
        prepare = (
            f"import tensorflow_datasets as tfds; tfds.builder({builder.name!r}, "
            f"data_dir={str(folder)!r}, file_format='array_record').download_and_prepare()"
        )
        raise UsageError(
            f"dataset {builder.name}: not prepared in data_dir {folder}; with a network this "
            f'prepares it: python -c "{prepare}"'
        )
    read = _read_array_record if _is_array_record(builder) else _read_tfrecord
    images, labels = read(builder, split)
    if not images:
        raise UsageError(f"dataset {builder.name}: split {split!r} is empty")
    return Examples(np.stack(images), np.array(labels, np.int32))  # [N, H, W, C], [N]


def _open(open_split: Callable[..., Any], builder: Any, split: str, **options: Any) -> Any:
    try:
        return open_split(split, **options)
    except ValueError as error:
        known = ", ".join(builder.info.splits)
        raise UsageError(f"dataset {builder.name}: no split {split!r}; known: {known}") from error


def _is_array_record(builder: Any) -> bool:
    from tensorflow_datasets.core import FileFormat

    return builder.info.file_format is FileFormat.ARRAY_RECORD


def _read_array_record(builder: Any, split: str) -> tuple[list[np.ndarray], list[int]]:
    """Without TensorFlow, and several times faster than TFDS's own decoding, record by record."""
    from PIL import Image
    from tensorflow_datasets import decode

    channels = builder.info.features["image"].shape[-1]
    decoders = {"image": decode.SkipDecoding()}
    source = _open(builder.as_data_source, builder, split, decoders=decoders)
    records = source.__getitems__(range(len(source)))
    mode = {1: "L", 3: "RGB"}[channels]
    images = [
        np.asarray(Image.open(io.BytesIO(record["image"])).convert(mode)) for record in records
    ]
    shaped = [image.reshape(*image.shape[:2], channels) for image in images]  # [H, W, C]
    return shaped, [record["label"] for record in records]


def _read_tfrecord(builder: Any, split: str) -> tuple[list[np.ndarray], list[int]]:
    """The older files can only be read with TensorFlow."""
    from tensorflow_datasets import as_numpy

    records = list(as_numpy(_open(builder.as_dataset, builder, split)))
    return [record["image"] for record in records], [record["label"] for record in records]
