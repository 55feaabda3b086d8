"""Tables of text: aligned with spaces for a terminal, or in Markdown."""

from collections.abc import Sequence


def format_table(rows: Sequence[Sequence[str]], align: str) -> str:
    """Aligns the columns of rows of text, two spaces apart.

    Args:
      rows: All with as many cells.
      align: A letter for each column: `l`, left, or `r`, right.

    >>> print(format_table([["", "fid"], ["adam", "12.5"]], "lr"))
           fid
    adam  12.5
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    justify = {"l": str.ljust, "r": str.rjust}
    return "\n".join(
        "  ".join(
            justify[side](cell, width) for side, cell, width in zip(align, row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def format_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Formats rows as a Markdown table; the first is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
