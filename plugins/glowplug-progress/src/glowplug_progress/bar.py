"""A tqdm bar that asks for its text when it is drawn, and not before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm

KNOWN = "{desc}[{n_fmt}/{total_fmt}] {percentage:3.0f}%|{bar}{postfix} [{elapsed}<{remaining}]"
UNKNOWN = "{desc}[{n_fmt}/?]{postfix} [{elapsed}, {rate_fmt}]"


class LazyBar(tqdm):  # type: ignore[misc]  # tqdm ships no types
    r"""A bar with a text behind it that may be costly: it is asked for at each redraw, some ten times a second.

    Args:
        text: returns what to show, such as ``"loss=0.5"``. Called by the thread that made the bar only; tqdm's own
            thread, which redraws bars that stand still, shows the last text again.
        **settings: what tqdm takes. Without ``bar_format`` the format depends on whether the total is known.

    Example:
        >>> import io
        >>> screen = io.StringIO()
        >>> with LazyBar(lambda: "loss=0.5", total=4, ncols=60, file=screen, leave=True) as bar:
        ...     _ = bar.update(2)
        >>> screen.getvalue().split("\r")[-1].strip()[:8]
        '[2/4]  5'
    """

    leave: bool | None  # set by tqdm

    def __init__(self, text: Callable[[], str], **settings: Any) -> None:
        self._text = text
        self._shown = ""
        self._owner = threading.get_ident()
        super().__init__(**settings)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What tqdm draws, with the text as it is now."""
        if threading.get_ident() == self._owner:
            self._shown = self._text()
        drawn: dict[str, Any] = super().format_dict
        drawn["postfix"] = self._shown
        drawn["bar_format"] = drawn["bar_format"] or (UNKNOWN if self.total is None else KNOWN)
        return drawn

    def close(self) -> None:
        """Close the bar; one that stays is written above all others, which are drawn anew."""
        if getattr(self, "disable", True) or hasattr(
            self, "container"
        ):  # notebooks keep bars in places of their own
            super().close()
            return
        stays, self.leave, last = self.leave, False, ""
        try:
            last = str(self) if stays else ""
        finally:
            super().close()
            self.fp.write("\r")  # tqdm leaves the cursor at the end of the line if others stood above
        if stays:
            self.write(last, file=self.fp)
