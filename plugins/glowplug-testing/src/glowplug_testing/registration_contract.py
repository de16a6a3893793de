"""What a handler may rely on when it is registered and removed."""

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
    """The part of ``EngineContract`` about registrations and their handles."""

    # Registration

    def test_E_005_all_events_are_registered(self, make_engine: MakeEngine) -> None:
        """Each member of Events is known to a new engine, and nothing else is."""
        engine = make_engine()
        assert all(engine.has_registered_events(event) for event in Events)
        assert engine.has_registered_events(EventsList(*Events))
        assert not engine.has_registered_events("no_such_event")

    def test_E_030_add_event_handler_passes_arguments(self, make_engine: MakeEngine) -> None:
        """A handler gets the engine, then the arguments given at registration."""
        engine = make_engine()
        got: list[Any] = []

        def handler(*args: Any, **kwargs: Any) -> None:
            got.append((args, kwargs))

        handle = engine.add_event_handler(Events.STARTED, handler, 1, two=2)
        self.fire(engine, Events.STARTED)
        assert isinstance(handle, RemovableEventHandle)
        assert got == [((engine, 1), {"two": 2})]

    def test_E_030_on_returns_the_function(self, make_engine: MakeEngine) -> None:
        """``on`` registers a function with its arguments, and leaves it as it is."""
        engine = make_engine()
        got: list[Any] = []

        def handler(_: Any, number: int) -> None:
            got.append(number)

        assert engine.on(Events.STARTED, 7)(handler) is handler
        self.fire(engine, Events.STARTED)
        assert got == [7]

    def test_E_030_has_and_remove_event_handler(self, make_engine: MakeEngine) -> None:
        """A registered handler can be found, at its event or at any, until it is removed."""
        engine = make_engine()
        engine.add_event_handler(Events.STARTED, nothing)
        assert engine.has_event_handler(nothing)
        assert engine.has_event_handler(nothing, Events.STARTED)
        assert engine.has_event_handler(nothing, Events.STARTED | Events.COMPLETED)
        assert not engine.has_event_handler(nothing, Events.COMPLETED)
        engine.remove_event_handler(nothing, Events.STARTED)
        assert not engine.has_event_handler(nothing)
        with pytest.raises(ValueError, match=r"nothing.* is not registered at Events.STARTED"):
            engine.remove_event_handler(nothing, Events.STARTED)

    def test_E_031_unknown_event(self, make_engine: MakeEngine) -> None:
        """An event that the engine does not know is refused by name, with what to do."""
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

    def test_E_032_engine_is_passed_where_it_fits(self, make_engine: MakeEngine) -> None:
        """A handler that can take the engine gets it first, any other is called without it."""
        engine = make_engine()
        got: list[Any] = []
        forms: dict[str, Callable[..., Any]] = {
            "bare": lambda: got.append("bare"),
            "keyword only": lambda *, k=1: got.append(("keyword only", k)),
            "one": lambda x: got.append(("one", x)),
            "default": lambda x=5: got.append(("default", x)),
            "star": lambda *a: got.append(("star", *a)),
            "partial": partial(Recorder.method, Recorder(got)),
            "method": Recorder(got).method,
            "object": Recorder(got),
        }
        for handler in forms.values():
            engine.add_event_handler(Events.STARTED, handler)
        engine.add_event_handler(Events.STARTED, lambda a, b=None: got.append((a, b)), 1)
        self.fire(engine, Events.STARTED)
        with_engine = [(name, engine) for name in ("one", "default", "star", "method", "method", "object")]
        assert got == ["bare", ("keyword only", 1), *with_engine, (engine, 1)]

    def test_E_032_misfit_is_refused_at_registration(self, make_engine: MakeEngine) -> None:
        """A handler that cannot be called so is refused when registered, and the message shows its signature."""
        engine = make_engine()

        def handler(first: Any, second: Any) -> None: ...

        with pytest.raises(
            ValueError, match=r"handler\(first.*, second.*\).* of Events.STARTED cannot be called"
        ):
            engine.add_event_handler(Events.STARTED, handler)
        assert not engine.has_event_handler(handler)

    def test_E_032_async_is_refused(self, make_engine: MakeEngine) -> None:
        """An async handler would never be awaited, so it is refused: as function, method, object and partial."""
        engine = make_engine()

        class Async:
            async def method(self) -> None: ...

            async def __call__(self) -> None: ...

        for handler in (Async().method, Async(), partial(Async().method)):
            with pytest.raises(TypeError, match=r"Async.* of Events.STARTED is an async function"):
                engine.add_event_handler(Events.STARTED, handler)

    def test_handler_must_be_callable(self, make_engine: MakeEngine) -> None:
        """What cannot be called is refused; one that can be attached is told how."""
        engine = make_engine()
        with pytest.raises(TypeError, match=r"handler of Events.STARTED must be callable, got 5"):
            engine.add_event_handler(Events.STARTED, 5)
        with pytest.raises(TypeError, match=r"must be callable.*use engine.attach\(handler\)"):
            engine.add_event_handler(Events.STARTED, OneEvent([], "a"))

    def test_E_034_handler_is_kept_alive(self, make_engine: MakeEngine) -> None:
        """An engine keeps its handlers alive."""
        engine = make_engine()
        got: list[Any] = []
        engine.add_event_handler(Events.STARTED, Recorder(got).method)
        gc.collect()
        self.fire(engine, Events.STARTED)
        assert got == [("method", engine)]

    def test_E_035_handle_removes_its_own_registration(self, make_engine: MakeEngine) -> None:
        """A handler registered twice runs twice; each handle takes back one, remove_event_handler all."""
        engine = make_engine()
        got: list[Any] = []
        handler = got.append
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

    def test_E_036_order_of_registration(self, make_engine: MakeEngine) -> None:
        """Handlers of one phase run in the order in which they were registered."""
        engine = make_engine()
        got: list[Any] = []
        for name in "cab":
            engine.add_event_handler(Events.STARTED, lambda _, n: got.append(n), name)
        self.fire(engine, Events.STARTED)
        assert got == ["c", "a", "b"]

    def test_phases_order_handlers(self, make_engine: MakeEngine) -> None:
        """Whatever the order of registration, metrics come first, then functions, loggers and checkpoints."""
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

    def test_E_050_remove_twice(self, make_engine: MakeEngine) -> None:
        """A second remove does nothing, also when the handler has been registered again or the engine is gone."""
        engine = make_engine()
        got: list[Any] = []
        handle = engine.add_event_handler(Events.STARTED, got.append)
        handle.remove()
        engine.add_event_handler(Events.STARTED, got.append)
        handle.remove()
        self.fire(engine, Events.STARTED)
        assert got == [engine]
        other = engine.add_event_handler(Events.STARTED, nothing)
        del engine, got
        gc.collect()
        other.remove()

    def test_E_050_handle_keeps_nothing_alive(self, make_engine: MakeEngine) -> None:
        """A handle that is kept keeps neither the engine nor the handler alive."""
        engine, recorder = make_engine(), Recorder([])
        handle = engine.add_event_handler(Events.STARTED, recorder.method)
        gone = weakref.ref(engine), weakref.ref(recorder)
        del engine, recorder
        gc.collect()
        assert [ref() for ref in gone] == [None, None]
        handle.remove()

    def test_E_051_handle_is_a_context_manager(self, make_engine: MakeEngine) -> None:
        """``with`` gives the handle itself, and removes at its end, after an error too."""
        engine = make_engine()
        got: list[Any] = []
        handle = engine.add_event_handler(Events.STARTED, got.append)
        with contextlib.suppress(KeyError), handle as given:
            assert given is handle
            self.fire(engine, Events.STARTED)
            raise KeyError
        self.fire(engine, Events.STARTED)
        assert got == [engine]

    def test_E_042_E_052_handle_covers_a_list(self, make_engine: MakeEngine) -> None:
        """A list registers a handler at each event; one handle removes a method at filtered events from all."""
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
