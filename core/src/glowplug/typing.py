"""Protocols of engines, handlers, log handlers and save handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

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
    "Stateful",
]


class RegistrationProtocol(Protocol):
    """One handler registered at one event."""

    @property
    def event(self) -> EventEnum | str:
        """The event, without its filter."""

    @property
    def handler(self) -> Callable[..., Any]:
        """The registered handler."""

    @property
    def filter(self) -> EventFilter | None:
        """The filter of the event."""

    @property
    def phase(self) -> Phase:
        """The phase in which the handler runs."""


class EngineProtocol(Protocol):
    """Engine interface for handlers; ``Engine`` and ``glowplug.testing.FakeEngine`` implement it."""

    state: State
    last_event_name: CallableEventWithFilter | str | None
    stash: Stash

    @property
    def current_event(self) -> EventEnum | str | None:
        """The event whose handlers are running; ``None`` while no handler runs."""

    def registrations(self) -> Sequence[RegistrationProtocol]:
        """Return all registrations, grouped by event and in calling order."""

    @property
    def parent(self) -> EngineProtocol | None:
        """The engine whose handler is running this engine; ``None`` if there is none."""

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

    def fire_event(self, event_name: AnyEvent) -> None:
        """Run the handlers of an event."""

    def register_state(self, key: str, handler: Stateful) -> RemovableEventHandle:
        """Add a handler's state to the engine's ``state_dict()``."""

    def terminate(self, skip_completed: bool = False) -> None:
        """Request the end of the run."""

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """Request the end of the epoch."""

    def interrupt(self) -> None:
        """Request an interruption: ``run()`` returns, and its next call continues the run."""


@runtime_checkable
class Attachable(Protocol):
    """A handler with default events."""

    def attach(self, engine: EngineProtocol, /) -> RemovableEventHandle:
        """Attach to the default events."""


@runtime_checkable
class Stateful(Protocol):
    """A handler with a state that engines save and load."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state as plain values and tensors."""

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Restore a state that :meth:`state_dict` returned."""


class LogHandler(Protocol):
    """A callable that reads an engine and logs to a logger."""

    def __call__(
        self, engine: EngineProtocol, logger: Any, event_name: CallableEventWithFilter | str, /
    ) -> None:
        """Log the records of one firing."""


@runtime_checkable
class SaveHandler(Protocol):
    """Storage for checkpoints, addressed by plain file names.

    ``save`` returns when the checkpoint is durable, and raises if it fails. Stored checkpoints can be listed and loaded,
    even by another handler for the same location in another process. No base class is needed.

    Example:
        >>> class InMemory:
        ...     def __init__(self):
        ...         self.files = {}
        ...
        ...     def save(self, checkpoint, filename, metadata=None):
        ...         self.files.pop(filename, None)
        ...         self.files[filename] = checkpoint
        ...
        ...     def load(self, filename):
        ...         return self.files[filename]
        ...
        ...     def list(self):
        ...         return list(self.files)
        ...
        ...     def remove(self, filename):
        ...         self.files.pop(filename, None)
        ...
        ...     def locate(self, filename):
        ...         return filename
        >>> isinstance(InMemory(), SaveHandler)
        True
    """

    def save(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Store a checkpoint and return when it is durable.

        Args:
            checkpoint: Mappings and lists of plain values and tensors. The caller may change them afterwards.
            filename: A plain name without a path. An existing checkpoint with this name is replaced.
            metadata: ``basename``, ``score_name`` and ``priority`` of the checkpoint.
        """

    def load(self, filename: str) -> Any:
        """Return a stored checkpoint with its tensors on the CPU.

        Args:
            filename: The name given to :meth:`save`.

        Raises:
            Exception: If the checkpoint does not exist or cannot be read.
        """

    def list(self) -> Sequence[str]:
        """Return the names of all complete checkpoints, oldest first."""

    def remove(self, filename: str) -> None:
        """Remove a checkpoint; do nothing if it does not exist.

        Args:
            filename: The name given to :meth:`save`.
        """

    def locate(self, filename: str) -> Path | str:
        """Return the path or address of a checkpoint.

        Args:
            filename: The name given to :meth:`save`.

        Returns:
            The path or address. A handler for the address ``scheme://location`` returns ``scheme://location/filename``, so
            that the address alone identifies the checkpoint.
        """
