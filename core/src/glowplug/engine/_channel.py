"""Channel: the registrations of one event and their prepared calls."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

from glowplug.engine._call import Call, Key
from glowplug.engine._registration import Idle, Registration
from glowplug.events import EventFilter

CallWrapper: TypeAlias = Callable[[Registration, Call], Call]
"""Function ``f(registration, call)`` that returns the function to call instead, with the same arguments."""


class Channel:
    """One event of an engine, with its registrations and prepared calls.

    Args:
        key: The event.
        counter: Name of the state attribute that counts the event. If ``None``, the channel counts the event in ``firings``.
    """

    registrations: tuple[Registration, ...] = ()
    calls: tuple[tuple[Call, int | EventFilter | None], ...] = ()
    # The calls if the state counts the event and no call has a filter, otherwise empty.
    unfiltered: tuple[Call, ...] = ()
    # Wrappers of the calls; without wrappers, the handlers are called directly.
    wrappers: tuple[CallWrapper, ...] = ()
    firings = 0
    # The divisors among the filters, and what knows when the other filters need not be called.
    steps: tuple[int, ...] = ()
    idle: tuple[Idle, ...] = ()
    # Whether these are all filters, so that firings can be skipped.
    can_skip = False
    # The counter value at the last evaluation of the filters, and the next value at which one of them may pass.
    seen = due = -1

    def __init__(self, key: Key, counter: str | None = None) -> None:
        self.key = key
        self.counter = counter
        # The loop reads only this for an event without handlers; a boolean instance attribute is fastest.
        self.has_handlers = False

    def change(self, registrations: tuple[Registration, ...]) -> None:
        """Replace the registrations; a firing that is in progress still uses the old registrations."""
        if len(registrations) > 1:
            registrations = tuple(sorted(registrations, key=lambda r: (r.phase, r.order)))
        self.registrations = registrations
        # Lists are faster than generators.
        self.calls = tuple([(self._call_of(r), r.only) for r in registrations])
        unfiltered = [call for call, only in self.calls if only is None]
        self.unfiltered = tuple(unfiltered) if self.counter and len(unfiltered) == len(self.calls) else ()
        self.steps = tuple([only for _, only in self.calls if only.__class__ is int])
        self.idle = tuple([r.idle for r in registrations if r.idle is not None])
        self.can_skip = bool(self.calls) and len(self.steps) + len(self.idle) == len(self.calls)
        self.has_handlers = bool(self.calls)
        self.seen = self.due = -1

    def remove(self, registrations: Collection[Registration]) -> None:
        """Remove registrations and the handler states that they added."""
        gone = [each for each in self.registrations if each in registrations]
        if gone:
            self.change(tuple(each for each in self.registrations if each not in gone))
        for registration in gone:
            if registration.state_handle is not None:
                registration.state_handle.remove()

    def _call_of(self, registration: Registration) -> Call:
        """Return the function that calls the handler; the first successful call also checks the handler's result."""
        if registration.is_checked:
            return self.wrapped(registration, registration.call)
        return self.wrapped(registration, functools.partial(_first_call, weakref.ref(self), registration))

    def wrapped(self, registration: Registration, call: Call) -> Call:
        """Return a call of a handler with the wrappers of this channel around it."""
        for wrapper in self.wrappers:
            call = wrapper(registration, call)
        return call

    def wrap(self, wrappers: tuple[CallWrapper, ...]) -> None:
        """Replace the wrappers of the calls."""
        self.wrappers = wrappers
        self.change(self.registrations)

    def begin_run(self) -> None:
        """Reset the filters that remember something for a new run."""
        self.seen = self.due = -1
        for registration in self.registrations:
            registration.begin_run()

    def next_due(self, counter: int) -> int:
        """Return the next counter value at which a filter may let a handler run, if the channel can skip firings."""
        due = [(counter // step + 1) * step for step in self.steps]
        return min(due + [counter + 1 + each.idle_calls for each in self.idle])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("calls", "unfiltered")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.change(self.registrations)


def _first_call(channel: weakref.ref[Channel], registration: Registration, engine: Any, *payload: Any) -> Any:
    result = registration.checked_call(engine, *payload)
    registration.is_checked = True
    here = channel()
    if here is not None:
        here.change(here.registrations)
    return result
