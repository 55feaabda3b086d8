"""Checkpoints: Orbax behind one small class."""

import pathlib
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from gan.errors import RunError

_KEEP = 3


class Checkpoints:
    """The checkpoints of one run, each a step's state, config and metrics in one folder.

    Used in a `with` block, at whose end the last asynchronous save is finished. Leaving without it
    would lose that save.

    Args:
      workdir: The run's folder; checkpoints are in `workdir/checkpoints/<step>`.
      create: Whether to make that folder where it is missing.
    """

    def __init__(self, workdir: str | pathlib.Path, create: bool = True):
        self._folder = pathlib.Path(workdir).absolute() / "checkpoints"
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(max_to_keep=_KEEP, create=create),
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "config": ocp.JsonCheckpointHandler(),
                "metrics": ocp.JsonCheckpointHandler(),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        """The newest saved step, or None."""
        return self._manager.latest_step()

    def all_steps(self) -> list[int]:
        """Every saved step, oldest first."""
        return sorted(self._manager.all_steps())

    def save(
        self, step: int, state: Any, config: dict[str, Any], metrics: dict[str, float]
    ) -> None:
        """Saves in the background; the state's arrays may be donated as soon as this returns."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                config=ocp.args.JsonSave(config),
                metrics=ocp.args.JsonSave(metrics),
            ),
        )

    def wait(self) -> None:
        """Waits for the save under way; raises what went wrong in it."""
        self._manager.wait_until_finished()

    def config(self, step: int) -> dict[str, Any]:
        """The config with which a step was saved."""
        args = ocp.args.Composite(config=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args)["config"]

    def restore(self, step: int, target: Any) -> Any:
        """The state of a step.

        Args:
          step: One of `all_steps()`.
          target: A tree of `jax.ShapeDtypeStruct`, with shardings, like the saved state.

        Raises:
          RunError: where the saved state has another structure, shapes or types.
        """
        place = self._folder / str(step)
        try:
            saved = self._manager.item_metadata(step)["state"]
        except Exception as error:  # Orbax raises what the damage happens to cause
            raise RunError(f"checkpoint {place} cannot be read: {_first_line(error)}") from error
        if (difference := _difference(saved, target)) is not None:
            raise RunError(f"checkpoint {place}: {difference}")
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        try:
            return self._manager.restore(step, args=args)["state"]
        except Exception as error:
            raise RunError(f"checkpoint {place} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _difference(saved: Any, target: Any) -> str | None:
    """The first thing in which a saved tree differs from what is to be restored, in words."""

    def leaves(tree: Any) -> dict[str, Any]:
        paths = jax.tree_util.tree_flatten_with_path(tree)[0]
        return {
            jax.tree_util.keystr(path, simple=True, separator="."): _shape_and_type(leaf)
            for path, leaf in paths
        }

    there, wanted = leaves(saved), leaves(target)
    for name in sorted(there.keys() | wanted.keys()):
        if there.get(name) != wanted.get(name):
            return f"{name} is {there.get(name)} there and {wanted.get(name)} in this run"
    return None


def _shape_and_type(leaf: Any) -> tuple[tuple[int, ...], str]:
    """Of a leaf as Orbax writes it: a typed key as its words."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return tuple(leaf.shape), str(leaf.dtype)
