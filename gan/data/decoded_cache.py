"""Decoded images on disk: a dataset is decoded only once, and may be larger than memory.

Who decodes into a folder, or has its files mapped, holds a lock on it (`flock`), which ends with the
process however that ends. What nobody holds can be deleted: halves of a decoding that was killed, and copies
of a dataset as it was before its files changed.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from absl import logging

from gan.data.dataset import Examples


class Decoded(NamedTuple):
    """What is in a cache.

    Attributes:
      examples: The images and labels.
      report: What was kept beside them; None where nothing was to be kept.
    """

    examples: Examples
    report: Any


def decode_once(
    folder: pathlib.Path,
    decode: Callable[[], Iterable[tuple[np.ndarray, int]]],
    report: Callable[[], Any] | None = None,
    replaces: str = "",
) -> Decoded:
    """Returns decoded examples from their cache; decodes them first if they are not there.

    Decoding holds one image at a time in memory; the returned images are mapped from files. The
    cache appears whole or not at all. If it cannot be written, temporary files take its place.

    Args:
      folder: Folder of this cache alone.
      decode: Yields uint8 images of one shape, `[H, W, C]`, with their labels; at least one.
      report: Returns, after the last image, what to keep beside them as JSON.
      replaces: A pattern of the folders beside it that hold the same dataset as it was before.
    """
    reported = report is not None
    _delete_unused(folder.parent.glob(".decoding.*"))
    if (known := _read(folder, reported)) is not None:
        return known
    with _scratch_folder(folder) as scratch:
        path = scratch / folder.name
        _write(path, decode(), report)
        decoded = _read(path, reported)
        assert decoded is not None
        if path.parent.parent == folder.parent:
            if (
                others := _read(folder, reported)
            ) is not None:  # another was faster, and may map it
                return others
            count = len(decoded.examples.labels)
            logging.info("decoded %d images; they are cached in %s", count, folder)
            shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would have been read
            with contextlib.suppress(OSError):  # another process has just done the same
                os.rename(path, folder)
            _delete_unused(folder.parent.glob(replaces) if replaces else ())  # but not this one
    return decoded  # mapped files can be read even after they are renamed or deleted


@contextlib.contextmanager
def _scratch_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Makes a temporary folder beside the cache, or elsewhere if that is not possible, and locks it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".decoding.", dir=folder.parent)
    except OSError as error:
        logging.warning(
            "%s cannot be written (%s): the images are decoded again next time", folder, error
        )
        scratch = tempfile.TemporaryDirectory()
    with scratch as name:
        lock = _lock(pathlib.Path(name), fcntl.LOCK_SH)
        if not os.path.exists(name):  # deleted by another process before it was locked
            os.mkdir(name)
            lock = _lock(pathlib.Path(name), fcntl.LOCK_SH)
        try:
            yield pathlib.Path(name)
        finally:
            _unlock(lock)


def _lock(folder: pathlib.Path, how: int) -> int | None:
    """Locks a folder until `_unlock`; returns None where that is not possible."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, how)
    except OSError:
        os.close(lock)
        return None
    return lock


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _delete_unused(folders: Iterable[pathlib.Path]) -> None:
    """Deletes the folders that no process has locked."""
    for folder in folders:
        lock = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            _unlock(lock)


def _read(folder: pathlib.Path, reported: bool) -> Decoded | None:
    """Reads a cache, which stays locked as long as its examples are in use; None where it is damaged."""
    lock = _lock(folder, fcntl.LOCK_SH)
    try:
        examples = np.load(folder / "examples.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        report = json.loads((folder / "report.json").read_text()) if reported else None
    except (OSError, ValueError, EOFError):
        _unlock(lock)
        return None
    weakref.finalize(examples, _unlock, lock)
    return Decoded(Examples(examples, labels), report) if len(examples) == len(labels) else None


def _write(
    folder: pathlib.Path,
    records: Iterable[tuple[np.ndarray, int]],
    report: Callable[[], Any] | None,
) -> None:
    folder.mkdir()
    labels: list[int] = []
    with (folder / "examples.npy").open("wb") as file:
        for image, label in records:
            if not labels:
                _write_header(file, (0, *image.shape))
            file.write(image.tobytes())
            labels.append(label)
        file.seek(0)
        _write_header(file, (len(labels), *image.shape))  # as long as the first, as NumPy pads it
    np.save(folder / "labels.npy", np.array(labels, np.int32), allow_pickle=False)
    if report is not None:
        (folder / "report.json").write_text(json.dumps(report()))


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
