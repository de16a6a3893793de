"""Printed lines that appear above the open bars."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm


class LinesAbove:
    r"""Replacement for the ``write`` method of a stream; prints whole lines above the open bars.

    Only the method is replaced, not the stream. Therefore, a ``logging.StreamHandler`` with a reference to the stream also prints
    above the bars. Code that replaces ``sys.stdout`` still works. Text without a newline at its end is printed when its line is
    completed or when the last bar closes.

    Args:
        stream: Stream with a ``write`` method, which :meth:`open` replaces and :meth:`close` restores.

    Example:
        >>> import io
        >>> stream = io.StringIO()
        >>> lines = LinesAbove(stream)
        >>> lines.open()
        >>> print("loss:", end=" ", file=stream)
        >>> stream.getvalue()
        ''
        >>> print(0.5, file=stream)
        >>> stream.getvalue()
        'loss: 0.5\n'
        >>> lines.close()
    """

    def __init__(self, stream: Any) -> None:
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
        with tqdm.get_lock():
            if not self._bars:
                self._stream.write = self
            self._bars += 1

    def close(self) -> None:
        """Unregister a bar; restore the ``write`` method if no other bar is open."""
        with tqdm.get_lock():
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
        if not self._bars or not text or _is_drawing() or not self._is_same_process():
            return self._write(text)
        with tqdm.get_lock():
            lines, end, self._unfinished = (self._unfinished + text).rpartition("\n")
            if end:
                with tqdm.external_write_mode(file=self._stream, nolock=True):
                    self._write(lines + end)
                    # Flush before the bars are redrawn below the lines: the bars may use another stream.
                    self._stream.flush()
        return len(text)

    def _is_same_process(self) -> bool:
        # A forked worker process must not wait for a lock that its parent holds.
        return os.getpid() == self._process


def print_above(screen: Any) -> Callable[[], None]:
    """Make the text that this process prints to a screen appear above the bars on that screen.

    Args:
        screen: File object to which tqdm draws a bar.

    Returns:
        A function to call when the bar is closed.
    """
    opened = []
    for stream in (sys.stdout,) if sys.stdout is sys.stderr else (sys.stdout, sys.stderr):
        if stream is None or not _is_same_screen(stream, screen):
            continue
        lines = stream.write if isinstance(stream.write, LinesAbove) else LinesAbove(stream)
        try:
            lines.open()
        except AttributeError:
            continue
        opened.append(lines)

    def close() -> None:
        for lines in opened:
            lines.close()

    return close


def _is_drawing() -> bool:
    """Return whether this thread holds the lock that tqdm uses to draw bars and to print lines above the bars."""
    return bool(tqdm.get_lock().th_lock._is_owned())  # noqa: SLF001 - threading.Condition relies on this method as well


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
