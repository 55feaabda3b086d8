"""What is known of a checkpoint and of its files, so that damage is seen before anything is read."""

import errno
import hashlib
import json
import os
import pathlib
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_NAME = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What is known of a checkpoint.

    Attributes:
      step: Generator updates until then.
      config: Of the run, as a mapping.
      metrics: Logged or evaluated at this step; finite ones.
      periodic: Whether the step was due for saving; otherwise something stopped or ended the run.
      state: SHA-256 of the state, the same wherever and however often it is saved: see `digest`.
      files: SHA-256 of every file, by path.
    """

    step: int
    config: dict[str, Any]
    metrics: dict[str, float]
    periodic: bool
    state: str
    files: dict[str, str]


class DamageError(Exception):
    """Why a folder is no checkpoint to rely on."""


def digest(state: Any) -> str:
    """SHA-256 of a tree of arrays: the path, type, shape and bytes of every leaf."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(words(state))[0]:
        array = np.asarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def words(state: Any) -> Any:
    """A tree with typed keys as the words that they are made of."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, state)


def is_key(leaf: Any) -> bool:
    """Whether an array is one of typed keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def file_digests(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _file_digest(path) for path in paths}


def write_manifest(folder: pathlib.Path, manifest: Manifest) -> None:
    """Writes it, with its own SHA-256, to the disk itself."""
    with (folder / _NAME).open("w") as file:
        json.dump(asdict(manifest) | {"sha256": _own_digest(manifest)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(folder: pathlib.Path) -> Manifest:
    """The manifest of a folder.

    Raises:
      DamageError: where it has none, or not as it was written.
    """
    try:
        content = json.loads((folder / _NAME).read_text())
        own = content.pop("sha256")
        manifest = Manifest(**content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamageError(f"{_NAME} is no manifest") from error
    except OSError as error:
        raise _damage(error) from error
    if _own_digest(manifest) != own:
        raise DamageError(f"{_NAME} is not as it was saved")
    return manifest


def verify(folder: pathlib.Path) -> Manifest:
    """The manifest of a folder all of whose files are as they were saved.

    Files that it does not know take nothing away.

    Raises:
      DamageError: saying what is wrong.
      OSError: where the files may be there, and cannot be read now.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        try:
            found = _file_digest(folder / name)
        except OSError as error:
            raise _damage(error) from error
        if found != expected:
            raise DamageError(f"{name} is not as it was saved")
    return manifest


def _damage(error: OSError) -> Exception:
    """That a file is gone or unreadable for good; all else may pass, and is no damage."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO):
        return DamageError(f"{pathlib.Path(str(error.filename)).name}: {error.strerror}")
    return error


def _own_digest(manifest: Manifest) -> str:
    return hashlib.sha256(json.dumps(asdict(manifest), sort_keys=True).encode()).hexdigest()


def _file_digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
