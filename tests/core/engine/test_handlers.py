"""How the engine calls handlers of its built-in events; see test_contract.py for rules of every engine."""

from __future__ import annotations

import functools
import weakref
from unittest.mock import MagicMock

import pytest

from glowplug import Engine, EventEnum, Events, Phase
from glowplug.testing import FakeEngine


class TestSignature:
    def test_engine_parameter_of_any_name(self, identity):
        """The parameter that receives the engine may have any name (E-032)."""
        got = []
        identity.add_event_handler(Events.STARTED, lambda anything: got.append(anything))
        identity.run([1])
        assert got == [identity]

    def test_objects_with_slots(self, identity):
        """Objects that do not support weak references can be handlers (E-032)."""

        class Slots:
            __slots__ = ("got",)

            def __call__(self, engine):
                self.got = engine

        handler = Slots()
        identity.add_event_handler(Events.STARTED, handler)
        identity.run([1])
        assert handler.got is identity

    def test_builtin_without_signature(self, identity):
        """A builtin without a signature is refused, and the message suggests a lambda (E-032)."""
        with pytest.raises(
            ValueError, match=r"handler min of Events.STARTED; wrap the handler: lambda engine: min\(\.\.\.\)"
        ):
            identity.add_event_handler(Events.STARTED, min)

    def test_mismatch_names_extra_arguments(self, identity):
        """The message about a signature mismatch shows the extra arguments (E-032)."""

        def handler(engine): ...

        with pytest.raises(
            ValueError,
            match=r"handler.*\(engine\) of Events.STARTED .* args=\(1,\) and kwargs=\{'a': 2\}",
        ):
            identity.add_event_handler(Events.STARTED, handler, 1, a=2)

    def test_async_generator(self, identity):
        """An async generator function is refused like an async function (E-032)."""

        async def handler(engine):
            yield

        with pytest.raises(TypeError, match=r"handler of Events.STARTED is an async generator function"):
            identity.add_event_handler(Events.STARTED, handler)

    def test_weak_reference_is_an_ordinary_argument(self, identity):
        """Extra arguments, weak references included, are passed unchanged after the engine (E-033)."""
        got, reference = [], weakref.ref(identity)
        identity.add_event_handler(Events.STARTED, lambda *args: got.append(args), reference)
        identity.run([1])
        assert got == [(identity, reference)]


class TestRemoval:
    def test_bound_methods(self, identity):
        """A bound method is found again, but not as a method of another object (E-035)."""

        class Handler:
            def method(self, engine): ...

        one, two = Handler(), Handler()
        identity.add_event_handler(Events.STARTED, one.method)
        assert identity.has_event_handler(one.method)
        assert not identity.has_event_handler(two.method)
        identity.remove_event_handler(one.method, Events.STARTED)
        assert not identity.has_event_handler(one.method)

    def test_remove_from_an_events_list(self, identity):
        """A handler is removed from several events with one call (E-035)."""

        def handler(): ...

        identity.add_event_handler(Events.STARTED | Events.COMPLETED, handler)
        identity.remove_event_handler(handler, Events.STARTED | Events.COMPLETED)
        assert not identity.has_event_handler(handler)


class TestChangesDuringRun:
    def test_add_and_remove_at_iteration_started(self, identity):
        """Handlers added or removed while an event fires take effect at its next firing (E-037)."""
        got = []

        def first(engine):
            got.append("first")
            engine.add_event_handler(Events.ITERATION_STARTED, lambda: got.append("added"))
            handle.remove()

        handle = identity.add_event_handler(Events.ITERATION_STARTED, first)
        identity.run([1, 2, 3])
        assert got == ["first", "added", "added"]

    def test_first_handler_added_during_an_epoch(self, identity):
        """An event without handlers calls those that are added during the epoch (E-037)."""
        got = []
        identity.add_event_handler(
            Events.ITERATION_STARTED(once=2),
            lambda e: e.add_event_handler(
                Events.ITERATION_COMPLETED, lambda e: got.append(e.state.iteration)
            ),
        )
        identity.run([1, 2, 3])
        assert got == [2, 3]


class TestFireEvent:
    def test_iter_counter_of_terminate_single_epoch(self, identity):
        """iter_counter of TERMINATE_SINGLE_EPOCH counts the iterations of the current epoch (E-039)."""
        got = []
        identity.add_event_handler(Events.ITERATION_STARTED(once=[2, 5]), lambda e: e.terminate_epoch())
        identity.add_event_handler(
            Events.TERMINATE_SINGLE_EPOCH, lambda e, iter_counter: got.append(iter_counter)
        )
        identity.run([1, 2, 3], max_epochs=3)
        assert got == [2, 3]

    def test_event_fired_in_the_step(self):
        """Handlers of an event fired in the step see the state that the step has set (E-041)."""

        class Backprop(EventEnum):
            DONE = "done"

        def step(engine, batch):
            engine.state.loss = batch
            engine.fire_event(Backprop.DONE)

        engine, got = Engine(step), []
        engine.register_events(Backprop.DONE)
        engine.add_event_handler(Backprop.DONE, lambda e: got.append(e.state.loss))
        engine.run([1.5, 2.5])
        assert got == [1.5, 2.5]


class TestPhase:
    def test_objects_methods_and_partials(self, identity):
        """The phase of a class applies to its objects, their methods and partials of these."""
        got = []

        class Late:
            phase = Phase.CHECKPOINT

            def __call__(self, engine):
                got.append("object")

            def method(self, engine, name="method"):
                got.append(name)

        late = Late()
        for handler in (
            late,
            late.method,
            functools.partial(late.method, name="partial"),
            lambda: got.append("function"),
        ):
            identity.add_event_handler(Events.STARTED, handler)
        identity.run([1])
        assert got == ["function", "object", "method", "partial"]

    def test_unrelated_phase_attribute(self, identity):
        """An attribute `phase` that is not a Phase is ignored."""
        got = []

        class Moon:
            phase = "waxing"

            def __call__(self):
                got.append("moon")

        identity.add_event_handler(Events.STARTED, Moon())
        identity.add_event_handler(Events.STARTED, lambda: got.append("function"))
        identity.run([1])
        assert got == ["moon", "function"]


class TestAttach:
    @pytest.mark.parametrize("make", [lambda: Engine(lambda engine, batch: batch), FakeEngine])
    @pytest.mark.parametrize("on_error", ["raise", "disable"])
    def test_refuses_metrics_and_loggers(self, make, on_error):
        """engine.attach refuses a metric or a logger, and the message shows the right call."""

        class Loud:
            def attach(self, engine): ...

        class Metric:
            def attach(self, engine, name, usage=None): ...

        class Logger:
            def attach(self, engine, event_name, log_handler, *args, **kwargs): ...

        engine = make()
        with pytest.raises(
            TypeError, match=r"required parameters: name\. Call Metric\(\.\.\.\)\.attach\(engine, name\)"
        ):
            engine.attach(Loud(), Metric(), on_error=on_error)
        with pytest.raises(TypeError, match=r"Logger\(\.\.\.\)\.attach\(engine, event_name, log_handler\)"):
            engine.attach(Logger(), on_error=on_error)
        assert engine.registrations() == ()

    def test_accepts_a_mock(self):
        """engine.attach accepts a MagicMock as handler."""
        engine, handler = FakeEngine(), MagicMock()
        engine.attach(handler)
        handler.attach.assert_called_once_with(engine)
