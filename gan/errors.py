"""Errors for people: one line, with what was given, what is accepted and the nearest match."""

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """What was asked for cannot be done as asked: a command line exits with 2."""


class RunError(Exception):
    """Something failed while it ran: a command line exits with 1."""


def nearest(given: str, accepted: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the closest accepted name, or `""` where none is close."""
    matches = difflib.get_close_matches(given, list(accepted), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
