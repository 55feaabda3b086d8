"""Checkpoints: Orbax behind one small class that trusts only what it can verify.

    checkpoints/3000/state/          Orbax
    checkpoints/3000/manifest.json   see `gan.manifests`

A checkpoint is written in `3000.saving` and gets its name last, when it has its manifest: a folder
with a number for a name and without a true manifest is not a checkpoint of ours, whatever it is.
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
from types import TracebackType
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from gan.errors import RunError
from gan.manifests import (
    DamageError,
    Manifest,
    digest,
    file_digests,
    is_key,
    read_manifest,
    verify,
    words,
    write_manifest,
)
from gan.retention import Latest, Metrics, Retention, kept

T = TypeVar("T")
_SAVING = re.compile(r"(\d+)\.saving")
_DELETING = re.compile(r"(\d+)\.deleting_\d+")


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
          RunError: where it cannot be read now.
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

    def first_that(self, does: Callable[[Manifest], T | None]) -> T | None:
        """The first result, newest checkpoint first, of those that hold; with a warning for others.

        Args:
          does: Gives None, or raises DamageError, to go on to an older one.
        """
        for step in reversed(self.all_steps()):
            try:
                if (result := does(self.verify(step))) is not None:
                    return result
            except DamageError as damage:
                place = self._folder / str(step)
                logging.warning("%s is passed over, it cannot be trusted: %s", place, damage)
        return None

    def newest(self) -> Manifest | None:
        """The newest checkpoint that holds, or None."""
        return self.first_that(lambda manifest: manifest)

    def restore(self, manifest: Manifest, target: Any) -> Any:
        """The state of a verified checkpoint.

        Args:
          manifest: Of the checkpoint.
          target: A tree of `jax.ShapeDtypeStruct`, with shardings, like the saved state.

        Raises:
          RunError: where the saved state has another structure, shapes or types.
          DamageError: where it cannot be read, or what is read is not what was saved.
        """
        place = self._folder / str(manifest.step)
        wanted = jax.tree.map(  # without shardings: Orbax then gives NumPy arrays
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
            jax.eval_shape(words, target),
        )
        stored = _without_empty(wanted, jax.ShapeDtypeStruct)
        try:
            saved = self._orbax.metadata(place / "state").item_metadata
            if (difference := _difference(saved, stored)) is not None:
                raise RunError(f"checkpoint {place}: {difference}")
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
        copy = jax.tree.map(lambda leaf: np.array(leaf), words(state))
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
        """Ends what an interrupted save or deletion has left; for the one that may write."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            if (
                (saving := _SAVING.fullmatch(path.name)) and not self._complete(path, saving[1])
            ) or _DELETING.fullmatch(path.name):
                _remove(path)

    def delete_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps, where they are ours; for the one that may write."""
        for later in self.all_steps():
            if later > step and self._own(later) is not None:
                _remove(self._rename(later, "deleting"))

    def _complete(self, saving: pathlib.Path, step: str) -> bool:
        """Gives a save that lacked nothing but its name that name."""
        place = self._folder / step
        try:
            if verify(saving).step != int(step) or place.exists():
                return False
        except DamageError:
            return False
        saving.rename(place)
        return True

    def _write(
        self,
        step: int,
        state: Any,
        config: dict[str, Any],
        metrics: dict[str, float],
        periodic: bool,
    ) -> None:
        place, saving = self._folder / str(step), self._folder / f"{step}.saving"
        try:
            saving.mkdir(parents=True)
            self._orbax.save(
                saving / "state", args=ocp.args.StandardSave(_without_empty(state, np.zeros))
            )
            files = file_digests(saving)
            manifest = Manifest(step, config, metrics, periodic, digest(state), files)
            write_manifest(saving, manifest)
            replaced = self._make_way(manifest)
            saving.rename(place)
            _sync(self._folder)
        except Exception as error:
            shutil.rmtree(saving, ignore_errors=True)
            holds = self.newest()
            rest = (
                f"the newest that holds is {holds.step}" if holds else "no checkpoint is saved yet"
            )
            raise RunError(
                f"checkpoint {place} cannot be saved: {_reason(error)}; {rest}"
            ) from error
        if replaced is not None:
            _remove(replaced)
        self._delete_old(step)

    def _make_way(self, new: Manifest) -> pathlib.Path | None:
        """Gives another name to what has the name of a step.

        Returns:
          That, where it was a whole checkpoint of the same config and can go when the new one is
          there; one of another config is kept, so that a change can be taken back.
        """
        step = new.step
        if not os.path.lexists(self._folder / str(step)):
            return None
        try:
            same = self.verify(step).config == json.loads(json.dumps(new.config))
        except DamageError:
            same = False
        if not same:
            aside = self._rename(step, "set_aside")
            logging.warning("checkpoint %d was in the way, and is now %s", step, aside)
            return None
        return self._rename(step, "deleting")

    def _rename(self, step: int, suffix: str) -> pathlib.Path:
        """At once, for those who read."""
        number = 1
        while os.path.lexists(new := self._folder / f"{step}.{suffix}_{number}"):
            number += 1
        return (self._folder / str(step)).rename(new)

    def _own(self, step: int) -> Manifest | None:
        """The manifest of a checkpoint that is ours, whole or not."""
        try:
            manifest = read_manifest(self._folder / str(step))
        except (DamageError, OSError):
            return None
        return manifest if manifest.step == step else None

    def _delete_old(self, newest: int) -> None:
        """Deletes what no rule keeps, of those that are ours.

        Later steps than the newest were passed over, or the run has left them: they count for
        nothing, and stay until their names are needed.
        """
        steps = [step for step in self.all_steps() if step <= newest]
        saved = {step: own for step in steps if (own := self._own(step)) is not None}
        keep = kept(self._keep, {step: manifest.metrics for step, manifest in saved.items()})
        # A run goes back to its newest periodic one: to stop it often must not take that away.
        keep.update([step for step in saved if saved[step].periodic][-1:])
        for step in saved.keys() - keep:
            _remove(self._rename(step, "deleting"))


def _remove(folder: pathlib.Path) -> None:
    """Removes a folder; what cannot be removed costs space, and is no reason to end a run."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        logging.warning("%s cannot be removed: %s", folder, error.strerror)


def _give_way() -> None:
    """Lets this thread, and those it starts, compute only where the training leaves a core idle."""
    if sys.platform == "linux":  # elsewhere only whole processes have a priority
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def _without_empty(tree: Any, make: Callable[[tuple[int, ...], Any], Any]) -> Any:
    """A tree with a scalar for each array without elements, which Orbax cannot save."""
    return jax.tree.map(lambda leaf: leaf if leaf.size else make((), leaf.dtype), tree)


def _placed(array: np.ndarray, target: Any) -> jax.Array:
    """An array on its devices, as a typed key where it is one."""
    if not is_key(target):
        return jax.device_put(array, target.sharding)
    return jax.device_put(jax.random.wrap_key_data(jnp.asarray(array)), target.sharding)


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdigit() and name == str(int(name))


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
