"""Starts a script without the seconds of its imports: a process that has made them forks.

The parent has imported JAX, TensorFlow and the package, but has started no device of JAX. What a real start
does before `main` is not part of such a start; `forked=False` gives a real one.
"""

import atexit
import contextlib
import gc
import importlib
import os
import platform
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_MODULES = (
    "gan.trainers.run", "gan.trainers.evaluation.evaluate", "gan.trainers.evaluation.table",
    "gan.trainers.evaluation.scorer", "gan.trainers.resume", "gan.data.prepare", "gan.data.preview",
    "gan.data.sources.images", "gan.data.sources.tfds", "PIL.Image", "scipy.linalg", "grain", "clu.metric_writers",
    "clu.periodic_actions", "tensorflow_datasets", "jax.experimental.multihost_utils",
)  # fmt: skip


def preload() -> None:
    """Imports what the scripts import, where it is installed; this process must not compute with JAX."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
    os.environ["JAX_NUM_CPU_DEVICES"] = "1"
    for name in _MODULES:
        importlib.import_module(name)
    gc.freeze()  # or the children would copy all pages at their first collection


@dataclass
class Program:
    """A script that was started, in a process group of its own.

    Attributes:
      pid: Its process.
      log: The file of its stdout and stderr.
      code: Its exit code, negative for a signal, once it has ended.
    """

    pid: int
    log: Path
    code: int | None = None

    def ended(self) -> bool:
        """Returns whether it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Waits for its end, or until something is so; returns whether one came within some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.ended() or until():
                return True
            time.sleep(0.003)
        return False

    def kill(self) -> bool:
        """Kills it with `kill -9`; returns whether that ended it, and not it itself before."""
        if not self.ended():
            os.killpg(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)
        return self.code == -signal.SIGKILL

    def text(self) -> str:
        """Returns what it has printed so far."""
        return self.log.read_text(errors="replace")


def start(
    script: Path, args: Sequence[str], cwd: Path, variables: Mapping[str, str], log: Path, *, forked: bool
) -> Program:  # fmt: skip
    """Starts a script.

    Args:
      script: Its file.
      args: Its command line.
      cwd: Its current folder.
      variables: Its environment.
      log: The file for what it prints.
      forked: Whether it is a copy of this process, or Python is started anew.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if (pid := os.fork()) == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _become(script, args, cwd, variables, log, forked)
        except BaseException:  # noqa: BLE001 - the child must never go on as its parent
            traceback.print_exc()
        finally:
            os._exit(3)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # the child does the same: whoever is first
    program = Program(pid, log)
    atexit.register(_end, program)
    return program


def _end(program: Program) -> None:
    """Kills what is left of a program where its parent ends before it."""
    if program.code is None:
        program.kill()


def _become(
    script: Path, args: Sequence[str], cwd: Path, variables: Mapping[str, str], log: Path, forked: bool
) -> NoReturn:  # fmt: skip
    os.setpgid(0, 0)
    os.chdir(cwd)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if not forked:
        os.execve(sys.executable, [sys.executable, str(script), *args], dict(variables))
    os.environ.clear()
    os.environ |= variables
    tempfile.tempdir = None
    atexit.unregister(_end)
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]  # the parent's folders stay
    sys.argv = [str(script), *args]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _read_variables_of_jax()
    code = 0
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 - as Python itself does
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _read_variables_of_jax() -> None:
    """Tells JAX what it reads from the environment when it is imported: where the cache is."""
    import jax

    cache = Path(os.environ["GAN_CACHE_DIR"], "compiled", platform.node())
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
