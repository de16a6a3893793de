"""Tables that wrap their cells on a terminal and print one line per row elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import click

__all__ = ["one_line", "print_table"]

_STYLES = {
    "ok": "green",
    "warning": "yellow",
    "blocked": "yellow",
    "failed": "red",
    "incompatible": "red",
    "error": "red",
}


def print_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], below: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Print a table; cells are wrapped only on a terminal.

    Args:
        titles: Titles of the columns.
        rows: The cells.
        below: Maps the title of a column to the titles of other columns. On a terminal, the values of these other columns are
            printed in the cells of the column, below the column's own values.

    Example:
        >>> print_table(("name", "status"), [("shout", "ok")])
        NAME   STATUS
        shout  ok
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_for_people(titles, cells, below or {})
        return
    lines = [[title.upper() for title in titles], *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def one_line(text: str) -> str:
    r"""Remove line breaks and control characters from a plugin's text.

    Example:
        >>> one_line("one\ntwo \x1b[2J")
        'one two [2J'
    """
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _print_for_people(
    titles: Sequence[str], rows: Sequence[Sequence[str]], below: Mapping[str, Sequence[str]]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lower = {title for under in below.values() for title in under}
    columns = [title for title in titles if title not in lower]
    table = Table(box=None, pad_edge=False)
    for title in columns:
        # A status is short and must not be wrapped.
        table.add_column(title.upper(), overflow="fold", no_wrap=title == "status")
    before = ""
    for row in rows:
        values = dict(zip(titles, row, strict=True))
        cells = []
        for title in columns:
            repeated = title == titles[0] and values[title] == before
            cell = Text("" if repeated else values[title], style=_STYLES.get(values[title], ""))
            more = " ".join(filter(None, (values[each] for each in below.get(title, ()))))
            if more:
                cell.append(f"\n{more}" if cell else more, style="dim")
            cells.append(cell)
        before = values[titles[0]]
        table.add_row(*cells)
    Console().print(table)
