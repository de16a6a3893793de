"""Printed lines that appear above the open bars."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Drawing(Protocol):
    """The part of a library that draws bars on a screen."""

    def lock(self) -> AbstractContextManager[Any]:
        """Return the lock that a thread holds while it draws."""

    def is_drawing(self) -> bool:
        """Return whether this thread is drawing bars or printing lines above them."""

    def print_lines(self, lines: str, stream: Any, write: Callable[[str], Any]) -> None:
        """Print whole lines above the open bars.

        Args:
            lines: The lines, with a newline at the end.
            stream: Stream to which the lines were printed.
            write: The original ``write`` method of the stream.
        """


class LinesAbove:
    r"""Replacement for the ``write`` method of a stream; prints whole lines above the open bars.

    Only the method is replaced, not the stream. Therefore, a ``logging.StreamHandler`` with a reference to the stream also prints
    above the bars. Code that replaces ``sys.stdout`` still works. Text without a newline at its end is printed when its line is
    completed or when the last bar closes.

    Args:
        stream: Stream with a ``write`` method, which :meth:`open` replaces and :meth:`close` restores.
        drawing: The library that draws the bars.

    Example:
        >>> import io
        >>> from glowplug_progress.tqdm_bar import TqdmDrawing
        >>> stream = io.StringIO()
        >>> lines = LinesAbove(stream, TqdmDrawing())
        >>> lines.open()
        >>> print("loss:", end=" ", file=stream)
        >>> stream.getvalue()
        ''
        >>> print(0.5, file=stream)
        >>> stream.getvalue()
        'loss: 0.5\n'
        >>> lines.close()
    """

    def __init__(self, stream: Any, drawing: Drawing) -> None:
        self.drawing = drawing
        self._stream = stream
        self._write: Callable[[str], Any] = stream.write
        self._is_inherited = "write" not in getattr(stream, "__dict__", ())
        self._unfinished = ""
        self._bars = 0
        self._process = os.getpid()

    def open(self) -> None:
        """Register an open bar; the first call replaces the stream's ``write`` method.

        Raises:
            AttributeError: If the method of the stream cannot be replaced.
        """
        with self.drawing.lock():
            if not self._bars:
                self._stream.write = self
            self._bars += 1

    def close(self) -> None:
        """Unregister a bar; restore the ``write`` method if no other bar is open."""
        with self.drawing.lock():
            self._bars -= 1
            if self._bars:
                return
            # If another library has replaced the method in the meantime, do not restore the method: the library's replacement
            # calls this object, which then forwards the text.
            if self._stream.write is self:
                if self._is_inherited:
                    del self._stream.write
                else:
                    self._stream.write = self._write
            if self._unfinished and self._is_same_process():
                self._write(self._unfinished)
            self._unfinished = ""

    def __call__(self, text: str) -> Any:
        """Write all lines that the text completes, and retain the rest."""
        if not self._bars or not text or self.drawing.is_drawing() or not self._is_same_process():
            return self._write(text)
        with self.drawing.lock():
            lines, end, self._unfinished = (self._unfinished + text).rpartition("\n")
            if end:
                self.drawing.print_lines(lines + end, self._stream, self._write)
        return len(text)

    def _is_same_process(self) -> bool:
        # A forked worker process must not wait for a lock that its parent holds.
        return os.getpid() == self._process


def print_above(screen: Any, drawing: Drawing) -> Callable[[], None]:
    """Make the text that this process prints to a screen appear above the bars on that screen.

    Args:
        screen: File object to which a library draws bars.
        drawing: The library.

    Returns:
        A function to call when the bar is closed.
    """
    opened = []
    for stream in (sys.stdout,) if sys.stdout is sys.stderr else (sys.stdout, sys.stderr):
        if stream is None or not _is_same_screen(stream, screen):
            continue
        current: Any = stream.write
        is_shared = isinstance(current, LinesAbove) and current.drawing is drawing
        lines = current if is_shared else LinesAbove(stream, drawing)
        try:
            lines.open()
        except AttributeError:
            continue
        opened.append(lines)

    def close() -> None:
        for lines in opened:
            lines.close()

    return close


def _is_same_screen(first: Any, second: Any) -> bool:
    if first is second:
        return True
    try:
        if first.isatty() and second.isatty():
            return True
        return os.path.sameopenfile(first.fileno(), second.fileno())
    except (AttributeError, OSError, ValueError):
        # A file in memory has no descriptor.
        return False
