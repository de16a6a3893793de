"""The tqdm bar of one engine: when it opens, advances and closes."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm

from glowplug import Events, Phase, RemovableEventHandle, RunOutcome
from glowplug.distributed import rank
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_progress.counting import Counting, counting_of, opening_of
from glowplug_progress.postfix import Postfix

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


class Display:
    """Shows how far one engine is.

    Args:
        event: the plain event at which the bar moves.
        closing: the event at which it closes.
        postfix: makes the text behind it.
        settings: what tqdm takes.
    """

    phase = Phase.LOGGING

    def __init__(self, event: Events, closing: Events, postfix: Postfix, settings: dict[str, Any]) -> None:
        self._opening, self._closing = opening_of(event, closing), closing
        self._kind = counting_of(event, closing)
        self._postfix = postfix
        self._settings = settings
        self._counting: Counting | None = None
        self._bar: LazyBar | None = None

    def attach(self, engine: EngineProtocol, event: AnyEvent) -> RemovableEventHandle:
        """Open, move and close the bar with the engine's events; ``event`` may be filtered."""
        return RemovableEventHandle.join(
            self.close_with(engine),
            engine.add_event_handler(self._opening, self._begin),
            engine.add_event_handler(event, self.show),
        )

    def close_with(self, engine: EngineProtocol) -> RemovableEventHandle:
        """Only close with the engine's events, where somebody else calls :meth:`show`, which opens the bar."""
        return RemovableEventHandle.join(
            RemovableEventHandle(self._close),
            engine.add_event_handler(self._closing, self._complete),
            engine.add_event_handler(Events.INTERRUPT, self._close),
            engine.add_event_handler(Events.TEARDOWN, self._tear_down),
        )

    def show(self, engine: EngineProtocol) -> None:
        """Move the bar to where the engine is; it redraws itself when it is time to."""
        bar, counting = self._bar, self._counting
        if bar is None or counting is None:
            bar, counting = self._open(engine)
        if bar.total is None:
            bar.total = counting.total(engine.state)
        bar.update(counting.done(engine.state) - bar.n)
        if bar.n == bar.total:  # it may stand there for long, while others run
            bar.refresh()

    def _begin(self, engine: EngineProtocol) -> None:
        self._end()
        self._open(engine)

    def _end(self) -> None:
        self._close()
        self._counting = None

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _open(self, engine: EngineProtocol) -> tuple[LazyBar, Counting]:
        state = engine.state
        # What interrupt() closed goes on with the same count.
        counting = self._counting = self._counting or self._kind(state)
        settings = {"total": counting.total(state), "initial": counting.done(state), **self._settings}
        settings["desc"] = f"{counting.title(state, self._settings.get('desc'))}: "
        if rank() != 0:
            settings["disable"] = True
        bar = self._bar = LazyBar(lambda: self._postfix(state), **settings)
        return bar, counting

    def _complete(self, engine: EngineProtocol) -> None:
        if self._bar is not None and self._counting is not None and self._counting.exact_at_close:
            self._bar.update(self._counting.done(engine.state) - self._bar.n)
        self._end()

    def _tear_down(self, engine: EngineProtocol) -> None:
        self._end()
        missing = self._postfix.missing(engine.state)
        if missing and rank() == 0 and engine.state.outcome is RunOutcome.COMPLETED:
            warnings.warn(
                f"ProgressBar was to show {', '.join(map(repr, missing))}, but the run ended without; there are the "
                f"metrics {list(engine.state.metrics)}",
                GlowplugWarning,
                stacklevel=2,
            )
