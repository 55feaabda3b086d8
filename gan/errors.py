"""Errors for people: one line with what was given, what is accepted, and the nearest match."""

import difflib
import signal
import traceback
from collections.abc import Collection, Iterable

_LONG = 300  # characters of a value in a message


class UsageError(Exception):
    """Something was asked for that cannot be done as asked: a command line exits with 2."""


class RunError(Exception):
    """Something failed while it ran: a command line exits with 1."""


class NotFiniteError(RunError):
    """A run that diverged: its numbers, or its samples, are not finite."""


class Stopped(Exception):  # noqa: N818
    """A signal ended the run, which is saved: a command line exits with 128 + its number."""

    def __init__(self, number: signal.Signals, message: str):
        super().__init__(message)
        self.number = number


class Terminated(SystemExit):
    """A signal ended a program that has nothing to save: no code of a user's called `sys.exit`."""


def nearest(given: str, accepted: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the closest accepted name, or `""` where none is close."""
    close = difflib.get_close_matches(given, sorted(accepted), n=5, cutoff=0.5)
    if not close:
        return ""
    # Swapped letters are the commonest slip; otherwise the best match is the first.
    swapped = [name for name in close if sorted(name) == sorted(given)]
    return f"; did you mean {(swapped or close)[0]!r}?"


def brief(value: object) -> str:
    """Shows what was given in a message: what is long is cut in the middle."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no integer of more than 4,300 digits
        return f"a very large {type(value).__name__}"
    return text if len(text) <= _LONG else f"{text[: _LONG // 2]}...{text[-_LONG // 4 :]}"


def printable(text: str) -> str:
    """Returns a text in which all that no terminal shows is escaped.

    Names of files hold any bytes, and files of strangers what would move the cursor or change the colours.
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """Returns a text of lines, in each of which all that no terminal shows is escaped."""
    return "\n".join(map(printable, text.split("\n")))


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's text, cut where it is long."""
    line = (str(error).strip().splitlines() or [""])[0]
    return line if len(line) <= 2 * _LONG else f"{line[: 2 * _LONG]}..."


def describe(error: BaseException) -> str:
    """Describes an error in one line: its type, unless it is one for people, and its first line."""
    text = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, UsageError | RunError):
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def describe_in(files: Collection[str], error: BaseException) -> str | None:
    """Describes an error in one line that begins with the last place in some files it came through.

    Returns None where it came through none of them.
    """
    if isinstance(error, SyntaxError) and error.filename in files:
        return f"{error.filename}, line {error.lineno}: SyntaxError: {error.msg}"
    places = [place for place in traceback.extract_tb(error.__traceback__) if place[0] in files]
    return f"{places[-1][0]}, line {places[-1][1]}: {describe(error)}" if places else None
