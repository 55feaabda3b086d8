"""Runs the scripts, in a process of their own or, to save its start-up, in this one."""

import contextlib
import functools
import importlib.util
import io
import logging
import os
import pathlib
import signal
import subprocess
import sys
from types import ModuleType
from typing import Any
from unittest import mock

from gan import cli

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run_script(
    script: str, *args: Any, devices: int = 1, code: int = 0, without: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Runs a script as a user does; fails for another exit code, or where it prints a traceback.

    Args:
      script: Its name in `scripts/`, or its whole path.
      *args: Its command line.
      devices: Number of JAX's devices.
      code: Its exit code.
      without: Packages, separated by commas, that it finds missing.
    """
    missing = [str(ROOT / "tests" / "without.py"), without] if without else []
    done = subprocess.run(
        [sys.executable, *missing, _path(script), *map(str, args)],
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
    )  # fmt: skip
    return _checked(done, code)


def run_script_here(script: str, *args: Any, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """Runs a script in this process, on its devices, and otherwise like `run_script`."""
    argv = [_path(script), *map(str, args)]
    logger = logging.getLogger("absl")
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    handlers, propagate = logger.handlers, logger.propagate
    ended = 0
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        mock.patch.object(sys, "argv", argv),
        mock.patch.dict(os.environ),
        mock.patch.object(cli.os, "_exit", side_effect=SystemExit) as exit_now,
    ):
        try:
            cli.run(_load(script).main)
        except SystemExit as error:  # of argparse, or of `_exit`
            ended = exit_now.call_args.args[0] if exit_now.called else int(error.code or 0)
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            logger.handlers, logger.propagate = handlers, propagate
    return _checked(subprocess.CompletedProcess(argv, ended, out.getvalue(), err.getvalue()), code)


def _path(script: str) -> str:
    return str(ROOT / "scripts" / script)


@functools.cache
def _load(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_script_{script[:-3]}", _path(script))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _checked(
    done: "subprocess.CompletedProcess[str]", code: int
) -> "subprocess.CompletedProcess[str]":
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done
