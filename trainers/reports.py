"""What a run reports through CLU, whose import takes seconds: the first steps do not wait for it."""

import functools
import importlib
import pathlib
from concurrent import futures
from typing import Any


class Reports:
    """CLU's writers and hooks of a run, imported beside its first steps.

    Args:
      workdir: The run's folder.
      num_steps: The last step of the run.
      step: From where the run goes on.
      profile_step: After which step the next call is profiled, or None.
    """

    def __init__(
        self, workdir: pathlib.Path, num_steps: int, step: int, profile_step: int | None
    ) -> None:
        self._workdir, self._num_steps, self._step = workdir, num_steps, step
        self._profile_step = profile_step
        self._imported = _import()
        if profile_step is not None:
            self._hooks  # noqa: B018 - it is of early steps, and has to be there

    @functools.cached_property
    def writer(self) -> Any:
        """All writers; waits for the import."""
        return self._imported.result().create_writer(self._workdir, self._step)

    @functools.cached_property
    def _hooks(self) -> Any:
        return self._imported.result().create_hooks(
            self._workdir, self._num_steps, self._step, self._profile_step
        )

    def after(self, step: int) -> None:
        """To be called after each call of the train step."""
        if self._imported.done():
            for hook in self._hooks:
                hook(step)

    def flush(self) -> None:
        """Writes what was given so far to the files."""
        if "writer" in vars(self):
            self.writer.flush()

    def close(self) -> None:
        """Writes what is not written yet."""
        if "writer" in vars(self):
            self.writer.close()


@functools.cache
def _import() -> futures.Future[Any]:
    pool = futures.ThreadPoolExecutor(1)
    try:
        return pool.submit(importlib.import_module, "gan.trainers.reporting")
    finally:
        pool.shutdown(wait=False)
