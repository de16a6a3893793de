"""Table of the handlers that are attached to an engine, as plain text or HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from io import StringIO
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from glowplug.engine._call import describe_handler, owner_of
from glowplug.engine._channel import Channel
from glowplug.engine._registration import Registration
from glowplug.events import Between, EventFilter, Every, EverySeconds, Once
from glowplug.plugins import Registry, get_registry

EMPTY = "Nothing is attached to this engine."
WIDTH = 10_000
"""Width of the console, wide enough that no table is wrapped or truncated."""


class Row(NamedTuple):
    """A row of the table: one handler at one event."""

    event: str
    phase: str
    filter: str
    handler: str
    origin: str


COLUMNS = ("event", "phase", "filter", "handler", "from")


def rows_of(channels: Iterable[Channel]) -> list[Row]:
    """Return a row for each registration, in calling order.

    Plugins are loaded only if there are registrations.

    Args:
        channels: The events of an engine, in display order.
    """
    found = [each for channel in channels for each in channel.registrations]
    if not found:
        return []
    registry = get_registry()
    return [_row(registration, registry) for registration in found]


def as_text(rows: Sequence[Row]) -> str:
    """Return rows as plain text in aligned columns.

    Example:
        >>> print(as_text([Row("Events.STARTED", "user", "", "greet", "__main__")]))
        event           phase  filter  handler  from
        Events.STARTED  user           greet    __main__
    """
    if not rows:
        return EMPTY
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column)
    for row in rows:
        # rich would parse plain strings as markup.
        table.add_row(*map(Text, row))
    page = StringIO()
    # In a notebook, rich would display the table instead of writing it to the file.
    Console(file=page, width=WIDTH, color_system=None, force_terminal=False, force_jupyter=False).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def as_html(rows: Sequence[Row]) -> str:
    """Return rows as an HTML table with escaped cells.

    Example:
        >>> as_html([])
        '<p>Nothing is attached to this engine.</p>'
    """
    if not rows:
        return f"<p>{EMPTY}</p>"
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _row(registration: Registration, registry: Registry) -> Row:
    handler, owner = describe_handler(registration.handler), owner_of(registration.handler)
    plugin = registry.origin_of(owner)
    if plugin is not None:
        # The names of a plugin's private methods mean nothing to its users.
        handler = handler.partition("._")[0]
        origin = f"{plugin.name} ({plugin.distribution} {plugin.version})"
    else:
        origin = getattr(owner, "__module__", None) or type(owner).__module__
    return Row(
        event=str(registration.event),
        phase=registration.phase.name.lower(),
        filter=_describe_filter(registration.filter),
        handler=handler,
        origin=origin,
    )


def _describe_filter(event_filter: EventFilter | None) -> str:
    if event_filter is None:
        return ""
    known = isinstance(event_filter, (Every, Once, Between, EverySeconds))
    return str(event_filter) if known else f"event_filter={describe_handler(event_filter)}"
