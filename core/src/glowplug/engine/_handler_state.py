"""The handlers whose state travels with the engine's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from glowplug.engine._optional import Guard
from glowplug.handles import RemovableEventHandle


class _Entry(NamedTuple):
    handler: Any
    guard: Guard | None  # that of an optional handler, whose faults do not end a run


class StatefulHandlers:
    """Collects and hands over the state of handlers by key; keeps what nobody has asked for yet."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._waiting: dict[str, Any] = {}

    def add(self, key: Any, handler: Any, guard: Guard | None = None) -> RemovableEventHandle:
        """Add a handler, and give it the state that waits for it."""
        if not isinstance(key, str) or not key:
            raise ValueError(
                f"the state key of {type(handler).__name__} must be a non-empty string, got {key!r}"
            )
        key = self._free_key(key)
        if key in self._waiting:
            handler.load_state_dict(self._waiting[key])
            del self._waiting[key]  # only now: a handler that refuses its state leaves it as it was
        self._entries[key] = _Entry(handler, guard)
        return RemovableEventHandle(functools.partial(self._entries.pop, key, None))

    def _free_key(self, key: str) -> str:
        """Return the key, with a number behind it if it is taken."""
        free, number = key, 1
        while free in self._entries:
            number += 1
            free = f"{key}#{number}"
        return free

    def state_dict(self, engine: Any) -> dict[str, Any]:
        """Return the state of all handlers, and what is still waiting, by key."""
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
        """Let go of an optional handler that failed, and keep its last state for when it is attached again."""
        for key, entry in tuple(self._entries.items()):
            if entry.guard is guard:
                del self._entries[key]
                with suppress(Exception):  # it may be broken in this as well
                    self._waiting[key] = entry.handler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand the state over; what belongs to no attached handler waits for it."""
        self._waiting = {key: value for key, value in state.items() if key not in self._entries}
        for key in state.keys() & self._entries.keys():
            self._entries[key].handler.load_state_dict(state[key])


def _ask(handler: Any) -> Callable[[Any], Mapping[str, Any]]:
    return lambda _: handler.state_dict()
