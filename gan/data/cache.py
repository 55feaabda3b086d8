"""Decoded images on disk, so that a dataset is decoded once."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import numpy as np
from absl import logging

from gan.data.dataset import Examples


def cached(folder: pathlib.Path, decode: Callable[[], Examples]) -> Examples:
    """What `decode` gives: from a folder where it was kept, else decoded now and kept there.

    The folder appears whole or not at all. Where nothing can be written, nothing is kept.

    Args:
      folder: Of this one cache.
      decode: Makes the examples.
    """
    if (examples := _read(folder)) is not None:
        return examples
    examples = decode()
    try:
        _write(folder, examples)
    except OSError as error:
        logging.warning("%s cannot be written (%s): next time it is decoded again", folder, error)
    return examples


def _read(folder: pathlib.Path) -> Examples | None:
    try:
        examples = np.load(folder / "examples.npy", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return Examples(examples, labels) if len(examples) == len(labels) else None


def _write(folder: pathlib.Path, examples: Examples) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = pathlib.Path(tempfile.mkdtemp(prefix=folder.name[:50] + ".", dir=folder.parent))
    try:
        np.save(beside / "examples.npy", examples.examples, allow_pickle=False)
        np.save(beside / "labels.npy", examples.labels, allow_pickle=False)
        shutil.rmtree(folder, ignore_errors=True)  # damaged: else it would have been read
        os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
