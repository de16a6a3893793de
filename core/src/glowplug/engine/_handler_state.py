"""State of the handlers, saved and loaded with the engine."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from glowplug.engine._optional import Guard
from glowplug.handles import RemovableEventHandle


class _Entry(NamedTuple):
    handler: Any
    guard: Guard | None


class StatefulHandlers:
    """States of stateful handlers by key, including states whose handlers are not attached."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._waiting: dict[str, Any] = {}

    def add(self, key: Any, handler: Any, guard: Guard | None = None) -> RemovableEventHandle:
        """Add a handler and load the state stored under its key, if any."""
        if not isinstance(key, str) or not key:
            raise ValueError(
                f"the state key of {type(handler).__name__} must be a non-empty string, got {key!r}"
            )
        key = self._free_key(key)
        if key in self._waiting:
            handler.load_state_dict(self._waiting[key])
            # If the handler rejects its state, the state stays here.
            del self._waiting[key]
        self._entries[key] = _Entry(handler, guard)
        return RemovableEventHandle(functools.partial(_forget, weakref.ref(self), key))

    def remove(self, key: str) -> None:
        """Remove the handler with this key."""
        self._entries.pop(key, None)

    def _free_key(self, key: str) -> str:
        """Return the key, followed by a number if it is taken."""
        free, number = key, 1
        while free in self._entries:
            number += 1
            free = f"{key}#{number}"
        return free

    def state_dict(self, engine: Any) -> dict[str, Any]:
        """Return all states by key, including states whose handlers are not attached."""
        states = {}
        for key, (handler, guard) in tuple(self._entries.items()):
            if guard is None:
                states[key] = handler.state_dict()
            else:
                state = guard.around(_ask(handler), "state_dict()")(engine)
                if not guard.is_off:
                    states[key] = state
        return {**self._waiting, **states}

    def retire(self, guard: Guard) -> None:
        """Remove an optional handler that failed, and keep its last state."""
        for key, entry in tuple(self._entries.items()):
            if entry.guard is guard:
                del self._entries[key]
                # Its state_dict() may fail as well.
                with suppress(Exception):
                    self._waiting[key] = entry.handler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the states of attached handlers; keep other states until their handlers are attached."""
        self._waiting = {key: value for key, value in state.items() if key not in self._entries}
        for key in state.keys() & self._entries.keys():
            self._entries[key].handler.load_state_dict(state[key])


def _forget(handlers: weakref.ref[StatefulHandlers], key: str) -> None:
    stateful = handlers()
    if stateful is not None:
        stateful.remove(key)


def _ask(handler: Any) -> Callable[[Any], Mapping[str, Any]]:
    return lambda _: handler.state_dict()
