"""The bars on one console of rich, and the ways to show them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol
from weakref import WeakValueDictionary

from rich import get_console
from rich.console import Console, RenderableType
from rich.live import Live
from rich.segment import Segment, Segments
from rich.text import Text

from glowplug_progress.printing import print_above

WIDE = 100
"""Columns of a terminal from which on bars are longer."""
NARROW_BAR, WIDE_BAR = 10, 20


class Row(Protocol):
    """A bar on the screen."""

    def cells(self, width: int, blocks: str) -> list[Text]:
        """Return the columns of the bar.

        Args:
            width: Number of columns of the terminal that the bar itself fills.
            blocks: Whole block, left half and right half.
        """


class RichScreen:
    """All open bars on one console, one below the other.

    rich redraws all of them together, so the bars of all handlers with the same console share one screen.

    Args:
        console: Console of rich.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._rows: list[Row] = []
        self._surface: Surface | None = None
        self._notebook = NotebookSurface() if console.is_jupyter else None

    def add(self, row: Row) -> None:
        """Show a bar below the other bars."""
        self._rows = [*self._rows, row]
        try:
            if self._surface is None:
                self._surface = self._notebook or _surface_of(self.console)
                self._surface.start(self._all_rows)
            else:
                self._surface.draw()
        except BaseException:
            # Ctrl-C may interrupt any redraw.
            self.remove(row)
            raise

    def remove(self, row: Row) -> None:
        """Remove a bar; with the last bar, release the terminal."""
        self._rows = [other for other in self._rows if other is not row]
        if self._surface is None:
            return
        if self._rows:
            self._surface.draw()
        else:
            surface, self._surface = self._surface, None
            surface.stop()

    def draw(self) -> None:
        """Draw the bars again."""
        if self._surface is not None:
            self._surface.draw()

    def print_line(self, line: Text) -> None:
        """Print a line above the bars."""
        if self.console.is_jupyter:
            print(line.plain)  # noqa: T201 - rich would make each line an output of its own
        else:
            # A long line is not wrapped, so that it remains one line in a file.
            self.console.print(line, soft_wrap=True)

    def print_row(self, row: Row) -> None:
        """Print the last state of a bar above the bars."""
        self.console.print(self._text([row]))

    def _all_rows(self) -> Text:
        return self._text(self._rows)

    def _text(self, rows: list[Row]) -> Text:
        """Return bars whose columns are aligned; a table of rich would take three times as long to draw."""
        width = NARROW_BAR if self.console.width < WIDE else WIDE_BAR
        blocks = "---" if self.console.options.ascii_only or self.console.legacy_windows else "━╸╺"
        table = [row.cells(width, blocks) for row in rows]
        widths = [max(cell.cell_len for cell in column) for column in zip(*table, strict=True)]
        lines = []
        for cells in table:
            # The last column has the values, which may need more than one line.
            for cell, width in zip(cells[:-1], widths, strict=False):
                cell.pad_right(width - cell.cell_len)
            lines.append(Text(" ").join(cells))
        return Text("\n").join(lines)


_screens: WeakValueDictionary[int, RichScreen] = WeakValueDictionary()


def screen_of(console: Console | None, file: Any) -> RichScreen:
    """Return the screen of a console, or of a file; without both, the screen of rich's global console.

    Example:
        >>> console = Console()
        >>> screen_of(console, None) is screen_of(console, None)
        True
    """
    if console is None and file is None:
        console = get_console()
    key = id(file if console is None else console)
    screen = _screens.get(key)
    if screen is None:
        screen = _screens[key] = RichScreen(_console_of(file) if console is None else console)
    return screen


def _console_of(file: Any) -> Console:
    console = Console(file=file)
    if not console.is_jupyter or file in (sys.stdout, sys.stderr):
        return console
    # In a notebook, rich writes to the cell instead of to the file. It also treats each file as a terminal, because ipykernel sets
    # FORCE_COLOR.
    return Console(file=file, force_jupyter=False, force_terminal=False)


class Surface(Protocol):
    """A way to show the bars of a console."""

    def start(self, bars: Callable[[], RenderableType]) -> None:
        """Show the bars that a function returns."""

    def draw(self) -> None:
        """Show the current bars."""

    def stop(self) -> None:
        """Remove the bars."""


def _surface_of(console: Console) -> Surface:
    # The console may write to a stream that has been replaced since it was created.
    can_redraw = console.is_interactive and console.is_terminal
    return TerminalSurface(console) if can_redraw else NoSurface()


class NoSurface:
    """A file, in which bars cannot be drawn again."""

    def start(self, bars: Callable[[], RenderableType]) -> None:
        """Show nothing."""

    def draw(self) -> None:
        """Show nothing."""

    def stop(self) -> None:
        """Show nothing."""


class TerminalSurface:
    """The last lines of a terminal.

    Args:
        console: Console of the terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._stop_printing_above: Callable[[], None] | None = None

    def start(self, bars: Callable[[], RenderableType]) -> None:
        """Show the bars that a function returns."""
        with self._lock:
            # Without a thread, the bars cannot be drawn in the middle of a fork, and values are read by the training thread.
            # Printed text is redirected by print_above(), which also finds log handlers that refer to the stream.
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                get_renderable=bars,
            )
            self._live.start(refresh=True)
            # A process that is killed could not show the cursor again.
            self._console.show_cursor(True)
        self._stop_printing_above = print_above(self._console.file, self)

    def draw(self) -> None:
        """Show the current bars."""
        if self._live is not None:
            with self._lock:
                self._live.refresh()

    def stop(self) -> None:
        """Remove the bars."""
        try:
            if self._live is not None:
                with self._lock:
                    self._live.stop()
        finally:
            if self._stop_printing_above is not None:
                self._stop_printing_above()

    def lock(self) -> AbstractContextManager[Any]:
        """Return the lock that a thread holds while it draws."""
        return self._lock

    def is_drawing(self) -> bool:
        """Return whether this thread writes the output of the console, which includes the bars."""
        return bool(self._console._lock._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001 - threading.Condition relies on this method as well

    def print_lines(self, lines: str, stream: Any, write: Callable[[str], Any]) -> None:
        """Print whole lines above the bars, with their control codes."""
        self._console.print(Segments([Segment(lines)]), end="", crop=False)


class NotebookSurface:
    """An output of a notebook's cell, which is replaced at each redraw.

    A cell has one output for bars, also if the last bar closes and another bar opens.
    """

    def __init__(self) -> None:
        self._cell: int | None = None

    def start(self, bars: Callable[[], RenderableType]) -> None:
        """Show the bars that a function returns."""
        from IPython import get_ipython
        from IPython.display import display

        self._bars = bars
        cell = get_ipython().execution_count
        if cell == self._cell:
            self.draw()
        else:
            show: Callable[..., Any] = display
            self._cell, self._output = cell, show(bars(), display_id=True)

    def draw(self) -> None:
        """Show the current bars."""
        self._output.update(self._bars())

    def stop(self) -> None:
        """Remove the bars."""
        self._output.update(Text())
