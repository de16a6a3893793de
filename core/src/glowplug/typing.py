"""Protocols for engines, handlers, log handlers and save handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from glowplug._save_handler import SaveHandler, StagingSaveHandler, VerifyingSaveHandler
from glowplug.events import AnyEvent, CallableEventWithFilter, EventEnum, EventFilter
from glowplug.handles import RemovableEventHandle
from glowplug.phase import Phase
from glowplug.stash import Stash
from glowplug.state import State

__all__ = [
    "AnyEvent",
    "Attachable",
    "EngineProtocol",
    "LogHandler",
    "RegistrationProtocol",
    "SaveHandler",
    "SavesNow",
    "StagingSaveHandler",
    "Stateful",
    "VerifyingSaveHandler",
]


class RegistrationProtocol(Protocol):
    """Registration of one handler at one event.

    Example:
        >>> from glowplug import Events
        >>> from glowplug.testing import FakeEngine
        >>> engine = FakeEngine()
        >>> def validate(engine): ...
        >>> handle = engine.add_event_handler(Events.EPOCH_COMPLETED(every=5), validate)
        >>> (registration,) = engine.registrations()
        >>> registration.event, registration.filter, registration.handler.__name__, registration.phase.name
        (Events.EPOCH_COMPLETED, every=5, 'validate', 'USER')
    """

    @property
    def event(self) -> EventEnum | str:
        """The event without its filter."""

    @property
    def handler(self) -> Callable[..., Any]:
        """The registered handler."""

    @property
    def filter(self) -> EventFilter | None:
        """The filter of the event; ``None`` if the event has no filter."""

    @property
    def phase(self) -> Phase:
        """The phase in which the handler runs."""


class EngineProtocol(Protocol):
    """Engine interface for handlers, implemented by ``Engine`` and ``glowplug.testing.FakeEngine``.

    :class:`glowplug.Engine` describes the arguments and errors of each method.

    Example:
        >>> from glowplug import Engine, Events
        >>> from glowplug.testing import FakeEngine
        >>> def stop_at_zero(engine: EngineProtocol) -> None:
        ...     if engine.state.output == 0:
        ...         engine.terminate()
        >>> engine, fake = Engine(lambda engine, batch: batch), FakeEngine()
        >>> for each in (engine, fake):
        ...     handle = each.add_event_handler(Events.ITERATION_COMPLETED, stop_at_zero)
        >>> engine.run([2, 1, 0, 3]).iteration
        3
        >>> fake.fire(Events.ITERATION_COMPLETED, output=0).terminated
        True
    """

    state: State
    last_event_name: CallableEventWithFilter | str | None

    @property
    def stash(self) -> Stash:
        """Values that handlers store for this engine."""

    @property
    def current_event(self) -> EventEnum | str | None:
        """The event whose handlers are running; ``None`` while no handler runs."""

    def registrations(self) -> Sequence[RegistrationProtocol]:
        """Return all registrations, grouped by event; within an event, in the order in which handlers run."""

    @property
    def parent(self) -> EngineProtocol | None:
        """The engine whose step or handler called this engine's ``run()``; ``None`` outside such a call."""

    def add_event_handler(
        self, event_name: AnyEvent, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Register a handler."""

    def remove_event_handler(self, handler: Callable[..., Any], event_name: AnyEvent) -> None:
        """Remove all registrations of a handler at an event."""

    def has_event_handler(self, handler: Callable[..., Any], event_name: AnyEvent | None = None) -> bool:
        """Return whether a handler is registered."""

    def register_events(
        self, *event_names: EventEnum | str, event_to_attr: dict[Any, str] | None = None
    ) -> None:
        """Register custom events."""

    def has_registered_events(self, event_name: AnyEvent) -> bool:
        """Return whether an event is registered."""

    def wrap_handlers(
        self, wrapper: Callable[[RegistrationProtocol, Callable[..., Any]], Callable[..., Any]]
    ) -> RemovableEventHandle:
        """Wrap each call of a handler, for example to measure how long it takes."""

    def fire_event(self, event_name: AnyEvent) -> None:
        """Run the handlers of an event."""

    def run_registration(self, registration: Any) -> None:
        """Run one registered handler as at its event, regardless of its filter."""

    def register_state(self, key: str, handler: Stateful) -> RemovableEventHandle:
        """Add a handler's state to the engine's ``state_dict()``."""

    def terminate(self, skip_completed: bool = False) -> None:
        """Request the end of the run."""

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """Request the end of the epoch."""

    def interrupt(self) -> None:
        """Request an interruption: ``run()`` returns, and the next call of ``run()`` continues the run."""

    should_interrupt: bool
    """Whether an interruption is requested. A handler of ``INTERRUPT`` may set it to ``False``; then the run continues."""


@runtime_checkable
class Attachable(Protocol):
    """A handler with an ``attach`` method, which registers the handler at its default events.

    Example:
        >>> from glowplug import Events
        >>> class Shout:
        ...     def attach(self, engine):
        ...         return engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        ...
        ...     def __call__(self, engine): ...
        >>> isinstance(Shout(), Attachable), isinstance(print, Attachable)
        (True, False)
    """

    def attach(self, engine: EngineProtocol, /) -> RemovableEventHandle:
        """Register the handler with an engine, at the default events of the handler."""


@runtime_checkable
class Stateful(Protocol):
    """A handler with a state that engines save and load.

    Example:
        >>> class Counter:
        ...     count = 0
        ...
        ...     def state_dict(self):
        ...         return {"count": self.count}
        ...
        ...     def load_state_dict(self, state_dict):
        ...         self.count = state_dict["count"]
        >>> isinstance(Counter(), Stateful)
        True
    """

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state as plain values and tensors."""

    # The schedulers and optimizers of torch accept only a dict; modules return the names of missing keys.
    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Restore a state that :meth:`state_dict` returned."""


@runtime_checkable
class SavesNow(Protocol):
    """A checkpoint handler that can save at any moment, apart from its events, filters and scores.

    Handlers such as ``Preemption`` use this method to save the last state of a run. A checkpoint handler without this method is
    called as at its event, unless it has a ``score_function``.

    Example:
        >>> class InMemory:
        ...     iteration = None
        ...
        ...     def save_now(self, engine):
        ...         self.iteration = engine.state.iteration
        ...         return True
        >>> isinstance(InMemory(), SavesNow)
        True
    """

    def save_now(self, engine: EngineProtocol, /) -> bool:
        """Save a checkpoint, and return whether one was saved or already existed for this state."""


class LogHandler(Protocol):
    """A callable that reads values from an engine and passes them to a logger.

    Example:
        >>> from glowplug import Engine, Events
        >>> from glowplug.loggers import Logger
        >>> class Printer(Logger):
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         print(step, scalars)
        >>> def log_epoch(engine, logger, event_name):
        ...     logger.log_scalars({"epoch": engine.state.epoch}, engine.state.iteration)
        >>> engine = Engine(lambda engine, batch: batch)
        >>> with Printer() as logger:
        ...     handle = logger.attach(engine, Events.EPOCH_COMPLETED, log_epoch)
        ...     state = engine.run(range(3), max_epochs=2)
        3 {'epoch': 1}
        6 {'epoch': 2}
    """

    def __call__(
        self, engine: EngineProtocol, logger: Any, event_name: CallableEventWithFilter | str, /
    ) -> None:
        """Log values when an event fires."""


# Show the public path in tracebacks.
for _protocol in (SaveHandler, StagingSaveHandler, VerifyingSaveHandler):
    _protocol.__module__ = __name__
