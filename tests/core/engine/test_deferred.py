"""Steps, handlers and filters whose calls would run nothing: coroutines and generators."""

import functools

import pytest

from glowplug import Engine, Events
from glowplug.testing import FakeEngine


async def _coroutine(engine, batch=None, *more):
    return batch


def _generator(engine, batch=None, *more):
    yield batch


async def _async_generator(engine, batch=None, *more):
    yield batch


class Awaited:
    async def __call__(self, engine, batch=None):
        return batch

    def generate(self, engine, batch=None):
        yield batch


FUNCTIONS = {
    "coroutine": _coroutine,
    "generator": _generator,
    "async_generator": _async_generator,
    "Awaited": Awaited(),
    "Awaited.generate": Awaited().generate,
    "partial": functools.partial(_generator),
}
FACTORIES = {"coroutine": _coroutine, "generator": _generator, "async_generator": _async_generator}


class TestSteps:
    @pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
    def test_function(self, function):
        """An async function or a generator function is refused as a step when the engine is made (E-001)."""
        with pytest.raises(TypeError, match=r"process_function \S+ is an? (async|generator)"):
            Engine(function)

    @pytest.mark.parametrize("function", FACTORIES.values(), ids=FACTORIES)
    def test_output(self, function):
        """A coroutine or generator returned by a plain step is refused in the first iteration (E-001)."""
        batches = []

        def step(engine, batch):
            batches.append(batch)
            return function(engine, batch)

        engine = Engine(step)
        seen = []
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(engine.state.iteration))
        with pytest.raises(
            TypeError, match=r"process_function .*step returned a (coroutine|generator), .*has not run"
        ):
            engine.run([1, 2, 3])
        assert (batches, seen) == ([1], [])

    def test_loop_calls_the_step_directly(self):
        """From the second iteration on, the loop calls the step without the check (E-001)."""
        callers = []

        def step(engine, batch):
            import sys

            callers.append(sys._getframe(1).f_code.co_name)

        Engine(step).run([1, 2, 3], max_epochs=2)
        assert callers == ["_first_step", *["_iterations"] * 5]


class TestHandlers:
    @pytest.mark.parametrize("make", [lambda: Engine(lambda engine, batch: batch), FakeEngine])
    @pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
    def test_function(self, make, function):
        """An async function or a generator function is refused as a handler when it is registered (E-032)."""
        engine = make()
        with pytest.raises(TypeError, match=r"handler \S+ of Events.STARTED is an? (async|generator)"):
            engine.add_event_handler(Events.STARTED, function)
        assert engine.registrations() == ()

    @pytest.mark.parametrize("event", [Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED(every=2)])
    @pytest.mark.parametrize("function", FACTORIES.values(), ids=FACTORIES)
    def test_result(self, identity, function, event):
        """A coroutine or generator that a plain handler returns is refused when the event first fires (E-032)."""
        identity.add_event_handler(event, lambda engine: function(engine))
        with pytest.raises(TypeError, match=rf"<lambda> of {event.event} returned a (coroutine|generator)"):
            identity.run([1, 2], max_epochs=2)

    def test_result_at_exception(self, identity):
        """The result of a handler of EXCEPTION_RAISED is checked too (E-032)."""
        identity.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: _generator(engine))
        identity.add_event_handler(Events.STARTED, lambda: 1 / 0)
        with pytest.raises(TypeError, match=r"of Events.EXCEPTION_RAISED returned a generator"):
            identity.run([1])

    def test_optional_handler(self, identity):
        """An optional handler that returns a generator is detached, and the run continues (P3)."""

        class Optional:
            def attach(self, engine):
                return engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: _generator(engine))

        identity.attach(Optional(), on_error="disable")
        with pytest.warns(UserWarning, match="returned a generator"):
            identity.run([1], max_epochs=2)
        assert (identity.state.epoch, len(identity.faults)) == (2, 1)

    def test_other_results_are_ignored(self, identity):
        """Lists, functions and iterators may be returned: they are no code that was meant to run (E-038)."""
        for result in ([1], _coroutine, iter([1]), map(str, [1])):
            identity.add_event_handler(Events.EPOCH_COMPLETED, lambda result=result: result)
        identity.run([1], max_epochs=2)
        assert identity.state.epoch == 2


class TestFilters:
    @pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
    def test_filter(self, function):
        """A filter whose result is always true because it is a coroutine or generator is refused (E-061)."""
        if isinstance(function, Awaited):
            function = function.__call__
        with pytest.raises(TypeError, match="event_filter= is an async function or a generator function"):
            Events.STARTED(event_filter=function)
