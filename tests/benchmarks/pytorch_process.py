"""A process that makes the same training steps in PyTorch, and measures how long they take."""

import json
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from gan.errors import RunError, UsageError


class PyTorchProcess:
    """A process that answers JSON lines; `tests/benchmarks/pytorch/__main__.py` documents them.

    Args:
      command: The command that starts it.
      folder: The folder in which it is started.
      config: The config by key, and `shape`, that of an image.

    Attributes:
      handshake: The process's answer to the config: versions and variants.

    Raises:
      UsageError: if it cannot make such steps.
      RunError: if it does not start.
    """

    def __init__(self, command: Sequence[str], folder: pathlib.Path, config: Mapping[str, Any]):
        self._process = subprocess.Popen(
            command, cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            self.handshake = self._ask(config)
        except BaseException:
            self.close()
            raise

    @property
    def variants(self) -> list[str]:
        """The variants of PyTorch in which it can make the steps, such as `eager`."""
        return list(self.handshake["variants"])

    def seconds(self, variant: str, num_steps: int) -> float:
        """Returns the time of some steps; a variant's first call warms it up before."""
        return float(self._ask({"variant": variant, "steps": num_steps})["seconds"])

    def peak_memory_bytes(self) -> int:
        """Returns the most memory that the process has held."""
        return int(self._ask({"memory": True})["peak_memory_bytes"])

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RunError(f"{self._name} does not start") from error
        line = self._process.stdout.readline()
        if not line:
            raise RunError(f"{self._name} ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UsageError(f"{self._name}: {answer['error']}")
        return answer

    @property
    def _name(self) -> str:
        return " ".join(self._process.args[1:])  # type: ignore[index, arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process if it still runs."""
        if self._process.stdin and self._process.stdin.closed:
            return
        self._process.kill()
        self._process.communicate()
