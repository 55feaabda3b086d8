"""Errors for people: one line with what was given, what is accepted, and the nearest match."""

import difflib
import signal
from collections.abc import Iterable


class UsageError(Exception):
    """Something was asked for that cannot be done as asked: a command line exits with 2."""


class RunError(Exception):
    """Something failed while it ran: a command line exits with 1."""


class Stopped(Exception):  # noqa: N818
    """A signal ended the run, which is saved: a command line exits with 128 + its number."""

    def __init__(self, number: signal.Signals, message: str):
        super().__init__(message)
        self.number = number


def nearest(given: str, accepted: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the closest accepted name, or `""` where none is close."""
    close = difflib.get_close_matches(given, sorted(accepted), n=5, cutoff=0.5)
    if not close:
        return ""
    # Swapped letters are the commonest slip; otherwise the best match is the first.
    swapped = [name for name in close if sorted(name) == sorted(given)]
    return f"; did you mean {(swapped or close)[0]!r}?"
