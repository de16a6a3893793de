"""Base class and handlers for the checks of an engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from glowplug import EventEnum, Events, Phase, RemovableEventHandle
from glowplug.testing import FakeEngine

MakeEngine: TypeAlias = Callable[[], Any]


class EngineChecks:
    """Base class that creates the engine under test and fires events on it."""

    @pytest.fixture
    def make_engine(self) -> MakeEngine:
        """Return a function that creates an engine; override this fixture in the subclass."""
        raise NotImplementedError(
            f"{type(self).__name__} needs a fixture make_engine, which must return a function that creates an engine"
        )

    def fire(self, engine: Any, event: Any, *, error: Exception | None = None, **state: Any) -> None:
        """Fire an event on a ``FakeEngine`` or on another engine."""
        if isinstance(engine, FakeEngine):
            engine.fire(event, error=error, **state)
            return
        for name, value in state.items():
            setattr(engine.state, name, value)
        if event is Events.EXCEPTION_RAISED:
            assert error is not None
            with (
                engine.add_event_handler(Events.ITERATION_STARTED, fail_with, error),
                contextlib.suppress(type(error)),
            ):
                engine.run([0])
        elif event is Events.TERMINATE_SINGLE_EPOCH:
            with engine.add_event_handler(Events.ITERATION_STARTED, lambda e: e.terminate_epoch()):
                engine.run([0])
        else:
            engine.fire_event(event)

    def counters(self, engine: Any, event: Any, numbers: range) -> list[int]:
        """Fire a filtered event at these iterations and return the iterations at which its handler runs."""
        ran: list[int] = []
        engine.add_event_handler(event, lambda e: ran.append(e.state.iteration))
        for number in numbers:
            self.fire(engine, event, iteration=number)
        return ran


class CustomEvents(EventEnum):
    """A custom event with the same name and value as a built-in event."""

    STARTED = "started"


class Recorder:
    """An object that records the calls of its methods."""

    def __init__(self, got: list[Any]) -> None:
        self.got = got
        self.phase = Phase.USER

    def __call__(self, engine: Any) -> None:
        self.got.append(("object", engine))

    def method(self, engine: Any) -> None:
        self.got.append(("method", engine))

    def record(self, value: Any) -> None:
        self.got.append(value)

    def record_phase(self) -> None:
        self.got.append(self.phase)


class OneEvent:
    """A handler with a default event."""

    def __init__(self, got: list[str], name: str) -> None:
        self.got = got
        self.name = name

    def attach(self, engine: Any) -> RemovableEventHandle:
        if self.name == "fails":
            raise RuntimeError("cannot be attached")
        handle: RemovableEventHandle = engine.add_event_handler(
            Events.STARTED, lambda: self.got.append(self.name)
        )
        return handle


class Failing:
    """A handler that fails at each call and counts the calls."""

    calls = 0

    def attach(self, engine: Any) -> RemovableEventHandle:
        handle: RemovableEventHandle = engine.add_event_handler(Events.STARTED, self.look)
        return handle

    def look(self) -> None:
        self.calls += 1
        raise LookupError(self.calls)


class Stateful:
    """A handler whose state is a number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def state_dict(self) -> dict[str, int]:
        return {"number": self.number}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.number = state["number"]


def nothing() -> None:
    """Do nothing."""


def fail_with(_: Any, error: Exception) -> None:
    """Raise an error."""
    raise error
