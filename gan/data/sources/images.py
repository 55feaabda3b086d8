"""The user's own images: a folder or zip of PNG, JPEG and WebP files."""

import collections
import hashlib
import io
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from absl import logging

from gan.data.center_crop import Resolution, center_crop
from gan.data.dataset import DATASETS, Dataset
from gan.data.decoded_cache import decode_once
from gan.errors import UsageError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_Files = list[tuple[str, Callable[[], bytes]]]  # path below the root, and what reads the file


@DATASETS.register("images")
def images(
    path: str,
    resolution: Resolution,
    labels: bool = False,
    channels: Literal[1, 3] | None = None,
) -> Dataset:
    """Reads PNG, JPEG and WebP files, each cropped to its central square and resized.

    They are decoded once, into a cache beside the folder or zip. Files that are not images are
    skipped and counted in the log.

    Args:
      path: Path of the folder, which is read with all folders in it, or of the zip.
      resolution: Side of an image in pixels.
      labels: Whether the top folder of a file below `path` is its class, in alphabetical order.
      channels: 1 for grey, 3 for colour; by default as the first image.

    Raises:
      UsageError: if there are no images.
    """
    root = pathlib.Path(path).expanduser()
    files = _find_files(root)
    classes = sorted({name.partition("/")[0] for name, _ in files}) if labels else [""]
    if labels and (loose := [name for name, _ in files if "/" not in name]):
        raise UsageError(
            f"{root}: with labels=True every image must be in a folder; {loose[0]} is not"
        )
    depth = channels or _channels(root, files)
    shape = (resolution, resolution, depth)
    caches = root.absolute().parent / f".{root.name}.decoded"
    return Dataset(
        root.name,
        shape=shape,
        num_classes=len(classes),
        load=lambda: decode_once(
            caches / _cache_key(root, resolution, labels, depth, files),
            shape,
            lambda: _decode(root, files, classes, resolution, depth),
        ),
    )


def read_images(root: pathlib.Path, channels: int) -> tuple[Iterator[np.ndarray], int]:
    """Reads all images of a folder or zip at their own sizes.

    Args:
      root: The folder or zip.
      channels: C, 1 or 3.

    Returns:
      The images, uint8 `[H, W, C]`, and their number. Their order is random, since folders may be
      sorted by class, but always the same.

    Raises:
      UsageError: if there are no images; during iteration, for a file that cannot be read.
    """
    files = _find_files(root)

    def read() -> Iterator[np.ndarray]:
        for index in np.random.default_rng(1).permutation(len(files)):
            name, read_file = files[index]
            try:
                yield _pixels(read_file(), channels)
            except Exception as error:  # a file may hold anything
                raise UsageError(f"{root}/{name}: {_reason(error)}") from error

    return read(), len(files)


def _find_files(root: pathlib.Path) -> _Files:
    files = _files_in_zip(root) if root.suffix == ".zip" else _files_in_folder(root)
    if not files:
        raise UsageError(f"{root} contains no images ({', '.join(_SUFFIXES)} are read)")
    return files


def _files_in_folder(root: pathlib.Path) -> _Files:
    if not root.is_dir():
        raise UsageError(f"{root} is neither a folder nor a .zip file")
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    return [
        (path.relative_to(root).as_posix(), path.read_bytes)
        for path in paths
        if path.suffix.lower() in _SUFFIXES
    ]


def _files_in_zip(root: pathlib.Path) -> _Files:
    """Lists the images of a zip, which is read in place; refuses paths that lead out of it."""
    try:
        archive = zipfile.ZipFile(root)
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{root} is not a zip file: {error}") from error
    files: _Files = []
    for name in sorted(archive.namelist()):
        parts = pathlib.PurePosixPath(name).parts
        if ".." in parts or name.startswith("/"):
            raise UsageError(f"{root}: the path {name!r} leads out of the archive")
        if pathlib.PurePosixPath(name).suffix.lower() in _SUFFIXES and "__MACOSX" not in parts:
            files.append((name, lambda name=name: archive.read(name)))  # type: ignore[misc]
    return files


def _channels(root: pathlib.Path, files: _Files) -> int:
    """Returns the number of channels of the first file that is an image."""
    from PIL import Image

    for _, read_file in files:
        try:
            with Image.open(io.BytesIO(read_file())) as image:
                return 1 if image.mode in ("1", "L", "LA", "I;16", "I") else 3
        except Exception:  # noqa: BLE001, S112 - counted when it is decoded
            continue
    raise UsageError(f"{root}: none of {len(files)} images can be read")


def _decode(
    root: pathlib.Path, files: _Files, classes: list[str], resolution: int, channels: int
) -> Iterator[tuple[np.ndarray, int]]:
    skipped = collections.Counter[str]()
    for name, read_file in files:
        try:
            image = _pixels(read_file(), channels)
        except Exception as error:  # noqa: BLE001 - a file may hold anything
            skipped[_reason(error)] += 1
            continue
        label = classes.index(name.partition("/")[0]) if len(classes) > 1 else 0
        yield center_crop(image, resolution), label
    for reason, count in skipped.items():
        logging.warning("%s: %d of %d files are skipped: %s", root, count, len(files), reason)
    if skipped.total() == len(files):
        raise UsageError(f"{root}: none of {len(files)} images can be read")


def _pixels(content: bytes, channels: int) -> np.ndarray:
    """Decodes a file to uint8 `[H, W, C]`, rotated as its EXIF data say."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
            upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
        pixels = np.asarray(upright.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return "truncated" if "truncated" in str(error) else str(error)


def _cache_key(
    root: pathlib.Path, resolution: int, labels: bool, channels: int, files: _Files
) -> str:
    """Hashes the arguments and the name, size and time of every file."""
    total = hashlib.sha256(f"{resolution} {labels} {channels}\n".encode())
    for line in _file_stamps(root, files):
        total.update(line.encode())
    return total.hexdigest()[:16]


def _file_stamps(root: pathlib.Path, files: _Files) -> Iterator[str]:
    if root.is_file():
        stat = os.stat(root)
        yield f"{stat.st_size} {stat.st_mtime_ns}\n"
        return
    for name, _ in files:
        stat = os.stat(root / name)
        yield f"{name} {stat.st_size} {stat.st_mtime_ns}\n"
