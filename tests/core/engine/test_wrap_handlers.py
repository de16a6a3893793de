"""Wrappers around the calls of handlers."""

import copy
import gc
import pickle
import weakref

import pytest

from glowplug import Engine, Events
from glowplug.testing import FakeEngine


class Record:
    """A wrapper that notes which handlers are called, at which event."""

    def __init__(self):
        self.calls = []

    def __call__(self, registration, call):
        def recorded(*arguments):
            self.calls.append((registration.event.name, registration.handler.__name__))
            return call(*arguments)

        return recorded


def early():
    """A handler that is registered before the wrapper."""


def late():
    """A handler that is registered after the wrapper."""


@pytest.fixture
def record():
    """A wrapper."""
    return Record()


class TestCalls:
    def test_all_handlers(self, identity, record):
        """Handlers are wrapped, whether they are registered before or after the wrapper."""
        identity.add_event_handler(Events.ITERATION_COMPLETED, early)
        handle = identity.wrap_handlers(record)
        identity.add_event_handler(Events.ITERATION_COMPLETED, late)
        identity.run([1, 2])
        calls = [("ITERATION_COMPLETED", "early"), ("ITERATION_COMPLETED", "late")] * 2
        assert record.calls == calls
        handle.remove()
        identity.state.max_epochs = None
        identity.run([1, 2])
        assert record.calls == calls

    def test_filter(self, identity, record):
        """A call that the filter skips is not seen."""
        identity.wrap_handlers(record)
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=2), early)
        identity.run([1, 2, 3])
        assert record.calls == [("ITERATION_COMPLETED", "early")]

    def test_custom_event(self, record):
        """Custom events are wrapped, also if they are registered later."""
        engine = FakeEngine()
        engine.wrap_handlers(lambda registration, call: lambda *arguments: record.calls.append("wrapped"))
        engine.register_events("halftime")
        engine.add_event_handler("halftime", early)
        engine.fire_event("halftime")
        assert record.calls == ["wrapped"]

    def test_exceptions(self, identity, record):
        """The wrapper passes on the exception of a handler, the argument of EXCEPTION_RAISED, and its result."""
        error = ValueError("no")

        def fail():
            raise error

        def suppress(engine, raised):
            record.calls.append(raised)
            return True

        identity.wrap_handlers(record)
        identity.add_event_handler(Events.ITERATION_COMPLETED, fail)
        identity.add_event_handler(Events.EXCEPTION_RAISED, suppress)
        identity.run([1])
        assert record.calls == [
            ("ITERATION_COMPLETED", "fail"), ("EXCEPTION_RAISED", "suppress"), error
        ]  # fmt: skip

    def test_optional_handler(self, identity, record):
        """A wrapped optional handler that fails is detached, and the run continues."""

        class Optional:
            def attach(self, engine):
                return engine.add_event_handler(Events.ITERATION_COMPLETED, self.fail)

            def fail(self):
                raise ValueError("no")

        identity.wrap_handlers(record)
        identity.attach(Optional(), on_error="disable")
        with pytest.warns(match="failed at Events.ITERATION_COMPLETED"):
            identity.run([1, 2])
        assert record.calls == [("ITERATION_COMPLETED", "fail")]

    def test_two_wrappers(self, identity):
        """A later wrapper is outside of an earlier one, and each can be removed alone."""
        order = []

        def wrapper(name):
            return lambda registration, call: lambda *arguments: (order.append(name), call(*arguments))

        first, _ = identity.wrap_handlers(wrapper("first")), identity.wrap_handlers(wrapper("second"))
        identity.add_event_handler(Events.ITERATION_COMPLETED, early)
        identity.run([1])
        assert order == ["second", "first"]
        first.remove()
        identity.state.max_epochs = None
        identity.run([1])
        assert order == ["second", "first", "second"]

    def test_out_of_turn(self, identity, record):
        """A handler that runs out of turn is wrapped too."""
        identity.add_event_handler(Events.EPOCH_COMPLETED, early)
        identity.wrap_handlers(record)
        identity.run_registration(identity.registrations()[0])
        assert record.calls == [("EPOCH_COMPLETED", "early")]


def step(engine, batch):
    """A step that can be pickled."""


class TestCopies:
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda engine: pickle.loads(pickle.dumps(engine))])
    def test_copy(self, record, copied):
        """A copied engine has copies of the wrappers."""
        engine = Engine(step)
        engine.add_event_handler(Events.COMPLETED, early)
        engine.wrap_handlers(record)
        other = copied(engine)
        other.run([1])
        assert record.calls == []
        assert other._wrappers[0].calls == [("COMPLETED", "early")]

    def test_handle(self, record):
        """The handle does not keep the engine alive."""
        engine = Engine(step)
        handle, gone = engine.wrap_handlers(record), weakref.ref(engine)
        del engine
        gc.collect()
        assert gone() is None
        handle.remove()
