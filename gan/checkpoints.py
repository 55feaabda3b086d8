"""Checkpoints: Orbax behind one small class that trusts only what it can verify.

    checkpoints/3000/state/          Orbax
    checkpoints/3000/manifest.json   the step, the config, the metrics, the SHA-256 of every file of
                                     the state and of the state itself, and its own

A checkpoint is written in `3000.saving` and gets its name last, when it has its manifest: a folder
with a number for a name and without a true manifest is not a checkpoint of ours, whatever it is.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import pathlib
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from gan.errors import RunError
from gan.retention import Latest, Metrics, Retention, kept

_SAVING, _DELETING, _SET_ASIDE = ".saving", ".deleting", ".set_aside"


@dataclass(frozen=True)
class Manifest:
    """What is known of a checkpoint.

    Attributes:
      step: Generator updates until then.
      config: Of the run, as a mapping.
      metrics: Logged or evaluated at this step; finite ones.
      state: SHA-256 of the state, the same wherever and however often it is saved.
      files: SHA-256 of every file, by path.
      periodic: Whether the step was due for saving; otherwise something stopped or ended the run.
    """

    step: int
    config: dict[str, Any]
    metrics: dict[str, float]
    state: str
    files: dict[str, str]
    periodic: bool


class DamageError(Exception):
    """Why a folder is no checkpoint to rely on."""


class Checkpoints:
    """The checkpoints of one run.

    Used in a `with` block, at whose end the last save is finished. Many may read; only one may
    write.

    Args:
      workdir: The run's folder; checkpoints are in `workdir/checkpoints/<step>`.
      keep: The rules by which old ones are kept when a new one is saved.
    """

    def __init__(self, workdir: str | pathlib.Path, keep: Sequence[Retention] = (Latest(),)):
        self._folder = pathlib.Path(workdir).absolute() / "checkpoints"
        self._keep = tuple(keep)
        self._thread = futures.ThreadPoolExecutor(1, "checkpoints", _give_way)
        self._pending: futures.Future[None] | None = None
        # Every process has the whole state: one writes it, and each reads it for itself.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(),
            active_processes={jax.process_index()},
            barrier_sync_key_prefix=f"process_{jax.process_index()}",
        )
        self._orbax = ocp.Checkpointer(
            ocp.StandardCheckpointHandler(multiprocessing_options=alone),
            multiprocessing_options=alone,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.wait()
        except RunError as failure:
            if error is None:
                raise
            logging.warning("%s", failure)  # beside the error that is on its way
        finally:
            self._thread.shutdown()
            self._orbax.close()

    def all_steps(self) -> list[int]:
        """Every step with a folder, oldest first; whether it holds is another question."""
        if not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if _is_step(path.name))

    def verify(self, step: int) -> Manifest:
        """The manifest of a step all of whose files are as they were saved.

        Raises:
          DamageError: saying what is wrong with it.
        """
        place = self._folder / str(step)
        try:
            manifest = _read_manifest(place)
            for name, digest in manifest.files.items():
                with (place / name).open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                        raise DamageError(f"{name} is not as it was saved")
        except OSError as error:
            missing = pathlib.Path(str(error.filename)).name
            raise DamageError(f"{missing}: {error.strerror}") from error
        if manifest.step != step:
            raise DamageError(f"it is step {manifest.step}")
        return manifest

    def newest_first(self, at_most: int | None = None) -> Iterator[Manifest]:
        """The checkpoints that hold, with a warning for each that does not."""
        for step in reversed(self.all_steps()):
            if at_most is not None and step > at_most:
                continue
            try:
                yield self.verify(step)
            except DamageError as damage:
                place = self._folder / str(step)
                logging.warning("%s is passed over, it cannot be trusted: %s", place, damage)

    def newest(self) -> Manifest | None:
        """The newest checkpoint that holds, or None."""
        return next(self.newest_first(), None)

    def restore(self, manifest: Manifest, target: Any) -> Any:
        """The state of a verified checkpoint.

        Args:
          manifest: Of the checkpoint.
          target: A tree of `jax.ShapeDtypeStruct`, with shardings, like the saved state.

        Raises:
          RunError: where the saved state has another structure, shapes or types.
        """
        place = self._folder / str(manifest.step)
        words = jax.eval_shape(_words, target)
        try:
            saved = self._orbax.metadata(place / "state").item_metadata
            if (difference := _difference(saved, words)) is not None:
                raise RunError(f"checkpoint {place}: {difference}")
            wanted = jax.tree.map(  # without shardings: Orbax then gives NumPy arrays
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), words
            )
            state = self._orbax.restore(place / "state", args=ocp.args.StandardRestore(wanted))
        except RunError:
            raise
        except Exception as error:  # Orbax raises what the damage happens to cause
            raise RunError(f"checkpoint {place} cannot be read: {_reason(error)}") from error
        if digest(state) != manifest.state:
            raise RunError(f"checkpoint {place} was read, and is not what was saved")
        return jax.tree.map(_placed, state, target)

    def save(
        self,
        step: int,
        state: Any,
        config: Mapping[str, Any],
        metrics: Metrics,
        periodic: bool = True,
    ) -> None:
        """Saves in the background; the state's arrays may be donated as soon as this returns.

        Raises:
          RunError: where the save before this one has failed.
        """
        self.wait()
        if jax.process_index() > 0:
            return
        copy = jax.tree.map(lambda leaf: np.array(leaf), _words(state))
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._pending = self._thread.submit(self._write, step, copy, dict(config), finite, periodic)

    def wait(self) -> None:
        """Waits for the save under way.

        Raises:
          RunError: where it fails.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def raise_if_failed(self) -> None:
        """Like `wait`, where there is nothing to wait for."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def tidy(self) -> None:
        """Removes what an interrupted save or deletion has left; for the one that may write."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                step, _, _ = path.name.partition(".")
                ours = _is_step(step) and path.name[len(step) :] in (_SAVING, _DELETING)
                if ours and path.is_dir():
                    shutil.rmtree(path)

    def _write(
        self,
        step: int,
        state: Any,
        config: dict[str, Any],
        metrics: dict[str, float],
        periodic: bool,
    ) -> None:
        place, saving = self._folder / str(step), self._folder / f"{step}{_SAVING}"
        try:
            saving.mkdir(parents=True)
            self._orbax.save(saving / "state", args=ocp.args.StandardSave(state))
            files = {
                path.relative_to(saving).as_posix(): _file_digest(path)
                for path in sorted(saving.rglob("*"))
                if path.is_file()
            }
            manifest = Manifest(step, config, metrics, digest(state), files, periodic)
            _write_manifest(saving, manifest)
            self._make_way(step)
            saving.rename(place)
            _sync(self._folder)
        except Exception as error:
            shutil.rmtree(saving, ignore_errors=True)
            holds = self.newest()
            rest = f"the newest that holds is {holds.step}" if holds else "none is saved yet"
            raise RunError(
                f"checkpoint {place} cannot be saved: {_reason(error)}; {rest}"
            ) from error
        self._delete_old()

    def _make_way(self, step: int) -> None:
        """Deletes a whole checkpoint of the same step; gives another name to anything else."""
        place = self._folder / str(step)
        if not os.path.lexists(place):
            return
        try:
            self.verify(step)
        except DamageError:
            number = 1
            while os.path.lexists(aside := place.with_name(f"{step}{_SET_ASIDE}_{number}")):
                number += 1
            place.rename(aside)
            logging.warning("%s was in the way, and is now %s", place, aside.name)
        else:
            self._delete(step)

    def _delete(self, step: int) -> None:
        gone = self._folder / f"{step}{_DELETING}"
        (self._folder / str(step)).rename(gone)  # at once, for those who read
        shutil.rmtree(gone)

    def _delete_old(self) -> None:
        """Deletes what no rule keeps, of those that are ours by their manifest."""
        saved: dict[int, Manifest] = {}
        for step in self.all_steps():
            with contextlib.suppress(DamageError, OSError):
                saved[step] = _read_manifest(self._folder / str(step))
        keep = kept(self._keep, {step: manifest.metrics for step, manifest in saved.items()})
        # A run goes back to its newest periodic one: to stop it often must not take that away.
        keep.update([step for step in sorted(saved) if saved[step].periodic][-1:])
        for step in saved.keys() - keep:
            self._delete(step)


def _give_way() -> None:
    """Lets this thread, and those it starts, compute only where the training leaves a core idle."""
    if sys.platform == "linux":  # elsewhere only whole processes have a priority
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def digest(state: Any) -> str:
    """SHA-256 of a tree of arrays: the path, type, shape and bytes of every leaf."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(_words(state))[0]:
        array = np.asarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _words(state: Any) -> Any:
    """A tree with typed keys as the words that they are made of."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _placed(array: np.ndarray, target: Any) -> jax.Array:
    """An array on its devices, as a typed key where it is one."""
    if not _is_key(target):
        return jax.device_put(array, target.sharding)
    return jax.device_put(jax.random.wrap_key_data(jnp.asarray(array)), target.sharding)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdigit() and name == str(int(name))


def _own_digest(manifest: Manifest) -> str:
    return hashlib.sha256(json.dumps(asdict(manifest), sort_keys=True).encode()).hexdigest()


def _write_manifest(place: pathlib.Path, manifest: Manifest) -> None:
    content = asdict(manifest) | {"sha256": _own_digest(manifest)}
    with (place / "manifest.json").open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _read_manifest(place: pathlib.Path) -> Manifest:
    """The manifest of a folder, if it is true."""
    if not place.is_dir():
        raise DamageError("it is not a folder")
    try:
        content = json.loads((place / "manifest.json").read_text())
        own = content.pop("sha256")
        manifest = Manifest(**content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamageError("manifest.json is not what it was") from error
    except FileNotFoundError as error:
        raise DamageError("it has no manifest.json") from error
    if _own_digest(manifest) != own:
        raise DamageError("manifest.json is not as it was saved")
    return manifest


def _file_digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: pathlib.Path) -> None:
    """Makes the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    """An error in a few words; for the commonest, those of the system."""
    text = f"{type(error).__name__}: {error}".partition("\n")[0]
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if os.strerror(number) in str(error):
            return os.strerror(number)
    return text if len(text) < 200 else text[:200] + " ..."


def _difference(saved: Any, target: Any) -> str | None:
    """The first thing in which a saved tree differs from what is to be restored, in words."""

    def leaves(tree: Any) -> dict[str, Any]:
        paths = jax.tree_util.tree_flatten_with_path(tree)[0]
        return {
            jax.tree_util.keystr(path, simple=True, separator="."): (
                tuple(leaf.shape), str(leaf.dtype),
            )
            for path, leaf in paths
        }  # fmt: skip

    there, wanted = leaves(saved), leaves(target)
    for name in sorted(there.keys() | wanted.keys()):
        if there.get(name) != wanted.get(name):
            return f"{name} is {there.get(name)} there and {wanted.get(name)} in this run"
    return None
