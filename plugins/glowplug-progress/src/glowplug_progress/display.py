"""The bar of one engine: when it opens, advances and closes."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

from glowplug import Events, Phase, RemovableEventHandle, RunOutcome, State
from glowplug.distributed import rank
from glowplug.engine import Delegate
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_progress.counting import Counter, Unit
from glowplug_progress.postfix import Postfix
from glowplug_progress.runs import Runs
from glowplug_progress.style import Bar, BarSettings, Style


class Display(Delegate):
    """Bar of one engine.

    Args:
        event: Event, without its filter, at which the bar advances.
        closing: Event at which the bar closes.
        postfix: Object that formats the text after the bar.
        style: Style that draws the bar.
        runs: Running engines that have the same progress bar.
        name: Name of the bar; ``None`` for the name of the unit.
    """

    phase = Phase.LOGGING

    def __init__(
        self, event: Events, closing: Events, postfix: Postfix, style: Style, runs: Runs, name: str | None
    ) -> None:
        self._unit = Unit.of(event, closing)
        self._closing = closing
        # The bar opens before the first unit, so that the elapsed time includes that unit.
        is_of_run = closing is Events.COMPLETED or event is Events.STARTED
        self._opening = Events.STARTED if is_of_run else Events.EPOCH_STARTED
        self._postfix = postfix
        self._style = style
        self._runs = runs
        self._name = name
        self._open_bar: tuple[Bar, Counter] | None = None
        self._leave: Callable[[], None] | None = None

    def attach(self, engine: EngineProtocol, event: AnyEvent) -> RemovableEventHandle:
        """Open, advance and close the bar at the engine's events.

        Args:
            engine: Engine whose progress the bar shows.
            event: Event at which the bar advances, with or without a filter.

        Returns:
            A handle that closes and removes the bar.
        """
        return RemovableEventHandle.join(
            self.attach_closing(engine),
            engine.add_event_handler(self._opening, self._begin),
            engine.add_event_handler(event, self.show),
        )

    def attach_closing(self, engine: EngineProtocol) -> RemovableEventHandle:
        """Attach only the handlers that close the bar; the caller opens the bar with :meth:`show`."""
        return RemovableEventHandle.join(
            RemovableEventHandle(self._end),
            engine.add_event_handler(self._closing, self._complete),
            engine.add_event_handler(Events.INTERRUPT, self._end),
            engine.add_event_handler(Events.TEARDOWN, self._tear_down),
        )

    def show(self, engine: EngineProtocol) -> None:
        """Advance the bar to the engine's current position; open the bar first if necessary."""
        bar, counter = self._open_bar or self._open(engine)
        state = engine.state
        # This method runs in every iteration, so it computes the total only if the total may have changed.
        is_current = counter.is_current(state)
        if not is_current:
            counter.follow(state, engine.current_event)
        done = counter.done(state)
        if not is_current or (bar.total is not None and done > bar.total):
            self._follow_total(bar, counter, state)
        bar.update(done - bar.n)
        if bar.n == bar.total:
            # Redraw now: no update follows, and handlers such as an evaluation may run for a long time.
            bar.refresh()

    def _begin(self, engine: EngineProtocol) -> None:
        self._close()
        self._open(engine)

    def _close(self) -> None:
        if self._open_bar is not None:
            bar, self._open_bar = self._open_bar[0], None
            bar.close()

    def _open(self, engine: EngineProtocol) -> tuple[Bar, Counter]:
        state = engine.state
        counter = Counter(self._unit, state, engine.current_event)
        depth = self._runs.enter(engine)
        self._leave = functools.partial(self._runs.leave, engine)
        settings = BarSettings(
            title=counter.title(state, self._name),
            unit=self._unit.short_name,
            total=counter.total(state),
            done=counter.done(state),
            text=lambda: self._postfix(state),
            is_nested=depth > 0,
            is_hidden=rank() != 0,
        )
        self._open_bar = self._style.open_bar(settings), counter
        return self._open_bar

    def _follow_total(self, bar: Bar, counter: Counter, state: State) -> None:
        if not self._style.has_fixed_total:
            bar.follow(counter.total(state))

    def _complete(self, engine: EngineProtocol) -> None:
        # If the run ends in the middle of an epoch, state.epoch includes this unfinished epoch.
        if self._open_bar is not None and self._unit is not Unit.EPOCH:
            bar, counter = self._open_bar
            self._follow_total(bar, counter, engine.state)
            bar.update(counter.done(engine.state) - bar.n)
        self._close()

    def _end(self) -> None:
        self._close()
        if self._leave is not None:
            self._leave()
            self._leave = None

    def _tear_down(self, engine: EngineProtocol) -> None:
        self._end()
        missing = self._postfix.missing(engine.state)
        if missing and rank() == 0 and engine.state.outcome is RunOutcome.COMPLETED:
            warnings.warn(
                f"ProgressBar: the engine's state has no {', '.join(map(repr, missing))}; check metric_names and "
                f"state_attributes (available metrics: {list(engine.state.metrics)})",
                GlowplugWarning,
                stacklevel=2,
            )
