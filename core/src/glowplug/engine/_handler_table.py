"""Handler table: stores the handlers of each event and fires the events.

Signatures and filters are inspected at registration, so firing an event only runs a tuple of prepared calls.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

from glowplug.engine._call import NEEDS_PAYLOAD, Call, Key, check_attachable, describe_handler
from glowplug.engine._channel import CallWrapper, Channel
from glowplug.engine._handler_state import StatefulHandlers
from glowplug.engine._optional import Fault, Guard, attach_optional, guard_of_attach, mark_as_foreign
from glowplug.engine._registration import Registration
from glowplug.engine._stop import SlowPath
from glowplug.events import (
    AnyEvent,
    CallableEventWithFilter,
    EventEnum,
    Events,
    EventsList,
)
from glowplug.handles import RemovableEventHandle
from glowplug.stash import Stash
from glowplug.state import COUNTERS, State

Handler = TypeVar("Handler", bound=Callable[..., Any])

_BUILT_IN = tuple((event, COUNTERS.get(event)) for event in Events)


class HandlerTable:
    """Events and registrations of an engine, without a loop.

    ``Engine`` adds the loop; ``glowplug.testing.FakeEngine`` lets tests fire events by hand.

    Example:
        >>> from glowplug import Events
        >>> table = HandlerTable()
        >>> handle = table.add_event_handler(Events.STARTED, lambda: print("started"))
        >>> table.fire_event(Events.STARTED)
        started
    """

    # Class attributes keep the constructor of an engine fast.
    last_event_name: CallableEventWithFilter | str | None = None
    current_event: Key | None = None
    faults: tuple[Fault, ...] = ()
    _stash: Stash | None = None
    _wrappers: tuple[CallWrapper, ...] = ()

    def __init__(self) -> None:
        self.state = State()
        self._slow_path = SlowPath()
        self._channels: dict[Key, Channel] = {event: Channel(event, counter) for event, counter in _BUILT_IN}
        self._stateful = StatefulHandlers()

    def __repr__(self) -> str:
        state = self.state
        limit = "" if state.max_epochs is None else f" of {state.max_epochs}"
        outcome = "" if state.outcome is None else f", {state.outcome.value}"
        return f"<{type(self).__name__}: epoch {state.epoch}{limit}, iteration {state.iteration}{outcome}>"

    @property
    def stash(self) -> Stash:
        """Values that handlers store for this engine."""
        if self._stash is None:
            self._stash = Stash()
        return self._stash

    # Registration

    def register_events(
        self, *event_names: EventEnum | str, event_to_attr: dict[Any, str] | None = None
    ) -> None:
        """Register custom events.

        Args:
            *event_names: Members of an :class:`EventEnum`, or strings.
            event_to_attr: Maps each event to the name of the state attribute that counts it. An attribute that does not exist
                yet is created with the value 0. The engine does not update the counting attributes; your code must update them.
                If an event has no counting attribute, its filters use the number of its firings.

        Raises:
            TypeError: If an event is neither an :class:`EventEnum` member nor a string.
            ValueError: If ``event_to_attr`` is not a dict.

        Example:
            >>> from glowplug import Engine, EventEnum
            >>> class Backprop(EventEnum):
            ...     STARTED = "backprop_started"
            >>> engine = Engine(lambda engine, batch: engine.fire_event(Backprop.STARTED))
            >>> engine.register_events(Backprop.STARTED, event_to_attr={Backprop.STARTED: "backprops"})
            >>> engine.state.backprops
            0
        """
        if event_to_attr is not None and not isinstance(event_to_attr, dict):
            raise ValueError(
                f"event_to_attr must be a dict that maps events to names of state attributes, got {event_to_attr!r}"
            )
        for name in event_names:
            if not isinstance(name, (str, EventEnum)):
                raise TypeError(f"an event must be a member of an EventEnum or a string, got {name!r}")
            if name not in self._channels:
                self._channels[name] = Channel(name)
                self._channels[name].wrappers = self._wrappers
            if event_to_attr and name in event_to_attr:
                attribute = event_to_attr[name]
                self.state.event_to_attr[name] = self._channels[name].counter = attribute
                if not hasattr(self.state, attribute):
                    setattr(self.state, attribute, 0)

    def has_registered_events(self, event_name: AnyEvent) -> bool:
        """Return whether an event is registered; for events joined with ``|``, return whether all are registered."""
        if isinstance(event_name, EventsList):
            return all(map(self.has_registered_events, event_name))
        return self._find(event_name) is not None

    def add_event_handler(
        self, event_name: AnyEvent, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Register a handler.

        Args:
            event_name: A plain or filtered event, several events joined with ``|``, or the name of a custom event.
            handler: Any callable. The handler receives the engine if its first parameter is named or annotated as an engine. The
                handler also receives the engine if its first parameter has no default, unless this parameter is annotated with a
                type other than an engine. Functions of the standard library, numpy and torch never receive the engine. Handlers
                of ``EXCEPTION_RAISED`` also receive the exception; ``run()`` raises the exception again unless a handler returns
                ``True``. Handlers of ``TERMINATE_SINGLE_EPOCH`` receive the epoch's number of completed iterations as the keyword
                argument ``iter_counter`` if they accept this argument. If the handler has ``state_dict()`` and
                ``load_state_dict()``, the engine saves and loads the state of the handler. Modules and optimizers are an
                exception: the engine does not save their states.
            *args: Further positional arguments for the handler.
            **kwargs: Keyword arguments for the handler.

        Raises:
            ValueError: If the event is not registered, or if the handler cannot be called with its arguments.
            TypeError: If the handler is not callable, or is an ``async`` function or a generator function. The first call
                of the handler raises ``TypeError`` if the handler returns a coroutine or generator.

        Example:
            >>> from glowplug import Engine, Events
            >>> engine = Engine(lambda engine, batch: batch)
            >>> handle = engine.add_event_handler(Events.COMPLETED, lambda engine, text: print(text), "done")
            >>> engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: print(e.state.epoch)).remove()
            >>> handle.remove()
        """
        if isinstance(event_name, EventsList):
            return RemovableEventHandle.join(
                *(self.add_event_handler(event, handler, *args, **kwargs) for event in event_name)
            )
        channel = self._channel(event_name)
        event_filter = event_name.filter if isinstance(event_name, CallableEventWithFilter) else None
        registration = Registration(handler, channel.key, event_filter, args, kwargs, guard_of_attach())
        # If the handler rejects a loaded state, it is not registered.
        registration.state_handle = self._stateful.add_callable(handler, registration.guard)
        channel.change((*channel.registrations, registration))
        self._slow_path.is_on = True
        return RemovableEventHandle(
            functools.partial(_forget, weakref.ref(channel), weakref.ref(registration))
        )

    def on(self, event_name: AnyEvent, *args: Any, **kwargs: Any) -> Callable[[Handler], Handler]:
        """Register the decorated function and return it unchanged.

        Args:
            event_name: The event, in any form that :meth:`add_event_handler` accepts.
            *args: Further positional arguments for the handler.
            **kwargs: Keyword arguments for the handler.

        Example:
            >>> from glowplug import Engine, Events
            >>> engine = Engine(lambda engine, batch: batch)
            >>> @engine.on(Events.ITERATION_COMPLETED(every=2))
            ... def show(engine):
            ...     print(engine.state.output)
            >>> _ = engine.run([10, 20, 30, 40])
            20
            40
        """

        def decorator(handler: Handler) -> Handler:
            self.add_event_handler(event_name, handler, *args, **kwargs)
            return handler

        return decorator

    def has_event_handler(self, handler: Callable[..., Any], event_name: AnyEvent | None = None) -> bool:
        """Return whether a handler is registered at an event, or at any event if ``event_name`` is ``None``."""
        if isinstance(event_name, EventsList):
            return any(self.has_event_handler(handler, event) for event in event_name)
        channels = self._channels.values() if event_name is None else (self._channel(event_name),)
        return any(
            registration.runs(handler) for channel in channels for registration in channel.registrations
        )

    def remove_event_handler(self, handler: Callable[..., Any], event_name: AnyEvent) -> None:
        """Remove all registrations of a handler at an event.

        To remove a single registration, use the :class:`RemovableEventHandle` that :meth:`add_event_handler` returned.

        Raises:
            ValueError: If the event is unknown, or if the handler is not registered at this event.
        """
        if isinstance(event_name, EventsList):
            for event in event_name:
                self.remove_event_handler(handler, event)
            return
        channel = self._channel(event_name)
        gone = [r for r in channel.registrations if r.runs(handler)]
        if not gone:
            raise ValueError(f"{handler!r} cannot be removed from {channel.key}: it is not registered there")
        channel.remove(gone)

    def attach(self, *handlers: Any, on_error: Literal["raise", "disable"] = "raise") -> RemovableEventHandle:
        """Attach handlers, each to its default events.

        Args:
            *handlers: Objects with ``attach(engine)``. If one of the objects cannot be attached, none is attached.
            on_error: With ``"raise"``, an exception in a handler ends the run. With ``"disable"``, a handler that raises an
                exception is detached, and the run continues. A warning and a :class:`Fault` in ``faults`` then report the
                exception, and ``state_dict()`` still contains the handler's last state. Defaults to ``"raise"``.

        Raises:
            TypeError: If an object has no ``attach`` method, or if its ``attach`` method requires further arguments. For
                example, the ``attach`` method of a metric requires a name.
            ValueError: If ``on_error`` is neither ``"raise"`` nor ``"disable"``.

        Example:
            >>> from glowplug import Engine, Events
            >>> class Hello:
            ...     def attach(self, engine):
            ...         return engine.add_event_handler(Events.STARTED, lambda: print("hello"))
            >>> engine = Engine(lambda engine, batch: batch)
            >>> with engine.attach(Hello(), Hello()):
            ...     _ = engine.run([1])
            hello
            hello
        """
        if on_error not in {"raise", "disable"}:
            raise ValueError(f"on_error must be 'raise' or 'disable', got {on_error!r}")
        for handler in handlers:
            check_attachable(handler)
        handles: list[RemovableEventHandle] = []
        try:
            for handler in handlers:
                if on_error == "raise":
                    handles.append(handler.attach(self))
                else:
                    handles.append(attach_optional(self, handler, HandlerTable._drop))
        except BaseException:
            RemovableEventHandle.join(*handles).remove()
            raise
        return RemovableEventHandle.join(*handles)

    def _drop(self, guard: Guard) -> None:
        """Remove everything that a guarded handler registered."""
        self._stateful.retire(guard)
        for channel in self._channels.values():
            channel.remove([r for r in channel.registrations if r.guard is guard])

    def register_state(self, key: str, handler: Any) -> RemovableEventHandle:
        """Add the state of a handler to ``state_dict()``; handlers call this method in their ``attach`` method.

        A stateful object that is registered at an event is added automatically. The key of such an object is its attribute
        ``state_key``, or its class name if it has no ``state_key``. Call this method to add another object or to choose another
        key.

        Args:
            key: The key of the state, by convention the class name. If other handlers already have this key, a suffix such as
                ``#2`` is appended.
            handler: An object with ``state_dict()`` and ``load_state_dict(state)``. If the engine has already loaded a
                state for this key, the handler receives the state immediately.

        Raises:
            ValueError: If the key is empty or is not a string.

        Example:
            >>> from glowplug.testing import FakeEngine
            >>> class Counter:
            ...     def state_dict(self):
            ...         return {"n": 7}
            ...
            ...     def load_state_dict(self, state):
            ...         self.n = state["n"]
            >>> handle = FakeEngine().register_state("Counter", Counter())
        """
        return self._stateful.add(key, handler, guard_of_attach())

    # Inspection

    def wrap_handlers(self, wrapper: CallWrapper) -> RemovableEventHandle:
        """Wrap each call of a handler, for example to measure how long it takes.

        The filter of an event is evaluated outside the wrapper, so a call that the filter skips is not seen. Handlers that are
        registered later are wrapped too.

        Args:
            wrapper: Function ``f(registration, call)`` that returns a function with the arguments and the result of ``call``. It
                runs again whenever the handlers of an event change.

        Example:
            >>> from glowplug import Engine, Events
            >>> engine = Engine(lambda engine, batch: batch)
            >>> def announce(registration, call):
            ...     def announced(*arguments):
            ...         print(registration.event)
            ...         return call(*arguments)
            ...
            ...     return announced
            >>> _ = engine.add_event_handler(Events.COMPLETED, lambda: print("done"))
            >>> with engine.wrap_handlers(announce):
            ...     _ = engine.run([1])
            Events.COMPLETED
            done
        """
        self._use_wrappers((*self._wrappers, wrapper))
        return RemovableEventHandle(functools.partial(_unwrap, weakref.ref(self), wrapper))

    def _use_wrappers(self, wrappers: tuple[CallWrapper, ...]) -> None:
        self._wrappers = wrappers
        for channel in self._channels.values():
            channel.wrap(wrappers)

    def registrations(self) -> tuple[Registration, ...]:
        """Return all registrations, event by event, in calling order.

        Returns:
            Registrations with the attributes ``event``, ``handler``, ``filter`` and ``phase``.

        Example:
            >>> from glowplug import Engine, Events
            >>> engine = Engine(lambda engine, batch: batch)
            >>> _ = engine.add_event_handler(Events.STARTED, lambda: None)
            >>> [(each.event.name, each.phase.name) for each in engine.registrations()]
            [('STARTED', 'USER')]
        """
        return tuple(each for channel in self._channels.values() for each in channel.registrations)

    def describe(self) -> str:
        """Return a table of the attached handlers in calling order.

        Notebooks display an engine as this table. The call loads the installed plugins to find out where handlers come from.

        Returns:
            A table with a row for each registration. The columns contain the event, phase, filter, handler, and the handler's
            plugin or module.

        Example:
            >>> from glowplug import Engine, Events
            >>> engine = Engine(lambda engine, batch: batch)
            >>> print(engine.describe())
            Nothing is attached to this engine.
            >>> def save(engine): ...
            >>> _ = engine.add_event_handler(Events.EPOCH_COMPLETED(every=10), save)
            >>> print(engine.describe())  # doctest: +ELLIPSIS
            event                   phase  filter    handler  from
            Events.EPOCH_COMPLETED  user   every=10  save     ...
        """
        from glowplug.engine._describe import as_text, rows_of

        return as_text(rows_of(self._channels.values()))

    def _repr_html_(self) -> str:
        from glowplug.engine._describe import as_html, rows_of

        return as_html(rows_of(self._channels.values()))

    # Firing

    def _begin_run(self) -> None:
        """Reset the firing counts, and the filters that remember something, for a new run."""
        for channel in self._channels.values():
            channel.firings = 0
            if channel.has_handlers:
                channel.begin_run()

    def fire_event(self, event_name: AnyEvent) -> None:
        """Run the handlers of an event; to pass values to the handlers, set attributes of ``state``.

        Raises:
            ValueError: If the event is unknown, or if only the engine can fire the event.

        Example:
            >>> from glowplug import Engine
            >>> engine = Engine(lambda engine, batch: batch)
            >>> engine.register_events("halftime")
            >>> _ = engine.add_event_handler("halftime", lambda: print("halftime"))
            >>> engine.fire_event("halftime")
            halftime
        """
        channel = self._channel(event_name)
        if channel.key in NEEDS_PAYLOAD:
            raise ValueError(
                f"only the engine can fire {channel.key}, because handlers of this event receive an additional argument. To fire "
                "EXCEPTION_RAISED, raise an exception; to fire TERMINATE_SINGLE_EPOCH, call terminate_epoch()"
            )
        outer = self.current_event
        try:
            self._fire(channel)
        except BaseException as error:
            mark_as_foreign(error)
            raise
        finally:
            self._return_to(outer)

    def run_registration(self, registration: Registration) -> None:
        """Run one registered handler as at its event, with the arguments that it was registered with, regardless of its filter.

        While the handler runs, ``current_event`` is the event of the registration. With :meth:`registrations`, a handler can run
        other handlers out of turn, for example save all checkpoints before the process ends.

        Args:
            registration: One of the engine's :meth:`registrations`.

        Raises:
            ValueError: If the handler is registered at ``EXCEPTION_RAISED`` or ``TERMINATE_SINGLE_EPOCH``, because it needs an
                additional argument.

        Example:
            >>> from glowplug import Engine, Events
            >>> engine = Engine(lambda engine, batch: batch)
            >>> _ = engine.add_event_handler(
            ...     Events.EPOCH_COMPLETED(every=10), lambda e, text: print(text), "saved"
            ... )
            >>> engine.run_registration(engine.registrations()[0])
            saved
        """
        if registration.event in NEEDS_PAYLOAD:
            raise ValueError(
                f"{describe_handler(registration.handler)} is registered at {registration.event}, whose handlers receive an "
                "additional argument, so it cannot run out of turn"
            )
        outer, self.current_event = self.current_event, registration.event
        self.last_event_name = registration.event
        try:
            self._channels[registration.event].wrapped(registration, registration.checked_call)(self)
        except BaseException as error:
            mark_as_foreign(error)
            raise
        finally:
            self._return_to(outer)

    def _fire(self, channel: Channel) -> None:
        """Run the handlers of one event; if an outer event is in progress, the caller must restore the outer event afterwards."""
        calls = channel.unfiltered
        if calls:
            self.current_event = self.last_event_name = channel.key
            for call in calls:
                call(self)
            self.current_event = None
            return
        if channel.counter is None:
            counter = channel.firings = channel.firings + 1
        else:
            counter = getattr(self.state, channel.counter)
        if channel.seen < counter < channel.due:
            # No filter lets a handler run at this counter.
            return
        self.last_event_name = channel.key
        if not channel.has_handlers:
            return
        self.current_event = channel.key
        for call, only in channel.calls:
            if only is None or (counter % only == 0 if only.__class__ is int else only(self, counter)):  # type: ignore[operator]  # the class was checked
                call(self)
        self.current_event = None
        if channel.can_skip:
            channel.seen, channel.due = counter, channel.next_due(counter)

    @contextlib.contextmanager
    def _firing(self, channel: Channel) -> Iterator[list[Call]]:
        """Yield the handler calls for one firing of an event, for callers that need the result of each call."""
        outer, self.current_event = self.current_event, channel.key
        self.last_event_name = channel.key
        if channel.counter is None:
            counter = channel.firings = channel.firings + 1
        else:
            counter = getattr(self.state, channel.counter)
        try:
            yield [
                channel.wrapped(r, r.checked_call)
                for r in channel.registrations
                if r.test is None or r.test(self, counter)
            ]
        finally:
            self._return_to(outer)

    def _return_to(self, outer: Key | None) -> None:
        """Make the outer event current again after one of its handlers fired another event."""
        self.current_event = outer
        if outer is not None:
            self.last_event_name = outer

    def _fire_with(self, channel: Channel, *payload: Any) -> None:
        """Run the handlers of an event, and pass additional arguments to the handlers."""
        with self._firing(channel) as calls:
            for call in calls:
                call(self, *payload)

    def _find(self, event_name: CallableEventWithFilter | str) -> Channel | None:
        key = event_name.event if isinstance(event_name, CallableEventWithFilter) else event_name
        try:
            found = self._channels.get(key)
        except TypeError:
            return None
        return found or (self._channels[Events[key]] if key in Events.__members__ else None)  # type: ignore[misc]  # only names are members

    def _channel(self, event_name: AnyEvent) -> Channel:
        channel = None if isinstance(event_name, EventsList) else self._find(event_name)
        if channel is None:
            raise ValueError(
                f"{event_name!r} is not an event of this engine. Its events are {', '.join(map(str, self._channels))}. "
                f"{self._closest_event(event_name)}Register custom events first: engine.register_events(...)"
            )
        return channel

    def _closest_event(self, event_name: object) -> str:
        """Return a suggestion that names the closest event, or an empty string."""
        if not isinstance(event_name, str):
            return ""
        names = {str(key).rpartition(".")[2].upper(): key for key in self._channels}
        matches = get_close_matches(event_name.rpartition(".")[2].upper(), names, n=1)
        return "".join(f"Did you mean {names[match]}? " for match in matches)


def _forget(channel: weakref.ref[Channel], registration: weakref.ref[Registration]) -> None:
    where, which = channel(), registration()
    if where is not None and which is not None:
        where.remove([which])


def _unwrap(table: weakref.ref[HandlerTable], wrapper: CallWrapper) -> None:
    engine = table()
    if engine is not None:
        engine._use_wrappers(tuple(each for each in engine._wrappers if each is not wrapper))  # noqa: SLF001 - part of the class
