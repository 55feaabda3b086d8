"""Decoded images on disk: a dataset is decoded only once, and may be larger than memory.

Who decodes into a folder, or has its files mapped, holds a lock on it: see `gan.scratch`. What nobody holds
can be deleted: halves of a decoding that was killed, and copies of a dataset as it was before its files
changed. A copy that is not as it was written, by its SHA-256, is made anew.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
from absl import logging

from gan.annotations import matches
from gan.data.dataset import Examples, data_digest
from gan.scratch import delete_unlocked, lock_folder, remove_left, scratch_folder, unlock
from gan.untrusted import open_plain, parse_json, read_npy, read_plain

Counts: TypeAlias = Mapping[str, Mapping[str, int]]
"""What is kept beside the images: how often something happened, by kind and reason."""

_SCRATCH = ".decoding."
_REPORT_BYTES = 2**26


class Decoded(NamedTuple):
    """What is in a cache.

    Attributes:
      examples: The images and labels.
      report: What was kept beside them; empty where nothing was to be kept.
    """

    examples: Examples
    report: Counts


def decode_once(
    folder: pathlib.Path,
    decode: Callable[[], Iterable[tuple[np.ndarray, int]]],
    report: Callable[[], Counts] | None = None,
    replaces: str = "",
) -> Decoded:
    """Returns decoded examples from their cache; decodes them first if they are not there.

    Decoding holds one image at a time in memory; the returned images are mapped from files. The
    cache appears whole or not at all. If it cannot be written, temporary files take its place.

    Args:
      folder: Folder of this cache alone.
      decode: Yields uint8 images of one shape, `[H, W, C]`, with their labels; at least one.
      report: Returns, after the last image, what to keep beside them.
      replaces: A pattern of the folders beside it that hold the same dataset as it was before.
    """
    reported = report is not None
    remove_left(folder.parent, _SCRATCH)
    if (known := _read(folder, reported)) is not None:
        return known
    with _scratch(folder) as scratch:
        path = scratch / folder.name
        _write(path, decode(), report)
        decoded = _read(path, reported, new=True)
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
            # But not this one.
            delete_unlocked(folder.parent.glob(replaces) if replaces else ())
    return decoded  # mapped files can be read even after they are renamed or deleted


@contextlib.contextmanager
def _scratch(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Makes a temporary folder beside the cache, or elsewhere if that is not possible."""
    with contextlib.ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            scratch = stack.enter_context(scratch_folder(folder.parent, _SCRATCH))
        except OSError as error:
            logging.warning(
                "%s cannot be written (%s): the images are decoded again next time", folder, error
            )
            elsewhere = pathlib.Path(tempfile.gettempdir())
            scratch = stack.enter_context(scratch_folder(elsewhere, f"flax-gan{_SCRATCH}"))
        yield scratch


def _read(folder: pathlib.Path, reported: bool, new: bool = False) -> Decoded | None:
    """Reads a cache, which stays locked as long as its examples are in use; None where it is damaged.

    Args:
      folder: The cache.
      reported: Whether something was kept beside the images.
      new: Whether it was just written: its digest is written too, and not compared.
    """
    lock = lock_folder(folder)
    try:
        open_plain(folder / "examples.npy").close()
        images = np.load(folder / "examples.npy", mmap_mode="r", allow_pickle=False)
        labels = read_npy(folder / "labels.npy")
        text = read_plain(folder / "report.json", _REPORT_BYTES) if reported else b"{}"
        report = parse_json(text)
        if len(images) != len(labels) or not matches(report, dict[str, dict[str, int]]):
            raise ValueError("these are not of one dataset")
        decoded = Decoded(Examples(images, labels), report)
        digest = hashlib.sha256(data_digest(decoded.examples).encode() + text).hexdigest()
        if new:
            (folder / "sha256").write_text(digest)
        elif read_plain(folder / "sha256", 100).decode() != digest:
            raise ValueError("they are not as they were written")
    except (OSError, ValueError, EOFError, TypeError):
        unlock(lock)
        return None
    weakref.finalize(images, unlock, lock)
    return decoded


def _write(
    folder: pathlib.Path,
    records: Iterable[tuple[np.ndarray, int]],
    report: Callable[[], Counts] | None,
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
