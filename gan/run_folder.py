"""What a run's folder may hold before it is read or written: a run's own plain files."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gan.errors import UsageError
from gan.untrusted import open_plain, parse_json, read_json, read_plain

_NAMES = (
    "config.json", "lock", "history.jsonl", "metrics.jsonl", "evaluations.jsonl", "checkpoints",
    "samples", "plugins", "profile", "members.json", "sweep.csv",
)  # fmt: skip
_EVENTS = "events.out.tfevents."  # how names of TensorBoard's files begin
_LOCK = re.compile(rb"process \d+ on \S+, since \d{4}-\d\d-\d\d ")  # see `gan.trainers.workdir`


def check_workdir(workdir: Path) -> None:
    """Raises UsageError where there is no such folder, or one with links where a run has files."""
    if not workdir.is_dir():
        raise UsageError(f"--workdir={workdir}: there is no such folder")
    check_plain(workdir)
    check_single(workdir)


def check_single(workdir: Path) -> None:
    """Raises UsageError where a folder is a population's, which holds runs in folders of their own."""
    if not is_population(workdir):
        return
    names = sorted(path.parent.name for path in workdir.glob("*/config.json"))
    few = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    raise UsageError(
        f"--workdir={workdir} is a population of {len(names)} runs ({few}): name one of them, such as "
        f"--workdir={workdir / (names or ['...'])[0]}"
    )


def is_population(workdir: Path) -> bool:
    """Returns whether a folder is a population's."""
    try:
        config = read_json(workdir / "config.json", follow=False)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("population", 1) != 1


def check_plain(workdir: Path) -> None:
    """Checks that what a run reads and writes in its folder are plain files and folders.

    In a folder from a stranger a link could lead to files of the user's own, and a pipe would wait.

    Raises:
      UsageError: where one is not.
    """
    entries = (path for folder in (workdir, workdir / "plugins") for path in _entries(folder))
    for path in entries:
        ours = path.name in _NAMES or path.name.startswith(_EVENTS)
        mode = path.lstat().st_mode
        if ours and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "no plain file"
            raise UsageError(
                f"--workdir={workdir}: {path.relative_to(workdir)} is {kind}, and a run's own files "
                f"and folders are none: put the file or folder itself there, or remove it"
            )


def check_ours(workdir: Path) -> None:
    """Checks that a folder is a run's, or new, or as good as empty: we write over what is there.

    Raises:
      UsageError: where it holds something else.
    """
    there = [path for path in _entries(workdir) if not _says_nothing(path)]
    if there and not any(map(_is_of_a_run, there)):
        names = ", ".join(sorted(ascii(path.name)[1:-1] for path in there)[:3])
        rest = f" and {len(there) - 3:,} more" if len(there) > 3 else ""
        raise UsageError(
            f"--workdir={workdir} holds files that are not of a run ({names}{rest}): a run's folder, "
            f"or a new or empty one is accepted"
        )


def _entries(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from folder.iterdir()


def _says_nothing(path: Path) -> bool:
    """Returns whether nothing is lost if we write here; a crash leaves an empty lock or folder."""
    if path.name.startswith(".") or path.name == "lost+found":
        return True
    if path.name == "checkpoints":
        return path.is_dir() and not any(path.iterdir())
    return path.name == "lock" and path.is_file() and not path.stat().st_size


def _is_of_a_run(path: Path) -> bool:
    """Returns whether a file or folder is one that only a run writes; one of these is enough."""
    try:
        match path.name:
            case "lock":
                return _LOCK.match(read_plain(path, 1_000, follow=False)) is not None
            case "config.json":
                return _has(read_json(path, follow=False), "generator", "discriminator", "dynamics")
            case "history.jsonl":
                with open_plain(path, follow=False) as file:
                    first = file.readline(10_000)
                return _has(parse_json(first), "time", "step", "event", "message")
            case "checkpoints":
                return any(map(_is_checkpoint, path.iterdir()))
    except (OSError, ValueError):
        pass
    return False


def _has(content: Any, *keys: str) -> bool:
    return isinstance(content, dict) and set(keys) <= set(content)


def _is_checkpoint(path: Path) -> bool:
    saved = path.name.isdigit() and os.path.lexists(path / "manifest.json")
    return saved or re.fullmatch(r"\d+\.(saving|deleting_\d+|archived_\d+)", path.name) is not None
