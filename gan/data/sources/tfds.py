"""Image datasets of TensorFlow Datasets (TFDS), read without TensorFlow where possible."""

import importlib.util
import io
import os
import pathlib
import platform
import re
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gan.data.dataset import DATASETS, Dataset, Examples
from gan.data.decoded_cache import decode_once
from gan.data.resize import Resize, Resolution
from gan.data.resize import resize as resize_image
from gan.errors import RunError, UsageError, describe, nearest
from gan.files import user_path
from gan.untrusted import read_json

_CHUNK_SIZE = 1_000  # records read at a time


@DATASETS.register("tfds")
def tfds_dataset(
    name: str,
    split: str = "train",
    resolution: Resolution | None = None,
    resize: Resize = "crop",
    *,
    data_dir: str | None = None,
) -> Dataset:
    """Reads any dataset of TFDS that has images, by its TFDS name: `cifar100`, `emnist/letters`.

    `scripts/prepare_data.py` prepares it. At first use it is decoded, into a cache beside the
    prepared files. If TFDS has one label for each image, these are the labels.

    Args:
      name: TFDS name of the dataset.
      split: Split in TFDS's notation, such as `"train"` or `"train[:1000]"`.
      resolution: Side in pixels to which images are resized; required unless they are squares of one
        size.
      resize: `"crop"` takes the central square, `"stretch"` changes the ratio of the sides, `"pad"`
        puts the whole image on white.
      data_dir: Folder in which TFDS prepared it; by default TFDS's own.

    Raises:
      UsageError: for a name that TFDS does not know, or a dataset without square images.
    """
    builder = make_builder(name, data_dir)
    features = builder.info.features
    kind: Any = dict(features.items()).get("image")
    if not isinstance(getattr(kind, "shape", None), tuple):
        raise UsageError(f"{name} has no images: its records have {', '.join(features)}")
    if len(kind.shape) != 3 or kind.shape[-1] not in (1, 3) or kind.np_dtype != np.uint8:
        raise UsageError(
            f"{name}: its images are {np.dtype(kind.np_dtype)} {list(kind.shape)}; uint8 images of 1 or 3 "
            "channels are accepted"
        )
    height, width, channels = kind.shape
    if resolution is not None:
        height = width = resolution
    if height is None or height != width:
        shape = " x ".join("any" if side is None else str(side) for side in (height, width))
        raise UsageError(f"{name}: its images are {shape}, not square; resolution=64 makes them so")
    label = dict(features.items()).get("label")
    num_classes = getattr(label, "num_classes", None) or 1
    names = tuple(getattr(label, "names", ())) if num_classes > 1 else ()
    return Dataset(
        name,
        shape=(height, width, channels),
        num_classes=num_classes,
        load=lambda: _load(builder, split, resolution, resize),
        tfds_name=name,
        class_names=() if names == tuple(map(str, range(num_classes))) else names,
    )


@DATASETS.fallback
def find_dataset(name: str) -> Callable[..., Dataset]:
    """Returns the maker of a dataset that is known by its TFDS name alone.

    Raises:
      UsageError: for a name that TFDS does not know, or any name where TFDS is not installed.
    """
    names = tfds_names() if _is_installed("tensorflow_datasets") else []
    if name.partition("/")[0] not in names:
        hint = nearest(name, [*DATASETS, *names]) or f"; known: {', '.join(DATASETS)}, all of TFDS"
        missing = "" if names else " (TFDS is not installed: pip install tensorflow-datasets)"
        raise UsageError(f"unknown dataset {name!r}{hint}{missing}")
    return _maker(name)


def _maker(name: str) -> Callable[..., Dataset]:
    def dataset(
        split: str = "train",
        resolution: Resolution | None = None,
        resize: Resize = "crop",
        *,
        data_dir: str | None = None,
    ) -> Dataset:
        return tfds_dataset(name, split, resolution, resize, data_dir=data_dir)

    return dataset


for _name in ("mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100", "svhn_cropped", "celeb_a"):
    DATASETS.register(_name)(_maker(_name))  # the ones that `--list` shows


def tfds_names() -> list[str]:
    """Returns the names of the datasets that TFDS knows."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def make_builder(name: str, data_dir: str | None) -> Any:
    """Returns TFDS's builder of a dataset; one that is not prepared yet is to be array_record.

    Raises:
      UsageError: for a name that TFDS does not know, or where TFDS is not installed.
    """
    if not _is_installed("tensorflow_datasets"):
        raise UsageError(
            f"{name} is read by TFDS, which is not installed: pip install tensorflow-datasets"
        )
    import tensorflow_datasets as tfds

    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"  # as TFDS itself has it
    data_dir = str(user_path(data_dir or default))
    _check_names_no_code(name, tfds.core.Path(data_dir))
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        if not builder.info.splits:
            builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        return builder
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        family, _, variant = name.partition(":")[0].partition("/")
        if family not in tfds_names():
            raise UsageError(
                f"TFDS knows no dataset {name!r}{nearest(name, tfds_names())}"
            ) from error
        known = tfds.builder_cls(family).builder_configs
        if (variant and variant not in known) or ":" in name:  # `emnist/leters`
            hint = nearest(variant, known) or f"; known: {', '.join(known)}"
            raise UsageError(f"{name}: TFDS knows no variant {variant!r}{hint}") from error
        raise UsageError(_unreadable(name, data_dir, error)) from error
    except Exception as error:  # whatever the damage of its files happens to cause
        raise UsageError(_unreadable(name, data_dir, error)) from error


def _unreadable(name: str, place: Any, error: Exception) -> str:
    return (
        f"{name}: what is prepared in {place} cannot be read ({describe(error)}): remove it, and prepare "
        f"the dataset again"
    )


def _check_names_no_code(name: str, data_dir: Any) -> None:
    """Refuses what makes TFDS import modules that are not its own: a saved run may ask for it.

    That is a dataset of a namespace (`community:name`), whose code TFDS downloads, and prepared files
    whose `features.json` names a class from elsewhere.
    """
    match = re.fullmatch(r"([a-z0-9_]+)(/[\w.-]+)?(:[\d.*]+)?", name)
    if match is None:
        raise UsageError(f"TFDS knows no dataset {name!r}: 'name' or 'name/variant' is accepted")
    folder = data_dir / match[1]  # in it are version/ and variant/version/
    for path in (*folder.glob("*/features.json"), *folder.glob("*/*/features.json")):
        try:
            names = list(_class_names(read_json(path)))
        except (ValueError, OSError) as error:
            raise UsageError(f"{path} is damaged: {error}") from error
        for code in names:
            if not code.startswith("tensorflow_datasets."):
                raise UsageError(f"{path} names the code {code!r}, which is not TFDS's own")


def _class_names(features: Any) -> Iterator[str]:
    """Yields the names of classes in the content of a `features.json`, old or new."""
    if isinstance(features, dict):
        for key, value in features.items():
            if key in ("pythonClassName", "python_class_name", "type") and isinstance(value, str):
                yield value
            yield from _class_names(value)
    elif isinstance(features, list):
        for value in features:
            yield from _class_names(value)


def check_tensorflow(purpose: str) -> None:
    """Checks that TensorFlow is installed.

    Args:
      purpose: What is done with it: the beginning of the message.

    Raises:
      UsageError: if it is not.
    """
    if not _is_installed("tensorflow"):
        on_x86 = platform.machine() == "x86_64" and sys.platform != "darwin"
        raise UsageError(
            f"{purpose} with TensorFlow, which is not installed: pip install "
            f"{'tensorflow-cpu' if on_x86 else 'tensorflow'}; "
            "what is prepared as array_record is read without it"
        )


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _load(builder: Any, split: str, resolution: int | None, resize: Resize) -> Examples:
    """Reads all records of a split, from files or the cache; downloads nothing."""
    if not builder.info.splits:
        name, data_dir = builder.info.full_name.rpartition("/")[0], builder._data_dir_root
        raise UsageError(
            f"dataset {name}: not prepared in data_dir {data_dir}; to prepare it, run "
            f"python scripts/prepare_data.py --dataset {name} --data_dir {data_dir}"
        )
    key = split if resolution is None else f"{split},{resolution}"
    if resolution is not None and resize != "crop":
        key += f",{resize}"
    folder = pathlib.Path(builder.data_dir) / "decoded" / urllib.parse.quote(key, safe="")
    return decode_once(folder, lambda: _decode(builder, split, resolution, resize)).examples


def _decode(
    builder: Any, split: str, resolution: int | None, resize: Resize
) -> Iterator[tuple[np.ndarray, int]]:
    read = _read_array_record if _is_array_record(builder) else _read_tfrecord
    label = None
    for image, label in _records(read, builder, split):
        square = image if resolution is None else resize_image(image, resolution, resize)
        yield square, label  # [H, W, C]
    if label is None:
        raise UsageError(f"dataset {builder.name}: split {split!r} is empty")


def _records(
    read: Callable[..., Iterator[tuple[np.ndarray, int]]], builder: Any, split: str
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the records; raises RunError for damaged files, of which each reader says something else."""
    try:
        yield from read(builder, split)
    except (UsageError, RunError):
        raise
    except Exception as error:
        raise RunError(_unreadable(builder.name, builder.data_dir, error)) from error


def _open(open_split: Callable[..., Any], builder: Any, split: str, **options: Any) -> Any:
    try:
        return open_split(split, **options)
    except ValueError as error:
        known = ", ".join(builder.info.splits)
        raise UsageError(f"dataset {builder.name}: no split {split!r}; known: {known}") from error


def _is_array_record(builder: Any) -> bool:
    from tensorflow_datasets.core import FileFormat

    return builder.info.file_format is FileFormat.ARRAY_RECORD


def _label(record: dict[str, Any]) -> int:
    label = record.get("label", 0)
    return int(label) if np.ndim(label) == 0 else 0


def _read_array_record(builder: Any, split: str) -> Iterator[tuple[np.ndarray, int]]:
    """Reads records without TensorFlow, several times faster than TFDS's own decoding."""
    from PIL import Image
    from tensorflow_datasets import decode

    channels = builder.info.features["image"].shape[-1]
    decoders = {"image": decode.SkipDecoding()}
    source = _open(builder.as_data_source, builder, split, decoders=decoders)
    mode = {1: "L", 3: "RGB"}[channels]
    for begin in range(0, len(source), _CHUNK_SIZE):
        for record in source.__getitems__(range(begin, min(begin + _CHUNK_SIZE, len(source)))):
            image = np.asarray(Image.open(io.BytesIO(record["image"])).convert(mode))
            yield image.reshape(*image.shape[:2], channels), _label(record)  # [H, W, C]


def _read_tfrecord(builder: Any, split: str) -> Iterator[tuple[np.ndarray, int]]:
    """Reads records in the older format, which needs TensorFlow."""
    check_tensorflow(f"{builder.name}: TFDS reads the older format tfrecord")
    from tensorflow_datasets import as_numpy

    for record in as_numpy(_open(builder.as_dataset, builder, split)):
        yield record["image"], _label(record)
