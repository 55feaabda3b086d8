"""Files that appear whole or not at all, and the user's cache of what can be made again."""

import contextlib
import functools
import json
import math
import os
import pathlib
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from absl import logging

from gan.errors import UsageError
from gan.untrusted import read_npz

_OWN_NAME = (
    "name of this file"  # among its arrays: content belongs to the name that it was written under
)


def user_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns a path that a user names, in which `~` at the beginning is the home folder.

    Raises:
      UsageError: where there is no home folder, and for a character that no path can have.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise UsageError(f"{text!r} is no path: it has a character 0")
    expanded = os.path.expanduser(text)
    if expanded == text and text.partition("/")[0] == "~":
        raise UsageError(f"{text}: you have no home folder; give a path without ~, or set HOME")
    return pathlib.Path(expanded)


def cache_folder(*parts: str) -> pathlib.Path:
    """Returns a folder in `$GAN_CACHE_DIR`, else in `flax-gan` in `$XDG_CACHE_HOME` or `~/.cache`.

    A user who has no home folder has one among the temporary files.
    """
    if own := os.environ.get("GAN_CACHE_DIR"):
        return user_path(own).joinpath(*parts)
    if os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~") != "~":
        return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").joinpath(
            "flax-gan", *parts
        )
    return _temporary_cache().joinpath(*parts)


@functools.cache
def _temporary_cache() -> pathlib.Path:
    """Makes the cache of a user without a home folder, which nobody else may write to: it is trusted."""
    folder = pathlib.Path(tempfile.gettempdir(), f"flax-gan-{os.getuid()}")
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700)
    with contextlib.suppress(OSError):
        found = folder.lstat()
        if (
            found.st_uid == os.getuid()
            and stat.S_ISDIR(found.st_mode)
            and not found.st_mode & 0o022
        ):
            return folder
    return pathlib.Path(tempfile.mkdtemp(prefix="flax-gan-"))


@contextlib.contextmanager
def replacing(path: pathlib.Path, *, shared: bool = False) -> Iterator[pathlib.Path]:
    """Yields a path to write to, and renames it to `path` at the end; after an error, deletes it.

    Args:
      path: The file; its folder is made where it is missing.
      shared: Whether other processes may write the same file at the same time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    process = f".{os.getpid()}" if shared else ""
    beside = path.with_name(f"{path.name}{process}.tmp")
    try:
        beside.unlink(missing_ok=True)  # in a stranger's folder it may be a link to anywhere
        yield beside
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes content as JSON, which has no NaN and no infinities: null is in their place."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: finite(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [finite(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    with replacing(path) as beside:
        beside.write_text(json.dumps(finite(content), indent=2) + "\n")


def append_line(path: pathlib.Path, line: str) -> None:
    """Appends a line to a file, and flushes it to disk; makes the file where it is missing.

    Where a crash has cut the last line short, the new one does not go on in it.

    Raises:
      OSError: where that fails, and for a link: a run's folder may be a stranger's, and the link lead to
        a file of the user's.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o666), "a") as file:
        size = os.fstat(file.fileno()).st_size
        is_cut = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        file.write("\n" * is_cut + line + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to an `.npz` of the cache; warns where that fails."""
    try:
        with replacing(path, shared=True) as beside, beside.open("wb") as file:
            np.savez(file, **arrays, **{_OWN_NAME: np.array(path.name)})  # type: ignore[arg-type]
    except OSError as error:
        logging.warning("%s cannot be written (%s): it is made again next time", path, error)


def read_arrays(path: pathlib.Path) -> dict[str, Any] | None:
    """Returns the arrays of an `.npz`, or None where it is not there, damaged, or of another name."""
    try:
        arrays: dict[str, Any] = read_npz(path)
    except Exception:  # noqa: BLE001 - of any type
        return None
    return arrays if str(arrays.pop(_OWN_NAME, path.name)) == path.name else None


def remove_while_written(folder: pathlib.Path) -> None:
    """Removes a folder into which other threads (TensorStore's) may still write for a moment."""
    absent = 0
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        absent = 0 if folder.exists() else absent + 1
        if absent > 1:
            return
        time.sleep(0.1)
