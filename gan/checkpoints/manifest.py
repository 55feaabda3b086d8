"""The manifest of a checkpoint: SHA-256 of all its files, so that damage is seen before use."""

import errno
import hashlib
import json
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from gan.annotations import fields_match
from gan.untrusted import open_plain, read_json

_NAME = "manifest.json"
_OF_SYSTEMS = (".DS_Store", ".nfs")  # how names of files begin that systems leave in any folder
_LASTING = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ELOOP, errno.EINVAL, errno.EFBIG,
    errno.ENAMETOOLONG, errno.ENXIO,
)  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """What is known of a checkpoint.

    Attributes:
      step: Generator updates so far.
      config: The run's config, as a mapping.
      metrics: What was logged or evaluated at this step, as far as it is finite.
      periodic: Whether the step was due for saving; otherwise the run was stopped or ended there.
      state: SHA-256 of the state, the same wherever and however often it is saved: see `digest`.
      files: SHA-256 of every file, by path.
      protocol: Fingerprint of the protocol by which the metrics `eval/...` were measured, or "".
      parts: SHA-256 of the files and modules in `config.parts`, by name; see `gan.parts`.
      data: The run's data, as a mapping; see `gan.data.description`. Older manifests have none.
      convolutions: By what they were computed, on which a state's bits depend; see
        `gan.models.onednn.describe`. Older manifests do not say.
    """

    step: int
    config: dict[str, Any]
    metrics: dict[str, float]
    periodic: bool
    state: str
    files: dict[str, str]
    parts: dict[str, str] = field(default_factory=dict)  # older manifests have none
    protocol: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    convolutions: str = ""

    def metrics_by(self, protocol: str) -> dict[str, float]:
        """Returns the metrics that can be compared with those of a protocol."""
        if self.protocol == protocol:
            return self.metrics
        others = self.metrics.items()
        return {name: value for name, value in others if not name.startswith("eval/")}


class DamageError(Exception):
    """A checkpoint is damaged; the message says how."""


def file_digests(folder: pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 of every file below a folder, by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _file_digest(path) for path in paths}


def write_manifest(folder: pathlib.Path, manifest: Manifest) -> None:
    """Writes a manifest with its own SHA-256, and flushes it to disk."""
    with (folder / _NAME).open("w") as file:
        json.dump(asdict(manifest) | {"sha256": _digest(asdict(manifest))}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(folder: pathlib.Path) -> Manifest:
    """Reads the manifest of a folder.

    Raises:
      DamageError: where it has none, or one that is not as it was written.
    """
    if folder.is_symlink():
        raise DamageError("it is a link")
    try:
        content = read_json(folder / _NAME, follow=False)
        own = content.pop("sha256")
        manifest = Manifest(**content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamageError(f"{_NAME} is no manifest") from error
    except OSError as error:
        raise _damage(error) from error
    if _digest(content) != own:
        raise DamageError(f"{_NAME} is not as it was saved")
    if not fields_match(manifest):
        raise DamageError(f"{_NAME} is no manifest")
    return manifest


def newest_protocol(manifests: Iterable[Manifest]) -> str:
    """Returns the protocol of the newest checkpoint that was scored, or ""."""
    scored = [manifest for manifest in manifests if manifest.protocol]
    return max(scored, key=lambda manifest: manifest.step).protocol if scored else ""


def verify(folder: pathlib.Path) -> Manifest:
    """Returns the manifest of a folder, all of whose files are as they were saved.

    Files that the manifest does not list do not matter, outside of the state: Orbax could read those.

    Raises:
      DamageError: where they are not, with what is wrong.
      OSError: where the files may be there but cannot be read at the moment.
    """
    manifest = read_manifest(folder)
    try:
        for name in _plain_files(folder):
            of_system = name.rpartition("/")[2].startswith(_OF_SYSTEMS)
            if name.startswith("state/") and name not in manifest.files and not of_system:
                raise DamageError(f"{name} is not in {_NAME}")
        for name, expected in manifest.files.items():
            _check_name(name)
            if _file_digest(folder / name) != expected:
                raise DamageError(f"{name} is not as it was saved")
    except OSError as error:
        raise _damage(error) from error
    return manifest


def _plain_files(folder: pathlib.Path) -> Iterator[str]:
    """Yields the path of every file below a folder; raises DamageError for what is no plain file."""
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = pathlib.Path(place, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path.relative_to(folder).as_posix()
            elif not stat.S_ISDIR(mode):
                kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
                raise DamageError(f"{path.relative_to(folder).as_posix()!r} is {kind}")


def _check_name(name: str) -> None:
    """Raises DamageError for a path that leads out of the checkpoint, or that no system has."""
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise DamageError(f"{name[:80]!r} is no path within the checkpoint")


def _damage(error: OSError) -> Exception:
    """Returns the error to raise: damage for a file that is gone or unreadable for good, else itself."""
    if error.errno in _LASTING:
        name = ascii(pathlib.Path(str(error.filename)).name)[1:-1]
        return DamageError(f"{name[:80]}: {error.strerror}")
    return error


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _file_digest(path: pathlib.Path) -> str:
    with open_plain(path, follow=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
