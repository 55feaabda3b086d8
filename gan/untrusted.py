"""Files that a stranger may have made: opened only where they are plain, read only within bounds.

To open a pipe would wait forever, a device never ends, a sparse file or an archive can be far larger
than what was downloaded, and a header can claim any size. All of these are errors here, before much is
read or allocated.
"""

import errno
import io
import json
import math
import os
import stat
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np

JSON_BYTES = 2**26
"""The most bytes of a JSON file of our own kinds."""

LINES_BYTES = 2**30
"""The most bytes of a file with a JSON object on each line."""

_DEPTH = 32  # of JSON
_DENSE_BYTES = 2**28  # what a member of an archive or a file may unpack to, however small it is
_PACKED = 200  # to one: no pictures and no weights can be packed more tightly
_NPZ_MEMBERS = 10_000
_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def open_plain(
    path: Path, most_bytes: float = math.inf, *, follow: bool = True
) -> io.BufferedReader:
    """Opens a regular file to be read.

    Args:
      path: The file.
      most_bytes: The most bytes that it may have.
      follow: Whether it may be a link; not so in a run's folder, which may lead it anywhere.

    Raises:
      OSError: where it is not such a file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        problem = "it is not a regular file"
    elif status.st_size > most_bytes:
        problem = f"it has {status.st_size:,} bytes, and at most {most_bytes:,} are read"
    elif status.st_size > _DENSE_BYTES and _is_hollow(descriptor, status):
        problem = f"almost all of its {status.st_size:,} bytes are a hole"
    else:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, problem, str(path))


def read_plain(path: Path, most_bytes: int, *, follow: bool = True) -> bytes:
    """Reads a file that `open_plain` opens."""
    with open_plain(path, most_bytes, follow=follow) as file:
        return file.read()


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a file in a run's folder, without their ends; there may be no such file.

    Raises:
      OSError: where it is not a plain file.
    """
    try:
        text = read_plain(path, LINES_BYTES, follow=False).decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()


def read_json(path: Path, most_bytes: int = JSON_BYTES, *, follow: bool = True) -> Any:
    """Reads a JSON file.

    Raises:
      OSError: where it is not a plain file.
      ValueError: where it is not JSON; see `parse_json`.
    """
    return parse_json(read_plain(path, most_bytes, follow=follow))


def parse_json(text: str | bytes) -> Any:
    """Parses JSON.

    Raises:
      ValueError: where it is none, is nested deeply, or has integers of more than 64 bits: what walks
        through it, or computes with them, need not expect these.
    """
    try:
        content = json.loads(text, parse_int=_parse_int)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level = [content]
    for _ in range(_DEPTH):
        dicts = [inner for outer in level if isinstance(outer, dict) for inner in outer.values()]
        level = dicts + [inner for outer in level if isinstance(outer, list) for inner in outer]
        if not level:
            return content
    raise ValueError("it is nested too deeply")


def read_npz(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Reads arrays of an `.npz`, each as long as its header says.

    Args:
      path: The file.
      names: Names of the arrays; None stands for all that are there.

    Raises:
      Exception: of any type, for what is no such file, or would unpack to more than the memory.
    """
    with open_plain(path) as file, zipfile.ZipFile(file) as archive:
        entries = {
            entry.filename.removesuffix(".npy"): entry
            for entry in archive.infolist()
            if entry.filename.endswith(".npy")
        }
        wanted = {name: entry for name, entry in entries.items() if names is None or name in names}
        check_sizes(list(wanted.values()))
        return {name: _read_member(archive, entry) for name, entry in wanted.items()}


def names_in_npz(path: Path) -> list[str]:
    """Returns the names of the arrays of an `.npz`, without reading them."""
    with open_plain(path) as file, zipfile.ZipFile(file) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def check_sizes(entries: Collection[zipfile.ZipInfo]) -> None:
    """Checks what members of a zip that are all read would unpack to.

    Raises:
      ValueError: where they are too many, too large for the memory, or packed too tightly.
    """
    from gan.memory import host_memory  # imports JAX

    total = sum(entry.file_size for entry in entries)
    if len(entries) > _NPZ_MEMBERS or total > host_memory():
        raise ValueError(f"{len(entries):,} members of {total:,} bytes do not fit the memory")
    for entry in entries:
        if is_bomb(entry):
            raise ValueError(
                f"{entry.filename!r} unpacks to {entry.file_size:,} bytes, far too many"
            )


def is_bomb(entry: zipfile.ZipInfo) -> bool:
    """Returns whether a member of a zip says it unpacks to what no real content would."""
    return entry.file_size > max(_DENSE_BYTES, _PACKED * entry.compress_size)


def read_npy(path: Path) -> np.ndarray:
    """Reads an array that is as long as its header says.

    Raises:
      OSError: where it is not a plain file.
      ValueError: where it is no such array.
    """
    with open_plain(path) as file:
        _check_header(file, os.fstat(file.fileno()).st_size, path.name)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as stream:
        _check_header(stream, entry.file_size, entry.filename)
    with archive.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _check_header(stream: IO[bytes], size: int, name: str) -> None:
    """Checks that an array is as long as its header says: NumPy allocates before it reads."""
    version = np.lib.format.read_magic(stream)
    if version not in _NPY_HEADERS:
        raise ValueError(f"{name!r} is no plain array")
    shape, _, dtype = _NPY_HEADERS[version](stream)
    told, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"{name!r} holds {dtype} and no numbers or texts")
    if told != there:
        raise ValueError(f"{name!r} says it has {told:,} bytes, and has {there:,}")


def _parse_int(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= (value := int(digits)) < 2**64:
        raise ValueError(f"{digits[:20]}... is too large a number")
    return value


def _is_hollow(descriptor: int, status: os.stat_result) -> bool:
    """Returns whether a file takes next to no place on the disk, as its file system itself says."""
    has_hole = os.lseek(descriptor, 0, os.SEEK_HOLE) < status.st_size
    os.lseek(descriptor, 0, os.SEEK_SET)
    return has_hole and status.st_blocks * 512 * _PACKED < status.st_size
