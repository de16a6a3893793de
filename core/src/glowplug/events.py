"""Events, their filters, and lists of events."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum, EnumMeta
from numbers import Integral, Real
from typing import Any, TypeAlias, overload

__all__ = [
    "AnyEvent",
    "Between",
    "CallableEventWithFilter",
    "EventEnum",
    "EventFilter",
    "Events",
    "EventsList",
    "Every",
    "EverySeconds",
    "FilteredEvent",
    "Once",
]

_DEFERRED_KINDS = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)

_ALONE = {"event_filter", "once", "every_seconds", "every_minutes"}

EventFilter: TypeAlias = Callable[[Any, int], bool]
"""Function ``f(engine, counter) -> bool`` that decides whether a handler runs."""


class CallableEventWithFilter:
    """A plain or filtered event.

    Call an event to filter it, and join events with ``|``. Members of an :class:`EventEnum` are plain events. Calling a plain
    event returns a filtered event, which compares equal to the plain event. Calling a filtered event returns a new event that
    has only the new filter.

    Args:
        event_filter: Function ``f(engine, counter) -> bool``. The handler runs if the function returns ``True``. If the function is an
            object with the attribute ``idle_calls``, the engine may omit that many of the next calls; they would return ``False``.
        every: Run the handler at counter values divisible by this number. With ``after``, run the handler at ``after + 1``,
            ``after + 1 + every``, and so on.
        once: Run the handler only at this counter value, or only at these counter values.
        before: Run the handler only at counter values below this number.
        after: Run the handler only at counter values above this number.
        every_seconds: Run the handler once in each interval of this many seconds, at the first firing after the interval. The first
            interval begins with the first firing in a run. Under ``torch.distributed``, the clock of rank 0 decides for all ranks,
            so register the handler on all ranks.
        every_minutes: Length of the interval in minutes instead of seconds.

    Attributes:
        event: The plain event.
        filter: The filter; ``None`` for a plain event.

    Raises:
        ValueError: If no filter is given, if the given filters cannot be combined, if a number is not an integer or is too low,
            or if ``event_filter`` does not accept two arguments.
        TypeError: If ``event_filter`` is not callable, or is an ``async`` function or a generator function.

    Example:
        >>> from glowplug import Events
        >>> Events.ITERATION_COMPLETED(every=100)
        Events.ITERATION_COMPLETED(every=100)
        >>> Events.ITERATION_COMPLETED(every=100) == Events.ITERATION_COMPLETED
        True
        >>> Events.ITERATION_COMPLETED(every_minutes=5)
        Events.ITERATION_COMPLETED(every_seconds=300)
    """

    event: EventEnum
    filter: EventFilter | None = None

    def __call__(
        self,
        event_filter: EventFilter | None = None,
        every: int | None = None,
        once: int | Sequence[int] | None = None,
        before: int | None = None,
        after: int | None = None,
        every_seconds: float | None = None,
        every_minutes: float | None = None,
    ) -> CallableEventWithFilter:
        """Return the event with the given filter; ``every=1`` alone returns the plain event."""
        given = {
            "event_filter": event_filter,
            "once": once,
            "every": every,
            "before": before,
            "after": after,
            "every_seconds": every_seconds,
            "every_minutes": every_minutes,
        }
        names = [name for name, value in given.items() if value is not None]
        if not names or (set(names) & _ALONE and len(names) > 1):
            raise ValueError(
                f"{self.event}: pass event_filter= alone, once= alone, every_seconds= or every_minutes= alone, or any combination "
                f"of every=, before= and after=; got {', '.join(names) or 'nothing'}"
            )
        if every_seconds is not None:
            return FilteredEvent(
                self.event, EverySeconds(_duration(self.event, "every_seconds", every_seconds))
            )
        if every_minutes is not None:
            minutes = _duration(self.event, "every_minutes", every_minutes)
            return FilteredEvent(self.event, EverySeconds(minutes * 60))
        if event_filter is not None:
            return FilteredEvent(self.event, _checked_function(self.event, event_filter))
        if once is not None:
            return FilteredEvent(self.event, _once(self.event, once))
        step = 1 if every is None else _number(self.event, "every", every, 1)
        low = None if after is None else _number(self.event, "after", after, 0)
        high = None if before is None else _number(self.event, "before", before, 0)
        if low is None and high is None:
            return self.event if step == 1 else FilteredEvent(self.event, Every(step))
        return FilteredEvent(self.event, Between(step, low, high))

    def __or__(self, other: CallableEventWithFilter | EventsList) -> EventsList:
        return EventsList(self) | other


class _EventEnumType(EnumMeta):
    """Metaclass of event enums that suggests the closest name for a misspelled event."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        matches = get_close_matches(name.upper(), cls.__members__, n=1)
        hint = "".join(f". Did you mean {cls.__name__}.{match}?" for match in matches)
        # With obj=None, Python does not add its own suggestion.
        raise AttributeError(f"{cls.__name__} has no event {name!r}{hint}", name=name, obj=None)


class EventEnum(CallableEventWithFilter, Enum, metaclass=_EventEnumType):
    """Base class of events; subclass it to define custom events.

    Members of different classes are never equal: ``MyEvents.STARTED`` is not ``Events.STARTED``.

    Example:
        >>> class BackpropEvents(EventEnum):
        ...     BACKWARD_STARTED = "backward_started"
        >>> BackpropEvents.BACKWARD_STARTED(every=2)
        BackpropEvents.BACKWARD_STARTED(every=2)
    """

    @property
    def event(self) -> EventEnum:  # type: ignore[override]  # an event does not change
        """The event itself."""
        return self

    # Members are singletons, so their identity suffices as a hash; Enum.__hash__ is a slower Python function.
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self._name_}"

    __str__ = __repr__


class Events(EventEnum):
    """The events that an engine fires.

    Example:
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: 2 * batch)
        >>> @engine.on(Events.ITERATION_COMPLETED(every=2))
        ... def show(engine):
        ...     print(f"iteration {engine.state.iteration}: output {engine.state.output}")
        >>> state = engine.run([1, 2, 3, 4])
        iteration 2: output 4
        iteration 4: output 8
    """

    STARTED = "started"
    """Fires when a run starts, whether the run is new or continues an earlier run; see ``state.run_start``."""
    EPOCH_STARTED = "epoch_started"
    """Fires before the first batch of an epoch."""
    GET_BATCH_STARTED = "get_batch_started"
    """Fires before the engine requests a batch from the data."""
    GET_BATCH_COMPLETED = "get_batch_completed"
    """Fires when ``state.batch`` is the new batch."""
    ITERATION_STARTED = "iteration_started"
    """Fires before the step."""
    ITERATION_COMPLETED = "iteration_completed"
    """Fires after the step, when ``state.output`` is the return value of the step."""
    EPOCH_COMPLETED = "epoch_completed"
    """Fires after the last batch of an epoch."""
    COMPLETED = "completed"
    """Fires when a run completes or is terminated, but not after ``terminate(skip_completed=True)``."""
    EXCEPTION_RAISED = "exception_raised"
    """Fires when an exception ends the run; handlers receive the exception."""
    DATALOADER_STOP_ITERATION = "dataloader_stop_iteration"
    """Fires before the first batch of each pass over the data except the first pass."""
    TERMINATE = "terminate"
    """Fires when ``terminate()`` ends the run, or when the run reaches ``max_iters`` within an epoch."""
    TERMINATE_SINGLE_EPOCH = "terminate_single_epoch"
    """Fires when ``terminate_epoch()`` ends an epoch."""
    INTERRUPT = "interrupt"
    """Fires when ``interrupt()`` pauses the run."""
    TEARDOWN = "teardown"
    """Fires once at the end of each run, even after an exception, but not when the run is interrupted."""


class FilteredEvent(CallableEventWithFilter):
    """An event with a filter, as returned by calling an event.

    Args:
        event: The plain event.
        event_filter: Function ``f(engine, counter) -> bool`` that decides whether a handler runs.

    Example:
        >>> from glowplug import Events
        >>> event = Events.EPOCH_COMPLETED(every=5)
        >>> event.name, event.value, event.filter
        ('EPOCH_COMPLETED', 'epoch_completed', every=5)
    """

    def __init__(self, event: EventEnum, event_filter: EventFilter) -> None:
        self.event = event
        self.filter = event_filter

    @property
    def name(self) -> str:
        """The event's name."""
        return self.event.name

    @property
    def value(self) -> Any:
        """The event's value."""
        return self.event.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CallableEventWithFilter) and self.event is other.event

    def __hash__(self) -> int:
        return hash(self.event)

    def __repr__(self) -> str:
        known = isinstance(self.filter, (Every, Once, Between, EverySeconds))
        return f"{self.event}({self.filter if known else f'event_filter={self.filter!r}'})"


class EventsList:
    """Several events joined with ``|``; a handler is registered at each of them.

    The operator ``|`` accepts events and lists of events, and returns a new list.

    Example:
        >>> from glowplug import Events
        >>> Events.STARTED | Events.COMPLETED
        EventsList(Events.STARTED, Events.COMPLETED)
    """

    __slots__ = ("_events",)

    def __init__(self, *events: CallableEventWithFilter) -> None:
        for event in events:
            if not isinstance(event, CallableEventWithFilter):
                raise TypeError(
                    f"the operator | joins events, as in Events.STARTED | Events.COMPLETED(every=2); got {event!r}. "
                    "For a string event, call add_event_handler separately"
                )
        self._events = events

    def __or__(self, other: CallableEventWithFilter | EventsList) -> EventsList:
        return EventsList(*self._events, *(other if isinstance(other, EventsList) else (other,)))

    __ror__ = __or__

    def __iter__(self) -> Iterator[CallableEventWithFilter]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    @overload
    def __getitem__(self, index: int) -> CallableEventWithFilter: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[CallableEventWithFilter, ...]: ...
    def __getitem__(
        self, index: int | slice
    ) -> CallableEventWithFilter | tuple[CallableEventWithFilter, ...]:
        return self._events[index]

    def __repr__(self) -> str:
        return f"EventsList({', '.join(map(str, self._events))})"


AnyEvent: TypeAlias = CallableEventWithFilter | EventsList | str
"""An event, a list of events, or the name of a custom event."""


@dataclass(frozen=True)
class Every:
    """Filter for counter values divisible by ``every``.

    Example:
        >>> every_third = Every(3)
        >>> [counter for counter in range(1, 10) if every_third(None, counter)]
        [3, 6, 9]
    """

    every: int

    def __call__(self, engine: Any, counter: int) -> bool:
        """Return whether the handler runs at this counter value."""
        return counter % self.every == 0

    def __repr__(self) -> str:
        return f"every={self.every}"


@dataclass(frozen=True)
class Once:
    """Filter for the given counter values.

    Example:
        >>> first_and_fifth = Once((1, 5))
        >>> [counter for counter in range(1, 10) if first_and_fifth(None, counter)]
        [1, 5]
    """

    counters: tuple[int, ...]

    def __call__(self, engine: Any, counter: int) -> bool:
        """Return whether the handler runs at this counter value."""
        return counter in self.counters

    def __repr__(self) -> str:
        return f"once={self.counters[0] if len(self.counters) == 1 else list(self.counters)}"


@dataclass(frozen=True)
class Between:
    """Filter for counter values above ``after`` and below ``before``.

    With ``after``, the handler runs at ``after + 1``, ``after + 1 + every``, and so on. Without ``after``, the counter values
    must be divisible by ``every``.

    Example:
        >>> between = Between(every=2, after=3, before=9)
        >>> [counter for counter in range(1, 10) if between(None, counter)]
        [4, 6, 8]
    """

    every: int
    after: int | None
    before: int | None

    def __call__(self, engine: Any, counter: int) -> bool:
        """Return whether the handler runs at this counter value."""
        if self.before is not None and counter >= self.before:
            return False
        if self.after is None:
            return counter % self.every == 0
        return counter > self.after and (counter - self.after - 1) % self.every == 0

    def __repr__(self) -> str:
        parts = {"every": self.every if self.every > 1 else None, "after": self.after, "before": self.before}
        return ", ".join(f"{name}={value}" for name, value in parts.items() if value is not None)


@dataclass(frozen=True)
class EverySeconds:
    """Filter that lets the handler run once in each interval of time.

    The filter itself has no clock: several handlers may share it, so each registration measures its own intervals.

    Args:
        seconds: Length of the interval, in seconds.

    Example:
        >>> from glowplug import Events
        >>> Events.ITERATION_COMPLETED(every_minutes=0.5).filter
        every_seconds=30
    """

    seconds: float

    def __call__(self, engine: Any, counter: int) -> bool:
        """Return ``True``: only the time decides, so the handler may run at any counter value."""
        return True

    def __repr__(self) -> str:
        return f"every_seconds={self.seconds:g}"


def _duration(event: EventEnum, name: str, value: object) -> float:
    if not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise ValueError(f"{event}: {name}= must be a positive number, got {value!r}")
    return float(value)


def _number(event: EventEnum, name: str, value: object, least: int) -> int:
    if not isinstance(value, Integral) or value < least:
        raise ValueError(f"{event}: {name}= must be an integer of at least {least}, got {value!r}")
    return int(value)


def _once(event: EventEnum, once: Any) -> Once:
    counters = once if isinstance(once, Sequence) and not isinstance(once, str) else (once,)
    if not counters:
        raise ValueError(f"{event}: once= is empty; pass at least one counter value")
    return Once(tuple(_number(event, "once", counter, 1) for counter in counters))


def _checked_function(event: EventEnum, event_filter: EventFilter) -> EventFilter:
    if not callable(event_filter):
        raise TypeError(
            f"{event}: event_filter= must be a function (engine, counter) -> bool, got {event_filter!r}"
        )
    if any(is_kind(event_filter) for is_kind in _DEFERRED_KINDS):
        raise TypeError(
            f"{event}: event_filter= is an async function or a generator function, whose result would always be true; use a "
            f"plain function instead of {event_filter!r}"
        )
    try:
        inspect.signature(event_filter).bind(None, 1)
    except TypeError as error:
        raise ValueError(
            f"{event}: event_filter= must accept the arguments (engine, counter), but {event_filter!r} does not: {error}"
        ) from None
    return event_filter
