"""What surrounds a program (streams, encoding, limits, devices), so that it matters as little as it can."""

import contextlib
import io
import os
import resource
import sys
import traceback

from gan import xla_flags
from gan.errors import UsageError, describe

_OFF = ("", "0", "f", "false", "n", "no", "off")  # as JAX reads its variables
_ADDRESSES = 2e9  # with less, JAX ends in an abort while it is imported


def prepare() -> None:
    """Makes streams, encoding, limits, precision and XLA's flags what is needed; before JAX is imported.

    Raises:
      UsageError: where the current folder is no longer there, or `ulimit -v` is too small to start.
    """
    _open_streams()
    _use_utf8()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of a name that cannot be written, `\udcff`
            stream.reconfigure(errors="backslashreplace")
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError("the current folder is no longer there: cd to another first") from error
    if os.environ.pop("JAX_ENABLE_X64", "0").lower() not in _OFF:
        print("JAX_ENABLE_X64 is left aside: runs compute in float32", file=sys.stderr)
    room = resource.getrlimit(resource.RLIMIT_AS)[0]
    if room != resource.RLIM_INFINITY and room < _ADDRESSES:
        raise UsageError(
            f"ulimit -v leaves {room / 1e9:.2g} GB of addresses, and JAX needs {_ADDRESSES / 1e9:.0f} GB "
            f"at least: ulimit -v unlimited"
        )
    with contextlib.suppress(OSError, ValueError):  # as many open files as the system allows
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    xla_flags.add()


def misread_variable(error: BaseException) -> str | None:
    """Describes an error of JAX's import: a variable whose value it cannot read. None for other errors."""
    places = traceback.extract_tb(error.__traceback__)
    if not isinstance(error, ValueError) or not places[-1].filename.endswith("jax/_src/config.py"):
        return None
    text = str(error)
    named = [
        f"{name}={value}"
        for name, value in os.environ.items()
        if name.startswith("JAX_") and (name.lower() in text.lower() or repr(value) in text)
    ]
    return f"{', '.join(named) or 'the environment'}: JAX cannot read this ({describe(error)})"


def check_devices() -> None:
    """Starts JAX's devices.

    Raises:
      UsageError: where those that `JAX_PLATFORMS` or `JAX_NUM_CPU_DEVICES` ask for are not there.
    """
    import jax

    if jax.config.values["jax_num_cpu_devices"] == 0:
        raise UsageError("JAX_NUM_CPU_DEVICES=0: a number from 1 is accepted")

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        why = (str(error).splitlines() or ["JAX is installed without it"])[0].partition(" (set ")[0]
        cuda = "; for cuda, pip install 'jax[cuda13]'" if "cuda" in asked else ""
        raise UsageError(
            f"JAX_PLATFORMS={asked} cannot be used here ({why}); accepted: cpu, or nothing for what "
            f"there is{cuda}"
        ) from error


def check_precision() -> None:
    """Raises UsageError where JAX computes in double precision: a run would be another one."""
    import jax.numpy as jnp

    if jnp.result_type(float) == jnp.float64:
        raise UsageError(
            "runs compute in float32, and jax_enable_x64 is on: jax.config.update('jax_enable_x64', "
            "False) or `with jax.enable_x64(False):` turns it off"
        )


def _open_streams() -> None:
    """Opens what is closed of stdin, stdout and stderr: else the next file that is opened would be it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _use_utf8() -> None:
    """Starts the program once more, in UTF-8 mode, where names and files were in another encoding."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
