"""Decoded images on disk: a dataset is decoded only once, and may be larger than memory."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from typing import BinaryIO

import numpy as np
from absl import logging

from gan.data.dataset import Examples


def decode_once(
    folder: pathlib.Path,
    shape: tuple[int, ...],
    decode: Callable[[], Iterable[tuple[np.ndarray, int]]],
) -> Examples:
    """Returns decoded examples from their cache; decodes them first if they are not there.

    Decoding holds one image at a time in memory; the returned images are mapped from files. The
    cache appears whole or not at all. If it cannot be written, temporary files take its place.

    Args:
      folder: Folder of this cache alone.
      shape: Shape of an image, (H, W, C).
      decode: Yields uint8 images with their labels, at least one.
    """
    if (examples := _read(folder)) is not None:
        return examples
    with _scratch_folder(folder) as scratch:
        decoded = pathlib.Path(scratch) / folder.name
        _write(decoded, shape, decode())
        examples = _read(decoded)
        assert examples is not None
        if decoded.parent.parent == folder.parent:
            if (others := _read(folder)) is not None:  # another process was faster, and may map it
                return others
            logging.info("decoded %d images; they are cached in %s", len(examples.labels), folder)
            shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would have been read
            with contextlib.suppress(OSError):  # another process has just done the same
                os.rename(decoded, folder)
    return examples  # mapped files can be read even after they are renamed or deleted


def _scratch_folder(folder: pathlib.Path) -> tempfile.TemporaryDirectory[str]:
    """Makes a temporary folder beside the cache, or elsewhere if that is not possible."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".decoding.", dir=folder.parent)
    except OSError as error:
        logging.warning(
            "%s cannot be written (%s): the images are decoded again next time", folder, error
        )
        return tempfile.TemporaryDirectory()


def _read(folder: pathlib.Path) -> Examples | None:
    try:
        examples = np.load(folder / "examples.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return Examples(examples, labels) if len(examples) == len(labels) else None


def _write(
    folder: pathlib.Path, shape: tuple[int, ...], records: Iterable[tuple[np.ndarray, int]]
) -> None:
    folder.mkdir()
    labels = []
    with (folder / "examples.npy").open("wb") as file:
        _write_header(file, (0, *shape))
        for image, label in records:
            file.write(image.tobytes())
            labels.append(label)
        file.seek(0)
        _write_header(file, (len(labels), *shape))  # as long as the first, as NumPy pads it
    np.save(folder / "labels.npy", np.array(labels, np.int32), allow_pickle=False)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
