"""Registration: one handler at one event."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import MethodType
from typing import Any

from glowplug.engine._call import Key, compile_call, unwrap
from glowplug.engine._optional import Guard
from glowplug.events import EventFilter, Every
from glowplug.phase import Phase


class Registration:
    """One handler at one event."""

    _order = itertools.count()

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
        self._compile()

    def _compile(self) -> None:
        self.call = compile_call(self.handler, self.event, self.args, self.kwargs)
        self.test = self.filter
        if self.guard is not None:
            self.call = self.guard.around(self.call, self.event)
            self.test = self.filter and self.guard.around(self.filter, self.event)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("call", "test")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()

    @property
    def only(self) -> int | EventFilter | None:
        """The divisor of an ``every`` filter, any other filter itself, or ``None`` without a filter."""
        return self.filter.every if isinstance(self.filter, Every) else self.test

    def runs(self, handler: object) -> bool:
        """Return whether this is a registration of the given handler."""
        return self.handler is handler or (isinstance(handler, MethodType) and self.handler == handler)


def _phase_of(handler: Any) -> Phase:
    """Return the phase of a handler, or of the object that a method belongs to."""
    handler = unwrap(handler)
    for candidate in (handler, getattr(handler, "__self__", None)):
        phase = getattr(candidate, "phase", None)
        if isinstance(phase, Phase):
            return phase
    return Phase.USER
