"""Durations of the last iterations."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from numbers import Integral
from time import perf_counter
from typing import Any, NamedTuple

from glowplug import Events, Phase, RemovableEventHandle
from glowplug.typing import AnyEvent, EngineProtocol

__all__ = ["IterationTimes", "check_window"]


class _Iteration(NamedTuple):
    seconds: float
    waited: float
    items: float


class IterationTimes:
    """Measures the last iterations of an engine: their durations, how long they waited for data, and how many items they had.

    An iteration begins when its batch is requested, and ends at ``ITERATION_COMPLETED``. Work between iterations, such as a
    validation or a checkpoint, is not measured. The first batch of a run is not measured either, because it includes starting the
    workers of a data loader or, in a resumed run, skipping batches.

    Args:
        window: Number of iterations.
    """

    phase = Phase.METRICS

    def __init__(self, window: int) -> None:
        self._iterations: deque[_Iteration] = deque(maxlen=window)
        self._is_first = True
        self._begin: float | None = None
        self._waited = 0.0

    def attach(
        self,
        engine: EngineProtocol,
        name: str,
        event_name: AnyEvent,
        value: Callable[[], float | None],
        count: Callable[[Any], float] | None = None,
    ) -> RemovableEventHandle:
        """Measure the iterations of an engine, and publish a value in ``engine.state.metrics``.

        Args:
            engine: The engine.
            name: Name of the metric.
            event_name: Event at which the value is published.
            value: Function that returns the value, or ``None`` if there is none yet.
            count: Function that returns the number of items, such as samples, of a batch.
        """
        return RemovableEventHandle.join(
            engine.add_event_handler(Events.STARTED, self._start),
            engine.add_event_handler(Events.GET_BATCH_STARTED, self._request_batch),
            engine.add_event_handler(Events.ITERATION_STARTED, self._start_step),
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._complete, count),
            engine.add_event_handler(event_name, self._publish, name, value),
        )

    def items_per_second(self) -> float | None:
        """Return the number of items per second; ``None`` if nothing was measured yet."""
        seconds = sum(each.seconds for each in self._iterations)
        return sum(each.items for each in self._iterations) / seconds if seconds else None

    def waiting_share(self) -> float | None:
        """Return the share of the time that was spent waiting for data; ``None`` if nothing was measured yet."""
        seconds = sum(each.seconds for each in self._iterations)
        return sum(each.waited for each in self._iterations) / seconds if seconds else None

    def _start(self) -> None:
        self._iterations.clear()
        self._is_first, self._begin = True, None

    def _request_batch(self) -> None:
        self._begin = None if self._is_first else perf_counter()

    def _start_step(self) -> None:
        now = perf_counter()
        # Without data, no batch is requested.
        if self._begin is None:
            self._begin = now
        self._waited = now - self._begin

    def _complete(self, engine: EngineProtocol, count: Callable[[Any], float] | None) -> None:
        if self._begin is not None:
            seconds = perf_counter() - self._begin
            items = 0.0 if count is None else count(engine.state.batch)
            self._iterations.append(_Iteration(seconds, self._waited, items))
        self._begin, self._is_first = None, False

    def _publish(self, engine: EngineProtocol, name: str, value: Callable[[], float | None]) -> None:
        found = value()
        if found is not None:
            engine.state.metrics[name] = found


def check_window(monitor: str, window: object) -> None:
    """Raise an error if a window is not an integer of at least 1."""
    if isinstance(window, bool) or not isinstance(window, Integral):
        raise TypeError(f"{monitor}: window must be an integer, got {window!r}")
    if window < 1:
        raise ValueError(f"{monitor}: window must be at least 1 iteration, got {window!r}")
