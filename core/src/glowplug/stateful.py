"""The handlers whose state travels with the engine's."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from glowplug.handles import RemovableEventHandle


class StatefulHandlers:
    """Collects and hands over the state of handlers by key; keeps what nobody has asked for yet."""

    def __init__(self) -> None:
        self._handlers: dict[str, Any] = {}
        self._waiting: dict[str, Any] = {}

    def add(self, key: Any, handler: Any) -> RemovableEventHandle:
        """Add a handler, and give it the state that waits for it."""
        if not isinstance(key, str) or not key:
            raise ValueError(
                f"the state key of {type(handler).__name__} must be a non-empty string, got {key!r}"
            )
        if key in self._handlers:
            raise ValueError(
                f"two handlers would store their state under {key!r}: {type(self._handlers[key]).__name__} and "
                f"{type(handler).__name__}; give one of them another state_key="
            )
        if key in self._waiting:
            handler.load_state_dict(self._waiting[key])
            del self._waiting[key]  # only now: a handler that refuses its state leaves it as it was
        self._handlers[key] = handler
        return RemovableEventHandle(functools.partial(self._handlers.pop, key, None))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all handlers, and what is still waiting, by key."""
        return {**self._waiting, **{key: handler.state_dict() for key, handler in self._handlers.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand the state over; what belongs to no attached handler waits for it."""
        self._waiting = {key: value for key, value in state.items() if key not in self._handlers}
        for key in state.keys() & self._handlers.keys():
            self._handlers[key].load_state_dict(state[key])
