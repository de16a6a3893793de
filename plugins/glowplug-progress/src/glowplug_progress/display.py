"""One bar at one engine: when it appears, moves and goes."""

from __future__ import annotations

import warnings
from typing import Any

from glowplug import Events, Phase, RemovableEventHandle, RunOutcome
from glowplug.distributed import rank
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_progress.bar import LazyBar
from glowplug_progress.counting import Counting, counting_of, opening_of
from glowplug_progress.postfix import Postfix


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
