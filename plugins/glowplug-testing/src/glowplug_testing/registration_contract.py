"""Contract of an engine: registering and removing handlers."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from glowplug import Events, EventsList, Phase, RemovableEventHandle
from glowplug_testing.engine_checks import EngineChecks, MakeEngine, OneEvent, Recorder, nothing


class RegistrationContract(EngineChecks):
    """The part of ``EngineContract`` that checks registrations and their handles."""

    # Registration

    def test_all_events_are_registered(self, make_engine: MakeEngine) -> None:
        """A new engine knows all members of Events and no other event (E-005)."""
        engine = make_engine()
        assert all(engine.has_registered_events(event) for event in Events)
        assert engine.has_registered_events(EventsList(*Events))
        assert not engine.has_registered_events("no_such_event")

    def test_add_event_handler_passes_arguments(self, make_engine: MakeEngine) -> None:
        """A handler is called with the engine, followed by the arguments given at registration (E-030)."""
        engine = make_engine()
        got: list[Any] = []

        def handler(*args: Any, **kwargs: Any) -> None:
            got.append((args, kwargs))

        handle = engine.add_event_handler(Events.STARTED, handler, 1, two=2)
        self.fire(engine, Events.STARTED)
        assert isinstance(handle, RemovableEventHandle)
        assert got == [((engine, 1), {"two": 2})]

    def test_on_returns_the_function(self, make_engine: MakeEngine) -> None:
        """The decorator ``on`` registers a function and its arguments, and returns the function unchanged (E-030)."""
        engine = make_engine()
        got: list[Any] = []

        def handler(_: Any, number: int) -> None:
            got.append(number)

        assert engine.on(Events.STARTED, 7)(handler) is handler
        self.fire(engine, Events.STARTED)
        assert got == [7]

    def test_has_and_remove_event_handler(self, make_engine: MakeEngine) -> None:
        """``has_event_handler`` finds a handler until the handler is removed; passing an event is optional (E-030)."""
        engine = make_engine()
        engine.add_event_handler(Events.STARTED, nothing)
        assert engine.has_event_handler(nothing)
        assert engine.has_event_handler(nothing, Events.STARTED)
        assert engine.has_event_handler(nothing, Events.STARTED | Events.COMPLETED)
        assert not engine.has_event_handler(nothing, Events.COMPLETED)
        engine.remove_event_handler(nothing, Events.STARTED)
        assert not engine.has_event_handler(nothing)
        with pytest.raises(ValueError, match=r"nothing.* cannot be removed from Events.STARTED"):
            engine.remove_event_handler(nothing, Events.STARTED)

    def test_unknown_event_is_refused(self, make_engine: MakeEngine) -> None:
        """Using an unknown event raises an error that names the event and recommends ``register_events`` (E-031)."""
        engine = make_engine()
        calls: tuple[Callable[[], Any], ...] = (
            lambda: engine.add_event_handler("epoch_end", nothing),
            lambda: engine.on("epoch_end")(nothing),
            lambda: engine.has_event_handler(nothing, "epoch_end"),
            lambda: engine.remove_event_handler(nothing, "epoch_end"),
            lambda: engine.fire_event("epoch_end"),
        )
        for call in calls:
            with pytest.raises(ValueError, match=r"'epoch_end' is not an event .*register_events"):
                call()

    def test_engine_is_passed_if_accepted(self, make_engine: MakeEngine) -> None:
        """A handler gets the engine as its first argument if the handler's signature allows this argument (E-032)."""
        engine = make_engine()
        got: list[Any] = []
        forms: dict[str, Callable[..., Any]] = {
            "bare": lambda: got.append("bare"),
            "keyword only": lambda *, k=1: got.append(("keyword only", k)),
            "one": lambda x: got.append(("one", x)),
            "default": lambda x=5: got.append(("default", x)),
            "named default": lambda trainer=None: got.append(("named default", trainer)),
            "star": lambda *a: got.append(("star", *a)),
            "partial": partial(Recorder.method, Recorder(got)),
            "method": Recorder(got).method,
            "object": Recorder(got),
        }
        for handler in forms.values():
            engine.add_event_handler(Events.STARTED, handler)
        engine.add_event_handler(Events.STARTED, lambda a, b=None: got.append((a, b)), 1)
        self.fire(engine, Events.STARTED)
        with_engine = [(name, engine) for name in ("named default", "star", "method", "method", "object")]
        assert got[:4] == ["bare", ("keyword only", 1), ("one", engine), ("default", 5)]
        assert got[4:] == [*with_engine, (engine, 1)]

    def test_wrong_signature_is_refused(self, make_engine: MakeEngine) -> None:
        """Registering a handler with a wrong signature raises an error that contains the signature (E-032)."""
        engine = make_engine()

        def handler(first: Any, second: Any) -> None: ...

        with pytest.raises(
            ValueError, match=r"handler\(first.*, second.*\).* of Events.STARTED cannot be called"
        ):
            engine.add_event_handler(Events.STARTED, handler)
        assert not engine.has_event_handler(handler)

    def test_async_is_refused(self, make_engine: MakeEngine) -> None:
        """Registering an async handler (method, callable object or partial) raises an error (E-032)."""
        engine = make_engine()

        class Async:
            async def method(self) -> None: ...

            async def __call__(self) -> None: ...

        for handler in (Async().method, Async(), partial(Async().method)):
            with pytest.raises(TypeError, match=r"Async.* of Events.STARTED is an async function"):
                engine.add_event_handler(Events.STARTED, handler)

    def test_handler_must_be_callable(self, make_engine: MakeEngine) -> None:
        """Registering a non-callable object raises an error, which names ``engine.attach`` if the object has ``attach``."""
        engine = make_engine()
        with pytest.raises(TypeError, match=r"handler of Events.STARTED must be callable, got 5"):
            engine.add_event_handler(Events.STARTED, 5)
        with pytest.raises(TypeError, match=r"must be callable.*use engine.attach\(handler\)"):
            engine.add_event_handler(Events.STARTED, OneEvent([], "a"))

    def test_engine_keeps_handlers_alive(self, make_engine: MakeEngine) -> None:
        """An engine keeps its handlers alive (E-034)."""
        engine = make_engine()
        got: list[Any] = []
        engine.add_event_handler(Events.STARTED, Recorder(got).method)
        gc.collect()
        self.fire(engine, Events.STARTED)
        assert got == [("method", engine)]

    def test_handle_removes_one_registration(self, make_engine: MakeEngine) -> None:
        """A handle removes one registration; ``remove_event_handler`` removes a handler's registrations for an event (E-035)."""
        engine = make_engine()
        got: list[Any] = []

        def handler(engine: Any) -> None:
            got.append(engine)

        engine.add_event_handler(Events.STARTED, lambda: None)
        first = engine.add_event_handler(Events.STARTED, handler)
        second = engine.add_event_handler(Events.STARTED(every=2), handler)
        self.fire(engine, Events.STARTED, epoch=2)
        second.remove()
        self.fire(engine, Events.STARTED)
        assert len(got) == 3
        engine.add_event_handler(Events.STARTED, handler)
        engine.remove_event_handler(handler, Events.STARTED)
        first.remove()
        self.fire(engine, Events.STARTED)
        assert len(got) == 3

    def test_order_of_registration(self, make_engine: MakeEngine) -> None:
        """Handlers of the same phase run in the order of registration (E-036)."""
        engine = make_engine()
        got: list[Any] = []
        for name in "cab":
            engine.add_event_handler(Events.STARTED, lambda _, n: got.append(n), name)
        self.fire(engine, Events.STARTED)
        assert got == ["c", "a", "b"]

    def test_phases_order_handlers(self, make_engine: MakeEngine) -> None:
        """Metrics run first, then user handlers, then loggers, then checkpoints, even if registered in another order."""
        engine = make_engine()
        got: list[Any] = []
        for phase in (Phase.CHECKPOINT, Phase.LOGGING, Phase.METRICS, Phase.USER):
            handler = Recorder(got)
            handler.phase = phase
            engine.add_event_handler(Events.STARTED, handler.record_phase)
        engine.add_event_handler(Events.STARTED, lambda: got.append("function"))
        self.fire(engine, Events.STARTED)
        assert got == [Phase.METRICS, Phase.USER, "function", Phase.LOGGING, Phase.CHECKPOINT]

    # Handles

    def test_second_remove_does_nothing(self, make_engine: MakeEngine) -> None:
        """A second ``remove()`` of a handle does nothing, even if the handler was added again or the engine deleted (E-050)."""
        engine = make_engine()
        got: list[Any] = []
        handle = engine.add_event_handler(Events.STARTED, Recorder(got).record)
        handle.remove()
        engine.add_event_handler(Events.STARTED, Recorder(got).record)
        handle.remove()
        self.fire(engine, Events.STARTED)
        assert got == [engine]
        other = engine.add_event_handler(Events.STARTED, nothing)
        del engine, got
        gc.collect()
        other.remove()

    def test_handle_keeps_nothing_alive(self, make_engine: MakeEngine) -> None:
        """A handle keeps neither the engine nor the handler alive (E-050)."""
        engine, recorder = make_engine(), Recorder([])
        handle = engine.add_event_handler(Events.STARTED, recorder.method)
        gone = weakref.ref(engine), weakref.ref(recorder)
        del engine, recorder
        gc.collect()
        assert [ref() for ref in gone] == [None, None]
        handle.remove()

    def test_handle_is_a_context_manager(self, make_engine: MakeEngine) -> None:
        """``with handle as h`` assigns the handle to ``h``; the end of the block removes the handler, even on errors (E-051)."""
        engine = make_engine()
        got: list[Any] = []
        handle = engine.add_event_handler(Events.STARTED, Recorder(got).record)
        with contextlib.suppress(KeyError), handle as given:
            assert given is handle
            self.fire(engine, Events.STARTED)
            raise KeyError
        self.fire(engine, Events.STARTED)
        assert got == [engine]

    def test_handle_covers_a_list(self, make_engine: MakeEngine) -> None:
        """If a handler is registered for a list of events, one handle removes the handler from all of them (E-042, E-052)."""
        engine = make_engine()
        got: list[Any] = []
        handle = engine.add_event_handler(
            Events.STARTED | Events.EPOCH_COMPLETED(every=2) | Events.COMPLETED, Recorder(got).method
        )
        for epoch in (1, 2):
            for event in (Events.STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED):
                self.fire(engine, event, epoch=epoch)
        assert len(got) == 5
        handle.remove()
        for event in (Events.STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED):
            self.fire(engine, event)
        assert len(got) == 5
