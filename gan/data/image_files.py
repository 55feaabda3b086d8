"""Which files of a folder or zip are pictures, and of which class.

One rule for training, preparing and evaluating: every file is a picture or is counted with a reason.
"""

import collections
import functools
import io
import os
import pathlib
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from gan.errors import UsageError, describe, printable
from gan.untrusted import JSON_BYTES, is_bomb, open_plain, parse_json

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""The formats that are read, by Pillow's names; some builds of Pillow lack the one or other."""

_MOST_ENTRIES = 5_000_000  # of a zip
_MOST_BYTES = 2**30  # of a picture; Pillow opens none of that size
_LEFTOVERS = ("__macosx", "thumbs.db", "desktop.ini", "@eadir")  # of systems, in lower case


@dataclass(frozen=True)
class File:
    """A file of a folder or zip.

    Attributes:
      name: Path below the root, its parts joined by slashes.
      open: Opens it to be read.
      stamp: Size and time, which change with the content.
      problem: Why it cannot be opened at all; empty where it can.
    """

    name: str
    open: Callable[[], IO[bytes]] = io.BytesIO
    stamp: str = ""
    problem: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders below the root that lead to it, and its own name."""
        return tuple(self.name.split("/"))


@dataclass(frozen=True)
class Pictures:
    """The files that should be pictures, with their classes.

    Attributes:
      files: In the order of their paths, compared part by part.
      labels: The class of each, an index of `classes`.
      classes: Names of the classes in natural order, also of those whose files all prove broken;
        none where labels are not asked for.
      left_out: How many other files there are, by the reason why they are none.
      unused_labels: How many entries of `dataset.json` are of no file here.
    """

    files: tuple[File, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    left_out: Counter[str]
    unused_labels: int = 0


def find_pictures(root: pathlib.Path, labels: bool) -> Pictures:
    """Finds the pictures of a folder or zip, and their classes where labels are asked for.

    The classes are the integers of a `dataset.json` (as StyleGAN writes it), or else the top
    folders. A folder that holds everything else alone is not a class, but stands for the root.

    Raises:
      UsageError: if there are none, for a path that is neither folder nor zip, for a malformed
        `dataset.json`, and for a picture outside of any folder where folders are the classes.
    """
    found = sorted(_list_files(root), key=lambda file: file.parts)
    files = [file for file in found if not _reason(file)]
    shared = tuple(os.path.commonprefix([file.parts[:-1] for file in files]))  # noqa: RUF071
    described = _find_description(found, shared)
    others = [file for file in found if file is not described]
    left_out = Counter(reason for file in others if (reason := _reason(file)))
    table = _read_labels(root, described) if labels and described is not None else None
    if table is None or described is None:
        names = _folder_names(root, files, shared) if labels else []
        return _pictures(root, files, names, natural_order, left_out)
    depth = len(described.parts) - 1
    paths = {"/".join(file.parts[depth:]): file for file in files}
    named = {path: file for path, file in paths.items() if path in table}
    left_out += Counter({"not in dataset.json": len(paths) - len(named)})
    names = [str(table[path]) for path in named]
    unused = len(table) - len(named)
    return _pictures(root, list(named.values()), names, int, left_out, unused)


def _pictures(
    root: pathlib.Path,
    files: list[File],
    names: list[str],
    order: Callable[[str], Any],
    left_out: Counter[str],
    unused_labels: int = 0,
) -> Pictures:
    """Numbers the classes of files, given their names; without names there are no classes."""
    if not files:
        others = f"; left out: {count_reasons(left_out, left_out.total())}" if left_out else ""
        raise UsageError(f"{root} contains no images ({', '.join(suffixes())} are read){others}")
    classes = sorted(set(names), key=order)
    numbers = {name: number for number, name in enumerate(classes)}
    labels = tuple(numbers[name] for name in names) or (0,) * len(files)
    shown = tuple(map(printable, classes))
    return Pictures(tuple(files), labels, shown, left_out, unused_labels)


def natural_order(name: str) -> tuple[list[Any], str]:
    """Returns a key that sorts numbers within names by their values: 1, 2, 10; img2, img10."""
    parts: list[Any] = re.split("([0-9]+)", name)  # text and digits take turns
    for i in range(1, len(parts), 2):
        digits = parts[i].lstrip("0")
        parts[i] = (len(digits), digits)  # any number of digits; int() refuses thousands
    return parts, name


def count_reasons(reasons: Mapping[str, int], total: int | None = None, most: int = 6) -> str:
    """Returns how often each reason occurs, the commonest first: `9 truncated`, or `9 of 90 truncated`."""
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    if rest := sum(count for _, count in ranked[most:]):
        ranked[most:] = [("of other kinds", rest)]
    share = "" if total is None else f" of {total:,}"
    return ", ".join(f"{count:,}{share} {printable(reason)}" for reason, count in ranked)


@functools.cache
def suffixes() -> tuple[str, ...]:
    """Returns the suffixes of the files that this build of Pillow can read."""
    from PIL import Image

    known = Image.registered_extensions().items()
    return tuple(sorted(suffix for suffix, format in known if format in FORMATS))


def _reason(file: File) -> str:
    """Returns why a file is not even tried as a picture; empty for one that is."""
    if any(part.startswith(".") for part in file.parts):
        return "hidden"
    if any(part.lower() in _LEFTOVERS for part in file.parts):
        return "of the system"
    if file.problem:
        return file.problem
    suffix = pathlib.PurePosixPath(file.name).suffix.lower()
    return "" if suffix in suffixes() else suffix or "without a suffix"


def _folder_names(root: pathlib.Path, files: Sequence[File], shared: tuple[str, ...]) -> list[str]:
    """Returns the top folder of each file; folders that hold all others do not count.

    Args:
      root: The root, for messages.
      files: The pictures.
      shared: The folders that all of them are in, from the outermost.
    """
    inside = any(len(file.parts) - 1 == len(shared) for file in files)
    depth = max(0, len(shared) - inside)  # the innermost is the only class if pictures lie in it
    loose = [file.name for file in files if len(file.parts) - 1 == depth]
    if loose:
        raise UsageError(
            f"{root}: with labels=True every image must be in a folder; {printable(loose[0])} is not"
        )
    return [file.parts[depth] for file in files]


def _find_description(found: list[File], shared: tuple[str, ...]) -> File | None:
    """Returns the `dataset.json` at the root, or in the outermost folder that all pictures share."""
    places = {(*shared[:depth], "dataset.json") for depth in range(len(shared) + 1)}
    there = [file for file in found if file.parts in places]
    return min(there, key=lambda file: len(file.parts), default=None)


def _read_labels(root: pathlib.Path, file: File) -> dict[str, int] | None:
    """Reads the labels of a `dataset.json`, by path; None where it has none."""
    where = f"{root}/{printable(file.name)}"
    try:
        with file.open() as stream:
            content = parse_json(_read_within(stream, JSON_BYTES))
    except Exception as error:  # a zip may hold anything
        raise UsageError(f"{where} is not JSON that can be read: {describe(error)}") from error
    wanted = 'accepted is {"labels": [["path", 0], ...]} with integers from 0, or null for none'
    if not isinstance(content, dict):
        raise UsageError(f"{where} is a {type(content).__name__}; {wanted}")
    if (labels := content.get("labels")) is None:
        return None
    pairs = list(labels.items()) if isinstance(labels, dict) else labels
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in pairs
    ):
        raise UsageError(f"{where} has labels of another form; {wanted}")
    for path, label in pairs:
        if type(label) is not int or label < 0:
            raise UsageError(
                f"{where}: the label of {printable(path)} is {str(label)[:40]}; {wanted}"
            )
    return {path.replace("\\", "/").removeprefix("./"): label for path, label in pairs}


def _list_files(root: pathlib.Path) -> Iterator[File]:
    if root.is_dir():
        return _files_in_folder(root)
    if root.suffix.lower() == ".zip":
        return _files_in_zip(root)
    raise UsageError(f"{root} is neither a folder nor a .zip file")


def _files_in_folder(root: pathlib.Path) -> Iterator[File]:
    """Yields all files below a folder.

    Links are followed after all else, and no folder is read twice: no loop, and no copy.
    """
    folders, links = collections.deque([("", str(root))]), collections.deque[tuple[str, str]]()
    read = set()
    while folders or links:
        prefix, path = (folders or links).popleft()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in read:
                yield File(prefix, problem="linked to a folder that was read")
                continue
            read.add((status.st_dev, status.st_ino))
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            yield File(prefix, problem="unreadable")
            continue
        for entry in entries:
            file = _file_of(entry, f"{prefix}/{entry.name}" if prefix else entry.name)
            if file is not None:
                yield file
            else:
                kind = links if entry.is_symlink() else folders
                kind.append((f"{prefix}/{entry.name}" if prefix else entry.name, entry.path))


def _file_of(entry: os.DirEntry[str], name: str) -> File | None:
    """Describes what is no folder, and a folder's link that is not followed; else returns None."""
    try:
        if entry.is_dir():
            ignored = entry.is_symlink() and _reason(File(name)) in ("hidden", "of the system")
            return File(name) if ignored else None
        status = entry.stat()
    except OSError:
        return File(name, problem="with a broken link" if entry.is_symlink() else "unreadable")
    if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait forever
        return File(name, problem="not a regular file")
    path = entry.path
    stamp = f"{status.st_size} {status.st_mtime_ns}"
    return File(name, lambda: open(path, "rb"), stamp, _size_problem(status.st_size))


def _files_in_zip(root: pathlib.Path) -> Iterator[File]:
    """Yields the files of a zip, which is read in place; refuses paths that lead out of it."""
    try:
        open_plain(root).close()
        archive = zipfile.ZipFile(root)
        status = os.stat(root)
    except Exception as error:  # a zip may hold anything
        raise UsageError(f"{root} is not a zip file: {describe(error)}") from error
    if len(archive.filelist) > _MOST_ENTRIES:
        raise UsageError(
            f"{root} has {len(archive.filelist):,} entries; up to {_MOST_ENTRIES:,} are read"
        )
    stamp = f"{status.st_size} {status.st_mtime_ns}"
    names = set()
    for entry in reversed(archive.infolist()):  # of two with one name, the last counts
        name = "/".join(pathlib.PurePosixPath(entry.filename).parts)
        if ".." in name.split("/") or entry.filename.startswith("/"):
            raise UsageError(f"{root}: the path {entry.filename!r} leads out of the archive")
        if not name or entry.is_dir():
            continue
        problem = "replaced in the zip" if name in names else _zip_problem(entry)
        names.add(name)
        yield File(name, lambda entry=entry: archive.open(entry), stamp, problem)  # type: ignore[misc]


def _zip_problem(entry: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where it was not packed on Unix
    if kind not in (0, stat.S_IFREG):
        return "linked" if kind == stat.S_IFLNK else "not a regular file"
    if entry.flag_bits & 1:
        return "encrypted"
    return "unpacking to far more" if is_bomb(entry) else _size_problem(entry.file_size)


def _size_problem(size: int) -> str:
    if size > _MOST_BYTES:
        return "too large"
    return "" if size else "empty"


def _read_within(stream: IO[bytes], most_bytes: int) -> bytes:
    content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it has more than {most_bytes:,} bytes")
    return content
