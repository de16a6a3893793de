"""Registrations: a registration is one handler at one event."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from types import MethodType
from typing import Any, Protocol

from glowplug.distributed import SharedInterval
from glowplug.engine._call import Call, Key, compile_call, describe_handler, unwrap
from glowplug.engine._deferred import check_result
from glowplug.engine._optional import Guard
from glowplug.events import EventFilter, Every, EverySeconds, Once
from glowplug.handles import RemovableEventHandle
from glowplug.phase import Phase


class Idle(Protocol):
    """What knows for how many firings a filter will let nothing through."""

    @property
    def idle_calls(self) -> int:
        """Number of the next firings at which the filter need not be called."""


class Registration:
    """A handler that is registered at one event."""

    _order = itertools.count()
    # Whether the handler has run once and returned no coroutine or generator.
    is_checked = False
    # The counter values of this run at which a ``once`` filter has let the handler run.
    passed: set[int] | None = None
    # The current interval of an ``every_seconds`` filter.
    interval: SharedInterval | None = None
    # If the handler is stateful, the handle that removes its state from the engine's state.
    state_handle: RemovableEventHandle | None = None

    def __init__(
        self,
        handler: Callable[..., Any],
        event: Key,
        event_filter: EventFilter | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        guard: Guard | None = None,
    ) -> None:
        self.handler = handler
        self.event = event
        self.filter = event_filter
        self.args = args
        self.kwargs = kwargs
        self.phase = _phase_of(handler)
        self.order = next(self._order)
        self.guard = guard
        if isinstance(event_filter, Once):
            self.passed = set()
        elif isinstance(event_filter, EverySeconds):
            self.interval = SharedInterval(event_filter.seconds)
        self._compile()

    def _compile(self) -> None:
        self.call = compile_call(self.handler, self.event, self.args, self.kwargs)
        self._unguarded = self.call
        self.test = self.filter
        if isinstance(self.filter, Once) and self.passed is not None:
            self.test = functools.partial(_passes_once, self.filter, self.passed)
        elif self.interval is not None:
            self.test = functools.partial(_passes_interval, self.interval)
        if self.guard is not None:
            self.call = self.guard.around(self.call, self.event)
            self.test = self.test and self.guard.around(self.test, self.event)

    def __getstate__(self) -> dict[str, Any]:
        compiled = ("call", "_unguarded", "test")
        return {name: value for name, value in vars(self).items() if name not in compiled}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()

    def checked_call(self, engine: Any, *payload: Any) -> Any:
        """Call the handler; raise an error if it returns a coroutine or generator."""
        call: Call = functools.partial(_check_call, self._unguarded, self.handler, self.event)
        if self.guard is not None:
            call = self.guard.around(call, self.event)
        return call(engine, *payload)

    @property
    def only(self) -> int | EventFilter | None:
        """The handler's filter, which is a divisor for ``every``, a function for other filters, ``None`` if there is no filter."""
        return self.filter.every if isinstance(self.filter, Every) else self.test

    @property
    def idle(self) -> Idle | None:
        """What knows when the filter need not be called, which is the interval of ``every_seconds``, or a filter with ``idle_calls``."""
        candidate: Any = self.filter if self.interval is None else self.interval
        return candidate if isinstance(getattr(candidate, "idle_calls", None), int) else None

    def begin_run(self) -> None:
        """Reset a ``once`` or ``every_seconds`` filter for a new run."""
        if self.passed:
            self.passed.clear()
        if self.interval is not None:
            self.interval.reset()

    def runs(self, handler: object) -> bool:
        """Return whether this is a registration of the given handler."""
        return self.handler is handler or (isinstance(handler, MethodType) and self.handler == handler)


def _check_call(call: Call, handler: Callable[..., Any], event: Key, engine: Any, *payload: Any) -> Any:
    """Call a handler; raise an error if it returns a coroutine or generator."""
    return check_result(call(engine, *payload), lambda: f"handler {describe_handler(handler)} of {event}")


def _passes_once(once: Once, passed: set[int], engine: Any, counter: int) -> bool:
    """Return whether a counter value passes the filter for the first time in a run."""
    if counter in passed or not once(engine, counter):
        return False
    passed.add(counter)
    return True


def _passes_interval(interval: SharedInterval, engine: Any, counter: int) -> bool:  # noqa: ARG001 - the arguments of a filter
    """Return whether an interval of time has passed since the handler ran, or since the first firing in the run."""
    return interval.is_over(restart=True)


def _phase_of(handler: Any) -> Phase:
    """Return the ``phase`` attribute of a handler or, for a method, of its object; the default is ``Phase.USER``."""
    handler = unwrap(handler)
    for candidate in (handler, getattr(handler, "__self__", None)):
        phase = getattr(candidate, "phase", None)
        if isinstance(phase, Phase):
            return phase
    return Phase.USER
