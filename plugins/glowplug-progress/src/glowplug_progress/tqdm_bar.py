"""Bars that tqdm draws."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

from tqdm import TqdmWarning

from glowplug_progress.printing import print_above
from glowplug_progress.style import BarSettings, Span

with warnings.catch_warnings():
    # In a notebook without ipywidgets, tqdm warns that it shows bars as text.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

KNOWN_TOTAL = (
    "{desc}[{n_fmt}/{total_fmt}] {percentage:3.0f}%|{bar}{postfix} [{elapsed}<{remaining}, {rate_fmt}]"
)
UNKNOWN_TOTAL = "{desc}[{n_fmt}/?]{postfix} [{elapsed}, {rate_fmt}]"


class TqdmDrawing:
    """The lock of tqdm, and its way to print lines above its bars."""

    def lock(self) -> AbstractContextManager[Any]:
        """Return the lock that a thread holds while it draws."""
        lock: AbstractContextManager[Any] = tqdm.get_lock()
        return lock

    def is_drawing(self) -> bool:
        """Return whether this thread is drawing bars or printing lines above them."""
        return bool(tqdm.get_lock().th_lock._is_owned())  # noqa: SLF001 - threading.Condition relies on this method as well

    def print_lines(self, lines: str, stream: Any, write: Callable[[str], Any]) -> None:
        """Print whole lines above the open bars."""
        with tqdm.external_write_mode(file=stream, nolock=True):
            write(lines)
            # Flush before the bars are redrawn below the lines: the bars may use another stream.
            stream.flush()


DRAWING = TqdmDrawing()


class LazyBar(tqdm):  # type: ignore[misc]  # tqdm has no type annotations
    r"""tqdm bar that computes its postfix only when it redraws, about ten times a second.

    While the bar is open, lines that the process prints appear above the bar.

    Args:
        text: Function that returns the postfix, such as ``"loss=0.5"``. Only the thread that created the bar calls this
            function. If tqdm's monitor thread redraws the bar, the last text is shown again.
        **settings: Options of tqdm. Without ``bar_format``, the format depends on whether the total is known.

    Example:
        >>> import io
        >>> screen = io.StringIO()
        >>> with LazyBar(lambda: "loss=0.5", total=4, ncols=60, file=screen, leave=True) as bar:
        ...     _ = bar.update(2)
        >>> screen.getvalue().split("\r")[-1].strip()[:8]
        '[2/4]  5'
    """

    # tqdm sets these attributes.
    leave: bool | None
    total: float | None
    _stop_printing_above: Callable[[], None] | None = None

    def __init__(self, text: Callable[[], str], **settings: Any) -> None:
        self._text = text
        self._shown = ""
        self._owner = threading.get_ident()
        try:
            super().__init__(**settings)
            if not self.disable and not self._is_widget:
                self._stop_printing_above = print_above(settings.get("file") or sys.stderr, DRAWING)
        except BaseException:
            # Ctrl-C may interrupt any redraw.
            self._erase()
            raise

    @property
    def _is_widget(self) -> bool:
        # A notebook's bar has a container instead of a line.
        return hasattr(self, "container")

    @property
    def format_dict(self) -> dict[str, Any]:
        """Fields that tqdm draws, with the current postfix."""
        if threading.get_ident() == self._owner:
            self._shown = self._text()
        fields: dict[str, Any] = super().format_dict
        fields["postfix"] = self._shown
        fields["bar_format"] = fields["bar_format"] or (UNKNOWN_TOTAL if self.total is None else KNOWN_TOTAL)
        return fields

    def follow(self, total: int | None) -> None:
        """Set a new total, because the previous total may have been an estimate."""
        if total == self.total:
            return
        self.total = total
        if total and self._is_widget:
            self.container.children[1].max = total

    def close(self) -> None:
        """Close the bar; with ``leave=True``, print its last line above the bars that are still open."""
        if getattr(self, "disable", True) or self._is_widget:
            super().close()
            return
        leave, self.leave, last = self.leave, False, ""
        try:
            last = str(self) if leave else ""
        finally:
            try:
                self._remove(last)
            finally:
                if self._stop_printing_above is not None:
                    self._stop_printing_above()

    def _remove(self, last: str) -> None:
        """Remove the bar from the screen, and print its last line, if any, above the other bars."""
        with self.get_lock():
            try:
                super().close()
            except BaseException:
                self._erase()
                raise
            # If other bars were above this one, tqdm leaves the cursor at the end of the line.
            self.fp.write("\r")
        if last:
            self.write(last, file=self.fp)

    def _erase(self) -> None:
        """Remove a bar whose opening or closing was interrupted."""
        # tqdm may not have set all attributes yet.
        with suppress(AttributeError), self.get_lock():
            self.disable = False
            self.clear(nolock=True)
            self._decr_instances(self)
        self.disable = True


class TqdmStyle:
    r"""Style of bars that tqdm draws.

    Args:
        options: Options of tqdm.
        only_lines: Whether to show no bars, but only lines, if the bars would be written to a file.

    Example:
        >>> import io
        >>> file = io.StringIO()
        >>> style = TqdmStyle({"file": file}, only_lines=True)
        >>> bar = style.open_bar(BarSettings("Epoch [1/2]", "it", 100, 0, lambda: ""))
        >>> style.print_spans([Span("Epoch [1/2]", "title"), Span(" loss=0.5")])
        >>> bar.close()
        >>> file.getvalue()
        'Epoch [1/2] loss=0.5\n'
    """

    def __init__(self, options: dict[str, Any], *, only_lines: bool) -> None:
        self._options = options
        self._only_lines = only_lines
        self.has_fixed_total = "total" in options

    def open_bar(self, settings: BarSettings) -> LazyBar:
        """Open a bar."""
        options = {
            "total": settings.total,
            "initial": settings.done,
            "unit": settings.unit,
            **self._options,
            "desc": f"{settings.title}: ",
        }
        if settings.is_nested:
            options["leave"] = False
        if settings.is_hidden or (self._only_lines and not self._can_redraw()):
            options["disable"] = True
        return LazyBar(settings.text, **options)

    def print_message(self, message: str) -> None:
        """Print a line of the user above the open bars."""
        LazyBar.write(message, file=self._options.get("file"))

    def print_spans(self, spans: Sequence[Span]) -> None:
        """Print a line above the open bars, on the screen on which tqdm draws bars."""
        if not self._options.get("disable"):
            LazyBar.write("".join(span.text for span in spans), file=self._screen())

    def _screen(self) -> Any:
        # A notebook shows the text of sys.stderr as an error.
        return self._options.get("file") or (sys.stdout if _is_notebook() else sys.stderr)

    def _can_redraw(self) -> bool:
        screen = self._screen()
        if _is_notebook() and screen in (sys.stdout, sys.stderr):
            return True
        return hasattr(screen, "isatty") and screen.isatty()


def _is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    return "ipykernel.zmqshell" in sys.modules
