"""Checkpoints: Orbax behind one small class that reads only what it has verified.

    checkpoints/3000/state/          Orbax
    checkpoints/3000/manifest.json   see `gan.checkpoints.manifest`

A checkpoint is written to `3000.saving` and gets its name last, when its manifest is complete: a
folder with a number for a name but without a valid manifest is not a checkpoint of ours.
"""

import errno
import json
import math
import os
import pathlib
import re
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from gan.checkpoints.manifest import (
    DamageError,
    Manifest,
    file_digests,
    newest_protocol,
    read_manifest,
    verify,
    write_manifest,
)
from gan.checkpoints.retention import Latest, Metrics, Retention, steps_to_keep
from gan.checkpoints.trees import (
    check_chunks,
    difference,
    digest,
    place_on_devices,
    unwrap_keys,
    without_empty,
)
from gan.errors import RunError, UsageError
from gan.files import remove_while_written
from gan.sharding import barrier
from gan.specs import escaped

T = TypeVar("T")
_SAVING = re.compile(r"(\d+)\.saving")
_DELETING = re.compile(r"(\d+)\.deleting_\d+")


class Checkpoints:
    """The checkpoints of one run.

    Used in a `with` block, at whose end the last save is finished. Many processes may read; only one
    may write.

    Args:
      workdir: The run's folder; checkpoints are in `workdir/checkpoints/<step>`.
      keep: The rules by which old checkpoints are kept when a new one is saved.

    Attributes:
      workdir: The run's folder.
    """

    def __init__(self, workdir: str | pathlib.Path, keep: Sequence[Retention] = (Latest(),)):
        self.workdir = pathlib.Path(workdir)
        self._folder = self.workdir.absolute() / "checkpoints"
        if str(self._folder) != escaped(str(self._folder)):  # Orbax could not open it
            raise UsageError(
                f"{self._folder}: a run's folder must have a name in UTF-8, and all folders above it too: "
                f"rename them"
            )
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
        """Returns every step that has a folder, oldest first, valid or not."""
        if not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if _is_step(path.name))

    def verify(self, step: int) -> Manifest:
        """Returns the manifest of a step, all of whose files are as they were saved.

        Raises:
          DamageError: where they are not, with what is wrong.
          RunError: where they cannot be read at the moment.
        """
        try:
            manifest = verify(self._folder / str(step))
        except OSError as error:
            raise RunError(
                f"checkpoint {error.filename} cannot be read: {error.strerror}"
            ) from error
        if manifest.step != step:
            raise DamageError(f"it is step {manifest.step}")
        return manifest

    def first_valid(self, load: Callable[[Manifest], T | None]) -> T | None:
        """Returns the result of `load` for the newest valid checkpoint; warns of damaged ones.

        Args:
          load: Takes a verified manifest; returns None, or raises DamageError, to have an older
            checkpoint tried.
        """
        for step in reversed(self.all_steps()):
            try:
                if (result := load(self.verify(step))) is not None:
                    return result
            except DamageError as damage:
                place = self._folder / str(step)
                logging.warning("%s is passed over, it cannot be trusted: %s", place, damage)
        return None

    def newest(self) -> Manifest | None:
        """Returns the manifest of the newest valid checkpoint, or None."""
        return self.first_valid(lambda manifest: manifest)

    def restore(self, manifest: Manifest, target: Any) -> Any:
        """Reads the state of a verified checkpoint.

        Args:
          manifest: The checkpoint's.
          target: A tree of `jax.ShapeDtypeStruct`, with shardings, like the saved state.

        Raises:
          RunError: where the saved state has another structure, shapes or types.
          DamageError: where it cannot be read, or what is read is not what was saved.
        """
        place = self._folder / str(manifest.step)
        wanted = jax.tree.map(  # without shardings: Orbax then gives NumPy arrays
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
            jax.eval_shape(unwrap_keys, target),
        )
        stored = without_empty(wanted, jax.ShapeDtypeStruct)
        try:
            saved = self._orbax.metadata(place / "state").item_metadata
            if (line := difference(saved, stored)) is not None:
                raise RunError(f"checkpoint {place}: {line}")
            check_chunks(saved)
            state = self._orbax.restore(place / "state", args=ocp.args.StandardRestore(stored))
        except RunError:
            raise
        except Exception as error:  # Orbax raises what the damage happens to cause
            raise DamageError(_reason(error)) from error
        state = jax.tree.map(
            lambda leaf, like: leaf if like.size else np.zeros(like.shape, like.dtype),
            state,
            wanted,
        )
        if digest(state) != manifest.state:
            raise DamageError("the state that was read is not the one that was saved")
        return jax.tree.map(place_on_devices, state, target)

    def save(
        self,
        step: int,
        state: Any,
        config: Mapping[str, Any],
        metrics: Metrics,
        periodic: bool = True,
        parts: Mapping[str, str] = MappingProxyType({}),
        protocol: str = "",
        data: Mapping[str, Any] = MappingProxyType({}),
        convolutions: str = "",
    ) -> None:
        """Saves in the background; the state's arrays may be donated as soon as this returns.

        The arguments are those of a `Manifest`.

        Raises:
          RunError: where the save before this one has failed.
        """
        self.wait()
        if jax.process_index() > 0:
            return
        copy = jax.tree.map(lambda leaf: np.array(leaf), unwrap_keys(state))
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        manifest = Manifest(
            step, dict(config), finite, periodic, "", {}, dict(parts), protocol, dict(data), convolutions
        )  # fmt: skip
        self._pending = self._thread.submit(self._write, copy, manifest)

    def wait(self) -> None:
        """Waits for the save under way.

        Raises:
          RunError: where it fails.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def raise_if_failed(self) -> None:
        """Raises what a finished save has failed with, without waiting for one under way."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def finish(self, step: int) -> Manifest:
        """Waits, in every process, for the last save, and returns its manifest.

        Raises:
          RunError: where the save fails, or the newest valid checkpoint is not of this step.
        """
        self.wait()
        barrier("complete")
        newest = self.newest()
        if newest is None or newest.step != step:
            raise RunError(f"the last checkpoint of {self.workdir}, {step}, cannot be trusted")
        return newest

    def clean_up(self) -> None:
        """Finishes or deletes what an interrupted save or deletion has left; for the writer alone."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            saving = _SAVING.fullmatch(path.name)
            incomplete = saving is not None and not self._complete(path, saving[1])
            if incomplete or _DELETING.fullmatch(path.name):
                _remove(path)

    def delete_after(self, step: int) -> None:
        """Deletes our checkpoints of later steps; for the writer alone."""
        for later in self.all_steps():
            if later > step and self._own(later) is not None:
                _remove(self._rename(later, "deleting"))

    def _complete(self, saving: pathlib.Path, step: str) -> bool:
        """Gives a save its name where only that was missing; returns whether it was."""
        place = self._folder / step
        try:
            if verify(saving).step != int(step) or place.exists():
                return False
        except DamageError:
            return False
        saving.rename(place)
        return True

    def _write(self, state: Any, manifest: Manifest) -> None:
        """Writes a state; the manifest lacks its digest and its files' yet."""
        step = manifest.step
        place, saving = self._folder / str(step), self._folder / f"{step}.saving"
        try:
            saving.mkdir(parents=True)
            self._orbax.save(
                saving / "state", args=ocp.args.StandardSave(without_empty(state, np.zeros))
            )
            manifest = replace(manifest, state=digest(state), files=file_digests(saving))
            write_manifest(saving, manifest)
            replaced = self._make_way(manifest)
            saving.rename(place)
            _sync(self._folder)
        except Exception as error:
            remove_while_written(saving)
            newest = self.newest()
            rest = (
                f"the newest valid one is {newest.step}" if newest else "no checkpoint is saved yet"
            )
            raise RunError(
                f"checkpoint {place} cannot be saved: {_reason(error)}; {rest}"
            ) from error
        if replaced is not None:
            _remove(replaced)
        self._delete_old(step)

    def _make_way(self, new: Manifest) -> pathlib.Path | None:
        """Renames whatever has the name of a new checkpoint.

        Returns:
          Its new path, where it is a valid checkpoint of the same config and can be deleted once the
          new one is there; one of another config is kept, so that a change can be undone.
        """
        step = new.step
        if not os.path.lexists(self._folder / str(step)):
            return None
        try:  # JSON has lists for tuples
            same = self.verify(step).config == json.loads(json.dumps(new.config))
        except DamageError:
            same = False
        if not same:
            aside = self._rename(step, "archived")
            logging.warning("checkpoint %d was in the way, and is now %s", step, aside)
            return None
        return self._rename(step, "deleting")

    def _rename(self, step: int, suffix: str) -> pathlib.Path:
        """Renames a checkpoint, atomically for those who read; returns its new path."""
        number = 1
        while os.path.lexists(new := self._folder / f"{step}.{suffix}_{number}"):
            number += 1
        return (self._folder / str(step)).rename(new)

    def _own(self, step: int) -> Manifest | None:
        """Returns the manifest of a checkpoint that is ours, damaged or not; else None."""
        try:
            manifest = read_manifest(self._folder / str(step))
        except (DamageError, OSError):
            return None
        return manifest if manifest.step == step else None

    def _delete_old(self, newest: int) -> None:
        """Deletes those of our checkpoints that no rule keeps.

        Steps after the newest are damaged, or of a course that the run has left: they do not count,
        and stay until their names are needed.
        """
        steps = [step for step in self.all_steps() if step <= newest]
        saved = {step: own for step in steps if (own := self._own(step)) is not None}
        protocol = newest_protocol(saved.values())  # scores by another are in another order
        keep = steps_to_keep(
            self._keep, {step: own.metrics_by(protocol) for step, own in saved.items()}
        )
        # A run goes back to its newest periodic one: to stop it often must not delete that.
        periodic = [step for step, manifest in saved.items() if manifest.periodic]
        keep.update(periodic[-1:])
        for step in saved.keys() - keep:
            _remove(self._rename(step, "deleting"))


def _remove(folder: pathlib.Path) -> None:
    """Removes a folder; one that cannot be removed costs space, but is no reason to end a run."""
    try:
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
    except OSError as error:
        logging.warning("%s cannot be removed: %s", folder, error.strerror)


def _give_way() -> None:
    """Lets this thread, and those it starts, compute only where training leaves a core idle."""
    if sys.platform == "linux":  # elsewhere only whole processes have a priority
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdigit() and name == str(int(name))


def _sync(folder: pathlib.Path) -> None:
    """Flushes the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    """Returns an error in a few words; for the most common ones, those of the system."""
    text = f"{type(error).__name__}: {error}".partition("\n")[0]
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if os.strerror(number) in str(error):
            return os.strerror(number)
    return text if len(text) < 200 else text[:200] + " ..."
