"""The classes of a dataset in a few lines of text."""

import itertools
from collections.abc import Iterable, Sequence

_MAX_LISTED = 12  # classes that are listed with their counts


def describe_classes(names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Describes the classes of a dataset, in the order of their labels.

    Args:
      names: The name of each class.
      counts: The number of examples of each class.

    Returns:
      A line with names and counts, and a line that names classes without examples, if there are any.
    """
    counts = [int(count) for count in counts]
    head = "1 class" if len(names) == 1 else f"{len(names):,} classes"
    if len(names) <= _MAX_LISTED:
        each = ", ".join(f"{name} ({n:,})" for name, n in zip(names, counts, strict=True))
        lines = [f"{head}: {each}"]
    else:
        sizes = " to ".join(dict.fromkeys(f"{count:,}" for count in (min(counts), max(counts))))
        lines = [f"{head}: {', '.join(names[:3])}, ..., {names[-1]}; {sizes} examples of each"]
    if empty := [label for label, count in enumerate(counts) if not count]:
        has = "has" if len(empty) == 1 else "have"
        shown = ", ".join(_ranges(empty, names))
        lines.append(f"{len(empty):,} of {len(names):,} classes {has} no example: {shown}")
    return lines


def _ranges(labels: Iterable[int], names: Sequence[str]) -> list[str]:
    """Names classes; three or more in succession as `first..last`, and at most 12 such items."""
    items: list[str] = []
    runs = itertools.groupby(enumerate(labels), lambda pair: pair[1] - pair[0])
    for _, run in runs:
        own = [names[label] for _, label in run]
        items += own if len(own) < 3 else [f"{own[0]}..{own[-1]}"]
    return items if len(items) <= _MAX_LISTED else [*items[:_MAX_LISTED], "..."]
