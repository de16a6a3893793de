"""Plain text tables with aligned columns."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], text_columns: Sequence[int]) -> str:
    """Return rows in aligned columns.

    Args:
        rows: The cells; all rows have the same number.
        text_columns: Numbers of the columns that are aligned to the left, counted from 0; others are aligned to the right.

    Example:
        >>> print(aligned([["handler", "total"], ["save", "1.25"]], text_columns=[0]))
        handler  total
        save      1.25
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number in text_columns else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def as_text(value: object) -> str:
    """Return a cell for a number of seconds, for a pair of seconds and an index, or for text.

    Example:
        >>> as_text(0.25), as_text((0.5, 3)), as_text("not triggered"), as_text("None")
        ('0.25000', '0.50000/3', 'not triggered', '')
    """
    if isinstance(value, tuple):
        seconds, index = value
        return "" if isinstance(seconds, str) else f"{seconds:.5f}/{index}"
    if isinstance(value, str):
        return "" if value == "None" else value
    return f"{value:.5f}"
