"""The tqdm bar that :class:`~glowplug_progress.display.Display` opens."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm

from glowplug_progress.printing import print_above

KNOWN_TOTAL = (
    "{desc}[{n_fmt}/{total_fmt}] {percentage:3.0f}%|{bar}{postfix} [{elapsed}<{remaining}, {rate_fmt}]"
)
UNKNOWN_TOTAL = "{desc}[{n_fmt}/?]{postfix} [{elapsed}, {rate_fmt}]"


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
        super().__init__(**settings)
        if not self.disable and not self._is_widget:
            self._stop_printing_above = print_above(settings.get("file") or sys.stderr)

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
            with self.get_lock():
                super().close()
                # If other bars were above this one, tqdm leaves the cursor at the end of the line.
                self.fp.write("\r")
            if last:
                self.write(last, file=self.fp)
            if self._stop_printing_above is not None:
                self._stop_printing_above()
