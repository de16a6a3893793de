"""States of the handlers, which are saved and loaded with the engine's state."""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from glowplug.engine._call import unwrap
from glowplug.engine._optional import Guard
from glowplug.handles import RemovableEventHandle


class _Strong:
    """Strong reference to a handler, with the same interface as a weak reference."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def __call__(self) -> Any:
        return self._handler


@dataclass(eq=False)
class _Entry:
    """A stateful handler with its key and its guard."""

    key: str
    """The key, without the number that is appended if another handler has the same key."""
    handler: Callable[[], Any]
    """Reference to the handler; returns ``None`` once the handler no longer exists."""
    guard: Guard | None
    uses: int = 0
    """The number of handles that keep the entry."""
    is_registered: bool = False
    """Whether the handler chose its key with ``register_state``."""


class StatefulHandlers:
    """States of stateful handlers by key, including loaded states that wait until their handlers are attached.

    Each handler has only one entry, even if it is added several times.
    """

    # The stateful handlers of the outer engine, whose step or handler runs this engine.
    outer: StatefulHandlers | None = None

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._waiting: dict[str, Any] = {}

    def add(self, key: Any, handler: Any, guard: Guard | None = None) -> RemovableEventHandle:
        """Add a handler under a key that the handler chose, and load any waiting state with this key into the handler."""
        if not isinstance(key, str) or not key:
            raise ValueError(
                f"the state key of {type(handler).__name__} must be a non-empty string, got {key!r}"
            )
        entry = self.find(handler)
        if entry is None:
            entry = self.insert(key, handler, guard)
        elif not entry.is_registered and entry.key != key:
            # add_event_handler() or another engine added the handler under the default key.
            free = self._load(key, handler)
            self._entries = {name: other for name, other in self._entries.items() if other is not entry}
            self._entries[free] = entry
            entry.key = key
        entry.is_registered = True
        return self._use(entry, handler)

    def add_callable(self, handler: Any, guard: Guard | None = None) -> RemovableEventHandle | None:
        """Add an event's handler if the handler is an object with a state."""
        if isinstance(handler, FunctionType) or not _is_stateful(handler := unwrap(handler)):
            return None
        return self._use(self.find(handler) or self.insert(_default_key(handler), handler, guard), handler)

    def share_with(self, outer: StatefulHandlers) -> None:
        """Share the handlers with the engine that runs this one, including handlers that are added later in the run.

        The outer engine does not keep the handlers alive. Handlers that are reset in every run, such as metrics, are not shared.
        """
        self.outer = outer
        for _, handler, entry in self.live():
            self._share(entry, handler)

    def _share(self, entry: _Entry, handler: Any) -> None:
        outer = self.outer
        if outer is None or getattr(handler, "is_reset_by_run", False) or outer.find(handler) is not None:
            return
        outer.insert(entry.key, handler, entry.guard).handler = _weakly(handler)

    def insert(self, key: str, handler: Any, guard: Guard | None) -> _Entry:
        """Add a handler under a key, and load any waiting state with this key into the handler."""
        entry = self._entries[self._load(key, handler)] = _Entry(key, _Strong(handler), guard)
        self._share(entry, handler)
        return entry

    def _use(self, entry: _Entry, handler: Any) -> RemovableEventHandle:
        entry.handler = _Strong(handler)
        entry.uses += 1
        # A handle may outlive the engine; it keeps neither the engine nor the handler alive.
        return RemovableEventHandle(functools.partial(_release, weakref.ref(self), weakref.ref(entry)))

    def _load(self, key: str, handler: Any) -> str:
        """Find a free key for a handler, load any waiting state with this key into the handler, and return the key."""
        key = self._free_key(key)
        if key in self._waiting:
            _load_into(handler, key, self._waiting[key])
            # The state is deleted only now, so that it is retained if the handler rejects it.
            del self._waiting[key]
        return key

    def release(self, entry: _Entry) -> None:
        """Release one handle of an entry, and remove the entry if no handle is left."""
        entry.uses -= 1
        if not entry.uses:
            self._entries = {key: other for key, other in self._entries.items() if other is not entry}

    def live(self) -> Iterator[tuple[str, Any, _Entry]]:
        """For each handler that still exists, yield its key, the handler and its entry."""
        for key, entry in tuple(self._entries.items()):
            handler = entry.handler()
            if handler is not None:
                yield key, handler, entry

    def find(self, handler: Any) -> _Entry | None:
        """Return the entry of a handler, or ``None`` if the handler has no entry."""
        return next((entry for _, other, entry in self.live() if other is handler), None)

    def _free_key(self, key: str) -> str:
        """Return the key, with a number appended if the key is taken."""
        taken = {key for key, _, _ in self.live()}
        free, number = key, 1
        while free in taken:
            number += 1
            free = f"{key}#{number}"
        return free

    def state_dict(self, engine: Any) -> dict[str, Any]:
        """Return all states by key, including states whose handlers are not attached."""
        states = {}
        for _, _, entry in self.live():
            if entry.guard is not None and entry.guard.is_off:
                # The handler failed on an engine that runs within this engine.
                self.retire(entry.guard)
        for key, handler, entry in self.live():
            if entry.guard is None:
                states[key] = handler.state_dict()
            else:
                state = entry.guard.around(lambda _, each=handler: each.state_dict(), "state_dict()")(engine)
                if not entry.guard.is_off:
                    states[key] = state
        return {**self._waiting, **states}

    def retire(self, guard: Guard) -> None:
        """Remove an optional handler that failed, and keep its last state."""
        for key, handler, entry in self.live():
            if entry.guard is guard:
                del self._entries[key]
                # Its state_dict() may fail as well.
                with suppress(Exception):
                    self._waiting[key] = handler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the states of attached handlers; keep other states until their handlers are attached."""
        waiting = dict(state)
        for key, handler, _ in self.live():
            if key in waiting:
                _load_into(handler, key, waiting.pop(key))
        self._waiting = waiting

    def __getstate__(self) -> dict[str, Any]:
        # Weak references cannot be pickled, so only the states of their handlers are retained.
        weak = {key for key, entry in self._entries.items() if not isinstance(entry.handler, _Strong)}
        states = {key: handler.state_dict() for key, handler, _ in self.live() if key in weak}
        strong = {key: entry for key, entry in self._entries.items() if key not in weak}
        return {"_entries": strong, "_waiting": {**self._waiting, **states}}


def _load_into(handler: Any, key: str, state: Any) -> None:
    """Load a state into a handler; raise an error that names both if the state does not fit."""
    try:
        handler.load_state_dict(state)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        from glowplug.plugins import describe_error

        raise ValueError(
            f"the state under {key!r} in the engine's handlers does not fit {type(handler).__name__}: {describe_error(error)}. "
            f"Load a state that {type(handler).__name__} has saved, or remove it with del state_dict['handlers'][{key!r}] before "
            "engine.load_state_dict(state_dict)"
        ) from error


def _weakly(handler: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(handler)
    except TypeError:
        # Objects with __slots__ may not support weak references.
        return _Strong(handler)


def _is_stateful(handler: Any) -> bool:
    """Return whether an object has a state that belongs to the engine.

    Modules and optimizers are excluded, because users save them separately. The check inspects the class rather than the object,
    because a mock object has every attribute.
    """
    kind = type(handler)
    if not (callable(getattr(kind, "state_dict", None)) and callable(getattr(kind, "load_state_dict", None))):
        return False
    torch = sys.modules.get("torch")
    return torch is None or not isinstance(handler, (torch.nn.Module, torch.optim.Optimizer))


def _default_key(handler: Any) -> str:
    key = getattr(handler, "state_key", None)
    return key if isinstance(key, str) and key else type(handler).__name__


def _release(handlers: weakref.ref[StatefulHandlers], entry: weakref.ref[_Entry]) -> None:
    where, which = handlers(), entry()
    if where is not None and which is not None:
        where.release(which)
