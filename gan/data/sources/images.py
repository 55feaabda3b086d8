"""The user's own images: a folder or zip."""

import functools
import hashlib
import os
import pathlib
from collections import Counter
from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
from absl import logging

from gan.data.dataset import DATASETS, Dataset, Examples
from gan.data.decoded_cache import Counts, decode_once
from gan.data.image_decoding import (
    Survey,
    Target,
    decode,
    parse_background,
    reason,
    survey,
)
from gan.data.image_files import Pictures, count_reasons, find_pictures
from gan.data.resize import Resize, Resolution
from gan.errors import UsageError, printable
from gan.files import user_path

_Counts: TypeAlias = dict[str, Counter[str]]  # what is "left_out" and "converted", how often
_VERSION = 2  # of what decoding makes of a file; another one decodes anew


@DATASETS.register("images")
def images(
    path: str,
    resolution: Resolution | None = None,
    labels: bool = False,
    channels: Literal[1, 3] | None = None,
    resize: Resize = "crop",
    background: str = "white",
) -> Dataset:
    """Reads a folder or zip of PNG, JPEG, WebP, BMP, GIF, TIFF and AVIF files.

    They are decoded once, when the dataset is first built, into a cache beside the folder or zip.
    What is left out or converted is counted in the dataset's notes, and logged.

    Args:
      path: Path of the folder, which is read with all folders in it, or of the zip.
      resolution: Side of an image in pixels; not needed where all are squares of one size.
      labels: Whether there are classes: those of StyleGAN's `dataset.json`, or else the top folders.
      channels: 1 for grey, 3 for colour; by default colour if any image has it.
      resize: `"crop"` takes the central square, `"stretch"` changes the ratio of the sides, `"pad"`
        puts the whole image on the background.
      background: Name or hex of the colour behind transparent pixels and beside padded images.

    Raises:
      UsageError: if there are no images, if they differ in size and no resolution is given, or for
        labels that are not there.
    """
    root = pathlib.Path(os.path.abspath(user_path(path)))
    behind = parse_background(background)
    pictures = find_pictures(root, labels)

    def make_target() -> Target:
        seen = survey(pictures.files)
        depth = channels or (3 if seen.colour else 1)
        side = resolution or _common_side(root, seen)
        return Target(side, depth, seen.bits, resize, behind)

    counts: _Counts = {"left_out": Counter(), "converted": Counter()}
    # Of this folder or zip, each spec has a copy; it replaces the one that was made of other files.
    spec = _hash(repr((resolution, labels, channels, resize, behind)))[:8]
    (examples, numbers), kept = decode_once(
        root.parent / f".{root.name}.decoded" / f"{spec}-{_key(pictures)}",
        lambda: _decode(root, pictures, make_target(), counts),
        lambda: counts,
        replaces=f"{spec}-*",
    )
    notes = _notes(root, pictures, kept)
    for note in notes:
        _say(note)
    # A class without any image that could be decoded is none.
    present, dense = np.unique(numbers, return_inverse=True)
    return Dataset(
        printable(root.name),
        shape=examples.shape[1:],
        num_classes=len(present),
        load=lambda: Examples(examples, dense.astype(np.int32)),
        class_names=tuple(pictures.classes[i] for i in present) if labels else (),
        notes=notes,
    )


def _common_side(root: pathlib.Path, seen: Survey) -> int:
    """Returns the side of images that are squares of one size.

    Raises:
      UsageError: if they are not.
    """
    if not seen.sizes:
        return 1  # none can be read, as decoding will say
    ((width, height), first), *others = seen.sizes.items()
    if width != height:
        found = f"{printable(first)} has {width} x {height} pixels and is no square"
    elif others:
        (other_width, other_height), other = others[0]
        found = (
            f"{printable(first)} has {width} x {height} pixels and {printable(other)} "
            f"{other_width} x {other_height}"
        )
    else:
        return width
    raise UsageError(f"{root}: {found}; resolution=64 makes all of them squares of one size")


def _decode(
    root: pathlib.Path, pictures: Pictures, target: Target, counts: _Counts
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the images with their labels; counts the others, and what is converted."""
    logging.info("decoding %s files of %s, once", f"{len(pictures.files):,}", printable(str(root)))
    for file, label in zip(pictures.files, pictures.labels, strict=True):
        try:
            image, done = decode(file, target)
        except Exception as error:  # noqa: BLE001 - a file may hold anything
            counts["left_out"][reason(error)] += 1
            continue
        counts["converted"].update(done)
        yield image, label
    if counts["left_out"].total() == len(pictures.files):
        why = count_reasons(counts["left_out"])
        raise UsageError(f"{root}: none of {len(pictures.files):,} images can be read: {why}")


def _notes(root: pathlib.Path, pictures: Pictures, kept: Counts) -> tuple[str, ...]:
    """Says in one line what was left out and converted; nothing where nothing was."""
    left_out = pictures.left_out + Counter(kept.get("left_out"))
    total = pictures.left_out.total() + len(pictures.files)
    clauses = []
    if left_out:
        clauses.append(f"left out: {count_reasons(left_out, total)}")
    if converted := kept.get("converted"):
        clauses.append(f"converted: {count_reasons(converted)}")
    if pictures.unused_labels:
        clauses.append(f"{pictures.unused_labels:,} labels of dataset.json are of no file here")
    return (f"{printable(root.name)}: {'; '.join(clauses)}",) if clauses else ()


@functools.cache
def _say(note: str) -> None:
    """Logs a note, once in a process: a dataset may be built many times."""
    logging.warning("%s", note)


def _key(pictures: Pictures) -> str:
    """Hashes the name, the number of the class, the size and time of every file."""
    files = zip(pictures.files, pictures.labels, strict=True)
    lines = (f"{file.name} {label} {file.stamp}\n" for file, label in files)
    return _hash(f"{_VERSION}\n" + "".join(lines))[:16]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
