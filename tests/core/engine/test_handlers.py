"""How the engine's own events call their handlers (what any engine must do stands in the contract)."""

from __future__ import annotations

import functools
import weakref
from unittest.mock import MagicMock

import pytest

from glowplug import Engine, EventEnum, Events, Phase
from glowplug.testing import FakeEngine


def test_E_032_argument_of_any_name(identity):
    """The name of the parameter that takes the engine does not matter."""
    got = []
    identity.add_event_handler(Events.STARTED, lambda anything: got.append(anything))
    identity.run([1])
    assert got == [identity]


def test_E_032_objects_with_slots(identity):
    """Handlers that cannot be referenced weakly are handlers too."""

    class Slots:
        __slots__ = ("got",)

        def __call__(self, engine):
            self.got = engine

    handler = Slots()
    identity.add_event_handler(Events.STARTED, handler)
    identity.run([1])
    assert handler.got is identity


def test_E_032_handlers_without_signature(identity):
    """A builtin that hides its signature is refused, with the lambda that helps."""
    with pytest.raises(
        ValueError, match=r"handler min of Events.STARTED .* wrap it: lambda engine: min\(\.\.\.\)"
    ):
        identity.add_event_handler(Events.STARTED, min)


def test_E_032_misfit_names_extra_arguments(identity):
    """The message about a misfit shows the arguments that were given at registration."""

    def handler(engine): ...

    with pytest.raises(ValueError, match=r"handler.*\(engine\) of Events.STARTED .* given \(1,\) \{'a': 2\}"):
        identity.add_event_handler(Events.STARTED, handler, 1, a=2)


def test_E_032_async_generator(identity):
    """An async generator is refused as an async function is."""

    async def handler(engine):
        yield

    with pytest.raises(TypeError, match=r"handler of Events.STARTED is an async function"):
        identity.add_event_handler(Events.STARTED, handler)


def test_E_033_a_weak_reference_is_an_ordinary_argument(identity):
    """Arguments given at registration come after the engine, whatever they are."""
    got, reference = [], weakref.ref(identity)
    identity.add_event_handler(Events.STARTED, lambda *args: got.append(args), reference)
    identity.run([1])
    assert got == [(identity, reference)]


def test_E_035_methods_of_equal_objects_are_told_apart(identity):
    """A bound method is found again though Python makes a new object of it each time; another object's is not."""

    class Handler:
        def method(self, engine): ...

    one, two = Handler(), Handler()
    identity.add_event_handler(Events.STARTED, one.method)
    assert identity.has_event_handler(one.method)
    assert not identity.has_event_handler(two.method)
    identity.remove_event_handler(one.method, Events.STARTED)
    assert not identity.has_event_handler(one.method)


def test_E_035_remove_from_a_list_of_events(identity):
    """A handler is removed from several events at once."""

    def handler(): ...

    identity.add_event_handler(Events.STARTED | Events.COMPLETED, handler)
    identity.remove_event_handler(handler, Events.STARTED | Events.COMPLETED)
    assert not identity.has_event_handler(handler)


def test_E_037_adding_at_iteration_started(identity):
    """A handler added while an event of the loop fires runs from the next iteration on, one removed stops then."""
    got = []

    def first(engine):
        got.append("first")
        engine.add_event_handler(Events.ITERATION_STARTED, lambda: got.append("added"))
        handle.remove()

    handle = identity.add_event_handler(Events.ITERATION_STARTED, first)
    identity.run([1, 2, 3])
    assert got == ["first", "added", "added"]


def test_E_037_first_handler_of_an_event_added_in_the_loop(identity):
    """An event that had no handler when the epoch began calls those that it has been given since."""
    got = []
    identity.add_event_handler(
        Events.ITERATION_STARTED(once=2),
        lambda e: e.add_event_handler(Events.ITERATION_COMPLETED, lambda e: got.append(e.state.iteration)),
    )
    identity.run([1, 2, 3])
    assert got == [2, 3]


def test_E_039_both_special_events_in_a_run(identity):
    """In a run, the count of TERMINATE_SINGLE_EPOCH is that of the iterations of this epoch."""
    got = []
    identity.add_event_handler(Events.ITERATION_STARTED(once=[2, 5]), lambda e: e.terminate_epoch())
    identity.add_event_handler(
        Events.TERMINATE_SINGLE_EPOCH, lambda e, iter_counter: got.append(iter_counter)
    )
    identity.run([1, 2, 3], max_epochs=3)
    assert got == [2, 3]


def test_E_041_event_fired_from_the_step():
    """The step can fire an event of its own, and its handlers see what the step put into the state."""

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


def test_phases_of_classes_methods_and_partials(identity):
    """The phase of a handler's class holds for the object, its methods, and partials of them."""
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


def test_phase_must_be_a_phase(identity):
    """An attribute ``phase`` that means something else leaves the handler in its place."""
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
    def test_refuses_what_needs_more_than_the_engine(self, make, on_error):
        """A metric or a logger given to engine.attach is answered with the right call, and nothing is attached."""

        class Loud:
            def attach(self, engine): ...

        class Metric:
            def attach(self, engine, name, usage=None): ...

        class Logger:
            def attach(self, engine, event_name, log_handler, *args, **kwargs): ...

        engine = make()
        with pytest.raises(TypeError, match=r"needs name too; call Metric\(\.\.\.\)\.attach\(engine, name\)"):
            engine.attach(Loud(), Metric(), on_error=on_error)
        with pytest.raises(TypeError, match=r"Logger\(\.\.\.\)\.attach\(engine, event_name, log_handler\)"):
            engine.attach(Logger(), on_error=on_error)
        assert engine.registrations() == ()

    def test_takes_a_mock(self):
        """A handler that is a MagicMock is attached: its attach takes anything."""
        engine, handler = FakeEngine(), MagicMock()
        engine.attach(handler)
        handler.attach.assert_called_once_with(engine)
