"""The user's cache: what it holds, and its limit. What was not used for longest goes first."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from gan.errors import UsageError, nearest
from gan.files import cache_folder

KEPT = ("inception", "parts")
"""What cannot always be made again: weights may have been put there by hand, and `parts` says whose code
is trusted. It is deleted only where it is named."""

_KINDS = (
    "classifiers",
    "compiled",
    "inception",
    "onednn",
    "parts",
    "real",
)  # the folders that are ours
_DEFAULT_LIMIT = "10"


@dataclass(frozen=True)
class Kind:
    """What the cache holds of one kind.

    Attributes:
      name: Name of its folder: `compiled`, `real`, `classifiers`, ...
      files: Number of its files.
      size: Their size in bytes.
    """

    name: str
    files: int
    size: int


def kinds() -> list[Kind]:
    """Returns what the cache holds, by name."""
    sizes: dict[str, list[int]] = {}
    for path, status in _files():
        sizes.setdefault(_kind(path), []).append(status.st_size)
    return [Kind(name, len(each), sum(each)) for name, each in sorted(sizes.items())]


def limit() -> float:
    """Returns the size in bytes that the cache may have: `$GAN_CACHE_LIMIT` GB, or 10.

    Raises:
      UsageError: where that is no number from 0.
    """
    text = os.environ.get("GAN_CACHE_LIMIT") or _DEFAULT_LIMIT
    with contextlib.suppress(ValueError):
        if (gigabytes := float(text)) >= 0:
            return gigabytes * 1e9
    raise UsageError(f"GAN_CACHE_LIMIT={text}: a number of GB is accepted, such as 10")


def trim() -> None:
    """Deletes what was not used for longest until the cache is within its limit.

    Another program may use a file at this time: what it has open stays readable, and what it does not find
    it makes again.
    """
    most = limit()
    files = [(path, status) for path, status in _files() if _kind(path) not in KEPT]
    total = sum(status.st_size for _, status in files)
    files.sort(key=lambda file: max(file[1].st_atime, file[1].st_mtime))
    for path, status in files:
        if total <= most:
            return
        with contextlib.suppress(OSError):  # another program was faster, or it is not ours
            path.unlink()
            total -= status.st_size


def empty(names: Iterable[str] = ()) -> None:
    """Deletes what the cache holds, of the kinds that are named; without names, all but `KEPT`.

    Raises:
      UsageError: for a name that is none, and for what cannot be deleted.
    """
    there = [kind.name for kind in kinds()]
    names = list(names) or [name for name in there if name not in KEPT]
    for name in names:
        if name not in there:
            known = ", ".join(there) or "none, it is empty"
            raise UsageError(f"the cache holds no {name!r}{nearest(name, there)}; known: {known}")
    for name in names:
        try:
            shutil.rmtree(cache_folder(name))
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be deleted: {error.strerror}") from error


def _kind(path: pathlib.Path) -> str:
    return path.relative_to(cache_folder()).parts[0]


def _files() -> list[tuple[pathlib.Path, os.stat_result]]:
    """Lists the files of our kinds; links are not followed.

    `$GAN_CACHE_DIR` may name a folder in which the user has other things too.
    """
    found = []
    for kind in map(cache_folder, _KINDS):
        for folder, _, names in os.walk(kind):
            for name in names:
                path = pathlib.Path(folder, name)
                with contextlib.suppress(OSError):  # deleted meanwhile
                    found.append((path, path.lstat()))
    return found
