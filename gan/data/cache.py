"""Decoded images on disk, so that a dataset is decoded once, and may be larger than memory."""

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


def cached(
    folder: pathlib.Path,
    shape: tuple[int, ...],
    decode: Callable[[], Iterable[tuple[np.ndarray, int]]],
) -> Examples:
    """What `decode` gives: from a folder where it was kept, else decoded now and kept there.

    One image at a time is in memory; those that are returned are mapped from files. The folder
    appears whole or not at all; where nothing can be written, the files are temporary.

    Args:
      folder: Of this one cache.
      shape: Of an image.
      decode: Gives uint8 images and their labels, at least one.
    """
    if (examples := _read(folder)) is not None:
        return examples
    with _scratch(folder) as scratch:
        beside = pathlib.Path(scratch) / folder.name
        _write(beside, shape, decode())
        examples = _read(beside)
        assert examples is not None
        if beside.parent.parent == folder.parent:
            if (faster := _read(folder)) is not None:  # another process's: it may have it open
                return faster
            logging.info("decoded %d images, once; they are kept in %s", len(examples[1]), folder)
            shutil.rmtree(folder, ignore_errors=True)  # damaged: else it would have been read
            with contextlib.suppress(OSError):  # two were as fast
                os.rename(beside, folder)
    return examples  # mapped files stay, whatever becomes of their names


def _scratch(folder: pathlib.Path) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder beside the one that will be, or where there is none, anywhere."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".decoding.", dir=folder.parent)
    except OSError as error:
        logging.warning("%s cannot be written (%s): next time it is decoded again", folder, error)
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
        _write_header(file, (len(labels), *shape))  # as long as the first: NumPy leaves room
    np.save(folder / "labels.npy", np.array(labels, np.int32), allow_pickle=False)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
