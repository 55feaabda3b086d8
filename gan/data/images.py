"""One's own data: a folder or a zip of pictures, and arrays in an `.npz`."""

import collections
import hashlib
import io
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from absl import logging

from gan.data.cache import cached
from gan.data.dataset import DATASETS, Dataset, Examples
from gan.data.pixels import check_resolution, square
from gan.errors import UsageError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_Files = list[tuple[str, Callable[[], bytes]]]  # path below the root, and how to read it


@DATASETS.register("images")
def images(
    path: str, resolution: int, labels: bool = False, channels: int | None = None
) -> Dataset:
    """A folder or zip of PNG, JPEG and WebP pictures, cropped to their central square and resized.

    They are decoded once, and kept in a cache beside the folder or zip. What is no picture is
    skipped and counted. Pictures are grey if the first one is.

    Args:
      path: Of the folder or the zip; folders below are read too.
      resolution: Pixels of a side.
      labels: Whether the folder below `path` that a picture is in says its class, in order of names.
      channels: 1 is grey, 3 is colour, None as the first picture.

    Raises:
      UsageError: where there is no picture.
    """
    check_resolution(resolution)
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3, given {channels}")
    root = pathlib.Path(path).expanduser()
    files = _zip(root) if root.suffix == ".zip" else _folder(root)
    if not files:
        raise UsageError(f"{root}: no picture is there ({', '.join(_SUFFIXES)} are read)")
    classes = sorted({name.partition("/")[0] for name, _ in files}) if labels else [""]
    if labels and (loose := [name for name, _ in files if "/" not in name]):
        raise UsageError(
            f"{root}: with labels=True every picture is in a folder; {loose[0]} is not"
        )
    depth = channels or _channels(root, files)
    return Dataset(
        root.name,
        shape=(resolution, resolution, depth),
        num_classes=len(classes),
        load=lambda: cached(
            root.absolute().parent
            / f".{root.name}.decoded"
            / _key(root, resolution, labels, depth, files),
            (resolution, resolution, depth),
            lambda: _decode(root, files, classes, resolution, depth),
        ),
    )


@DATASETS.register("npz")
def npz(path: str) -> Dataset:
    """Arrays of an `.npz`: `images`, uint8 `[N, H, W]` or `[N, H, W, C]`, and `labels` `[N]`, if any.

    Raises:
      UsageError: where the arrays are not these.
    """
    root = pathlib.Path(path).expanduser()
    try:
        with np.load(root, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{root} is no .npz of plain arrays: {error}") from error
    if "images" not in found:
        raise UsageError(f"{root}: no array 'images' is there; found: {', '.join(found) or 'none'}")
    examples = found["images"]
    if examples.ndim == 3:
        examples = examples[..., None]
    if examples.ndim != 4 or examples.dtype != np.uint8 or examples.shape[-1] not in (1, 3):
        raise UsageError(
            f"{root}: images are {examples.dtype} {examples.shape}; uint8 [N, H, W] or [N, H, W, C] "
            f"with C 1 or 3 is accepted"
        )
    if examples.shape[1] != examples.shape[2] or not len(examples):
        raise UsageError(
            f"{root}: images are {examples.shape}; at least one, and squares, are needed"
        )
    labels = found.get("labels", np.zeros(len(examples), np.int32))
    if labels.shape != (len(examples),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise UsageError(
            f"{root}: labels are {labels.dtype} {labels.shape}; {len(examples)} integers from 0 are "
            f"needed, one for each image"
        )
    return Dataset(
        root.stem,
        shape=examples.shape[1:],
        num_classes=int(labels.max()) + 1,
        load=lambda: Examples(examples, labels.astype(np.int32)),
    )


def pictures(root: pathlib.Path, channels: int) -> tuple[Iterator[np.ndarray], int]:
    """Every picture of a folder or zip as it is, uint8 `[H, W, channels]`, and how many there are.

    They come in an order of chance, but always the same: folders may be sorted by class.

    Raises:
      UsageError: where there is none; while they are read, for one that cannot be.
    """
    files = _zip(root) if root.suffix == ".zip" else _folder(root)
    if not files:
        raise UsageError(f"{root}: no picture is there ({', '.join(_SUFFIXES)} are read)")

    def read() -> Iterator[np.ndarray]:
        for place in np.random.default_rng(1).permutation(len(files)):
            name, content = files[place]
            try:
                yield _pixels(content(), channels)
            except Exception as error:  # whatever a file may hold
                raise UsageError(f"{root}/{name}: {_why(error)}") from error

    return read(), len(files)


def _folder(root: pathlib.Path) -> _Files:
    if not root.is_dir():
        raise UsageError(f"{root} is no folder and no .zip")
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    return [
        (path.relative_to(root).as_posix(), path.read_bytes)
        for path in paths
        if path.suffix.lower() in _SUFFIXES
    ]


def _zip(root: pathlib.Path) -> _Files:
    """Read in place: nothing is unpacked, so that no path can climb out; one that would is refused."""
    try:
        archive = zipfile.ZipFile(root)
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{root} is no zip: {error}") from error
    files: _Files = []
    for name in sorted(archive.namelist()):
        parts = pathlib.PurePosixPath(name).parts
        if ".." in parts or name.startswith("/"):
            raise UsageError(f"{root}: the path {name!r} climbs out of the archive")
        if pathlib.PurePosixPath(name).suffix.lower() in _SUFFIXES and "__MACOSX" not in parts:
            files.append((name, lambda name=name: archive.read(name)))  # type: ignore[misc]
    return files


def _channels(root: pathlib.Path, files: _Files) -> int:
    """Of the first picture that is one."""
    from PIL import Image

    for _, read in files:
        try:
            with Image.open(io.BytesIO(read())) as picture:
                return 1 if picture.mode in ("1", "L", "LA", "I;16", "I") else 3
        except Exception:  # noqa: BLE001, S112 - counted when it is decoded
            continue
    raise UsageError(f"{root}: none of {len(files)} pictures can be read")


def _decode(
    root: pathlib.Path, files: _Files, classes: list[str], resolution: int, channels: int
) -> Iterator[tuple[np.ndarray, int]]:
    skipped = collections.Counter[str]()
    for name, read in files:
        try:
            image = _pixels(read(), channels)
        except Exception as error:  # noqa: BLE001 - whatever a file may hold
            skipped[_why(error)] += 1
            continue
        label = classes.index(name.partition("/")[0]) if len(classes) > 1 else 0
        yield square(image, resolution), label
    for why, count in skipped.items():
        logging.warning("%s: %d of %d files are skipped: %s", root, count, len(files), why)
    if skipped.total() == len(files):
        raise UsageError(f"{root}: none of {len(files)} pictures can be read")


def _pixels(content: bytes, channels: int) -> np.ndarray:
    """uint8 `[H, W, C]`, turned as its EXIF data say."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
            upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
        pixels = np.asarray(upright.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _why(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no picture"
    return "truncated" if "truncated" in str(error) else str(error)


def _key(root: pathlib.Path, resolution: int, labels: bool, channels: int, files: _Files) -> str:
    """A name for the decoded pictures: another where any file, its size or its time is another."""
    total = hashlib.sha256(f"{resolution} {labels} {channels}\n".encode())
    for line in _stamps(root, files):
        total.update(line.encode())
    return total.hexdigest()[:16]


def _stamps(root: pathlib.Path, files: _Files) -> Iterator[str]:
    if root.is_file():
        stat = os.stat(root)
        yield f"{stat.st_size} {stat.st_mtime_ns}\n"
        return
    for name, _ in files:
        stat = os.stat(root / name)
        yield f"{name} {stat.st_size} {stat.st_mtime_ns}\n"
