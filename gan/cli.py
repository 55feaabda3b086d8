"""Shared by all command lines: `--config` with overrides, and errors as one line."""

import argparse
import contextlib
import contextvars
import logging
import os
import pathlib
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from absl import logging as absl_logging

from gan import environment, parts, user_cache
from gan.errors import (
    RunError,
    Stopped,
    Terminated,
    UsageError,
    describe,
    printable,
    printable_lines,
)
from gan.files import cache_folder

LABEL: contextvars.ContextVar[str] = contextvars.ContextVar("label", default="")
"""What each message in the log begins with: of several runs in a process, which one it is of."""


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Runs a command line.

    Its exit code is 0, 2 for misuse, 1 for a failure, 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    try:
        environment.prepare()
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                signal.signal(number, _terminate)  # what is half-written is then deleted
        quiet_tensorflow()
        _cache_compiled()
        user_cache.trim()
        main(sys.argv[1:])
        sys.stdout.flush()  # where nothing can be written, that is a failure
    except UsageError as error:
        _end(2, f"error: {error}")
    except RunError as error:
        _end(1, f"failed: {error}")
    except BrokenPipeError:  # `... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Stopped as stopped:
        _end(128 + stopped.number)  # it was logged
    except KeyboardInterrupt:
        _end(128 + signal.SIGINT, "interrupted")
    except Exception as error:  # noqa: BLE001
        if type(error).__name__ == "AsyncError" and isinstance(error.__cause__, Exception):
            error = error.__cause__  # CLU's, around what a writer has raised
        if (misread := environment.misread_variable(error)) is not None:
            _end(2, f"error: {misread}")
        # A full disk, a device out of memory, someone's own part. All else is a mistake of ours: show
        # where it is.
        in_part = parts.reason(error)
        expected = in_part is not None or isinstance(error, OSError | RuntimeError)
        if os.environ.get("GAN_TRACEBACK") or not expected:
            traceback.print_exception(error)
        reason = in_part or describe(error)
        _end(1, f"failed: {reason}" + (" (GAN_TRACEBACK=1 shows where)" if expected else ""))


def quiet_tensorflow() -> None:
    """Keeps TensorFlow, which only writes event files here, from greeting; before its import."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def _cache_compiled() -> None:
    """Has JAX read what was compiled once; by machine, since home folders are shared."""
    compiled = cache_folder("compiled", platform.node())
    try:
        compiled.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(compiled, os.W_OK):
        return  # JAX would warn each time
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(128 + number)


def _end(code: int, message: str = "") -> NoReturn:
    """Ends the program now, without waiting for threads that still work or hang."""
    with contextlib.suppress(OSError):  # nobody may read it any more
        if message:
            print(f"{os.path.basename(sys.argv[0])}: {printable(message)}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Makes a parser whose help shows a script's docstring as it is written."""
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_parts_flag(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that names files with parts of one's own."""
    parser.add_argument(
        "--parts",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="files or modules with parts of your own; see docs/extending.md",
    )


def load_parts(names: Sequence[str]) -> None:
    """Loads the files and modules that the flag names.

    Raises:
      UsageError: see `gan.parts.load`.
    """
    parts.load((), names)


def parse_with_overrides(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parses a command line in which `--config.KEY=VALUE` or `--config.KEY VALUE` changes a key.

    Returns:
      The parsed flags, and the overrides by key.
    """
    plain, overrides = [], {}
    rest = list(argv)
    while rest:
        item = rest.pop(0)
        if not item.startswith("--config."):
            plain.append(item)
            continue
        key, equals, value = item.removeprefix("--config.").partition("=")
        if not equals:
            if not rest:
                parser.error(f"{item}: a value is missing")
            value = rest.pop(0)
        overrides[key] = value
    return parser.parse_args(plain), overrides


class _TerminalFilter(logging.Filter):
    """Passes messages of our own files and a user's; of libraries, warnings and CLU's artifacts."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether a message is shown."""
        library = _library(pathlib.PurePath(record.pathname))
        if library[:1] == ("orbax",):  # what fails there is raised, and told in a line
            return False
        shown = library[:1] in ((), ("gan",)) or library[:2] == ("clu", "platform")
        return shown or record.levelno >= logging.WARNING


class _PrintableFormatter(logging.Formatter):
    """Formats messages of one or more lines, in which all that no terminal shows is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the text of a message."""
        record.label = f"{LABEL.get()}: " if LABEL.get() else ""
        return printable_lines(super().format(record))


def _library(path: pathlib.PurePath) -> tuple[str, ...]:
    """Returns the path within the folder of installed packages; empty for a file from elsewhere."""
    parts = path.parts
    places = [i for i, part in enumerate(parts) if part in ("site-packages", "dist-packages")]
    return parts[places[-1] + 1 :] if places else ()


def log_to_terminal() -> None:
    """Shows the log on stderr, a line with its time for each message."""
    handler = logging.StreamHandler()
    handler.setFormatter(_PrintableFormatter("%(asctime)s %(label)s%(message)s", "%H:%M:%S"))
    handler.addFilter(_TerminalFilter())
    absl_logging.set_verbosity(absl_logging.INFO)
    logger = absl_logging.get_absl_logger()
    logger.handlers = [handler]
    logger.propagate = False
