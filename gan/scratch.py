"""Temporary folders that outlive a `kill -9` only until the next start.

Who uses a folder holds a lock on it (`flock`), which ends with the process however that ends. What nobody
holds can be deleted.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_folder(place: Path, prefix: str) -> Iterator[Path]:
    """Makes a temporary folder, locked as long as it is in use, and removes it at the end.

    Args:
      place: The folder in which it is made.
      prefix: How its name begins; no folder of a user's may have such a name, see `remove_left`.

    Raises:
      OSError: where it cannot be made.
    """
    remove_left(place, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place) as name:
        lock = lock_folder(Path(name))
        if not os.path.exists(name):  # deleted by another process before it was locked
            os.mkdir(name)
            lock = lock_folder(Path(name))
        try:
            yield Path(name)
        finally:
            unlock(lock)


def remove_left(place: Path, prefix: str) -> None:
    """Removes the folders that a killed process has left, given how their names begin."""
    with contextlib.suppress(OSError):  # there is no such place
        delete_unlocked([path for path in place.iterdir() if path.name.startswith(prefix)])


def delete_unlocked(folders: Iterable[Path]) -> None:
    """Deletes the folders that no process has locked."""
    for folder in folders:
        lock = lock_folder(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            unlock(lock)


def lock_folder(folder: Path, how: int = fcntl.LOCK_SH) -> int | None:
    """Locks a folder until `unlock`; returns None where that is not possible."""
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


def unlock(lock: int | None) -> None:
    """Gives a lock back."""
    if lock is not None:
        os.close(lock)
