"""The engine contract, run on the engine and its fake, and mutants that it catches."""

from __future__ import annotations

import pytest

from glowplug import Engine, Events, Phase, RemovableEventHandle
from glowplug.testing import FakeEngine
from glowplug_testing import EngineContract


class TestFakeEngine(EngineContract):
    @pytest.fixture
    def make_engine(self):
        """Return the fake."""
        return FakeEngine


class TestEngine(EngineContract):
    @pytest.fixture
    def make_engine(self):
        """Return the real thing."""
        return lambda: Engine(lambda engine, batch: batch)


class RemovesAll(FakeEngine):
    """Its handles remove every registration of the handler, as ignite's do."""

    def add_event_handler(self, event_name, handler, *args, **kwargs):
        super().add_event_handler(event_name, handler, *args, **kwargs)
        return RemovableEventHandle(lambda: self._channel(event_name).change(()))


class LiveList(FakeEngine):
    """Calls handlers that are added while the event fires, as ignite does."""

    def _fire(self, channel):
        self.last_event_name = channel.key
        done = 0
        while done < len(channel.calls):
            call, _ = channel.calls[done]
            call(self)
            done += 1


class WrapsForever(FakeEngine):
    """Does not remove a wrapper."""

    def wrap_handlers(self, wrapper):
        super().wrap_handlers(wrapper)
        return RemovableEventHandle()


class ForgetsTheFilter(FakeEngine):
    """Registers a filtered event as a plain event."""

    def add_event_handler(self, event_name, handler, *args, **kwargs):
        plain = getattr(event_name, "event", event_name)
        return super().add_event_handler(plain, handler, *args, **kwargs)


class IgnoresPhases(FakeEngine):
    """Runs every handler in the phase USER."""

    def add_event_handler(self, event_name, handler, *args, **kwargs):
        handle = super().add_event_handler(event_name, handler, *args, **kwargs)
        channel = self._channel(event_name)
        for registration in channel.registrations:
            registration.phase = Phase.USER
        channel.change(channel.registrations)
        return handle


class CountsItself(FakeEngine):
    """Counts firings of every event instead of reading the state's counter."""

    def _fire(self, channel):
        channel.counter = None
        super()._fire(channel)


class AttachesHalf(FakeEngine):
    """Keeps the handlers that were attached before one that fails."""

    def attach(self, *handlers):
        return RemovableEventHandle.join(*(handler.attach(self) for handler in handlers))


class LosesState(FakeEngine):
    """Drops the state of handlers that are not attached."""

    def load_state_dict(self, state_dict):
        known = self.state_dict()["handlers"]
        super().load_state_dict({"handlers": {k: v for k, v in state_dict["handlers"].items() if k in known}})


class StopsAtOnce(FakeEngine):
    """Skips the remaining handlers after a stop request."""

    def _fire(self, channel):
        for call, _ in channel.calls:
            call(self)
            if self.should_terminate:
                return


class SharesCounters(FakeEngine):
    """Shares event_to_attr between engines, as ignite does."""

    shared = FakeEngine().state.event_to_attr

    def __init__(self):
        super().__init__()
        self.state.event_to_attr = self.shared


class SwallowsErrors(FakeEngine):
    """Discards exceptions of handlers."""

    def _fire(self, channel):
        try:
            super()._fire(channel)
        except ZeroDivisionError:
            self.should_terminate = True


class AnyEventGoes(FakeEngine):
    """Registers an unknown event instead of refusing it."""

    def _channel(self, event_name):
        self.register_events(event_name)
        return super()._channel(event_name)


class ForgetsTheEvent(FakeEngine):
    """Does not set last_event_name."""

    def _fire(self, channel):
        super()._fire(channel)
        self.last_event_name = None

    def __setattr__(self, name, value):
        super().__setattr__(name, None if name == "last_event_name" else value)


@pytest.mark.parametrize(
    ("mutant", "check"),
    [
        (RemovesAll, "test_handle_removes_one_registration"),
        (LiveList, "test_changes_take_effect_at_the_next_firing"),
        (WrapsForever, "test_handlers_are_wrapped"),
        (ForgetsTheFilter, "test_every"),
        (IgnoresPhases, "test_phases_order_handlers"),
        (CountsItself, "test_before_and_after"),
        (AttachesHalf, "test_attach_is_all_or_nothing"),
        (LosesState, "test_state_waits_for_a_later_handler"),
        (StopsAtOnce, "test_stop_requests_are_recorded"),
        (SharesCounters, "test_custom_counters_belong_to_one_engine"),
        (SwallowsErrors, "test_errors_of_handlers_reach_the_caller"),
        (AnyEventGoes, "test_unknown_event_is_refused"),
        (ForgetsTheEvent, "test_handlers_see_the_event_and_the_state"),
    ],
)
def test_mutants_are_caught(mutant, check):
    """Each mutant fails its check, which the real fake passes."""
    run = getattr(EngineContract(), check)
    run(FakeEngine)
    with pytest.raises((Exception, pytest.fail.Exception)):
        run(mutant)


def test_overriding_a_check_is_refused():
    """A subclass that overrides a check is refused when it is defined."""
    with pytest.raises(TypeError, match="TestMine must not replace test_every"):

        class TestMine(EngineContract):
            def test_every(self):
                """Pass."""


def test_missing_fixture_is_named():
    """A subclass without make_engine raises an error that names the fixture."""

    class TestNothing(EngineContract):
        pass

    make_engine = TestNothing.make_engine
    unwrapped = getattr(make_engine, "__wrapped__", None) or make_engine._get_wrapped_function()
    with pytest.raises(NotImplementedError, match="TestNothing needs a fixture make_engine"):
        unwrapped(TestNothing())


def test_fake_engine_records_events_and_handlers():
    """FakeEngine records fired events, attached handlers and whether a handler terminated the run."""

    class Stop:
        def attach(self, engine):
            return engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), self)

        def __call__(self, engine):
            engine.fire_event(Events.TERMINATE)
            engine.terminate()

    fake, stop = FakeEngine(), Stop()
    fake.attach(stop)
    assert fake.attached == [stop]
    assert fake.handlers_at(Events.EPOCH_COMPLETED) == [stop]
    assert not fake.fire(Events.EPOCH_COMPLETED, epoch=1).terminated
    assert fake.fire(Events.EPOCH_COMPLETED, epoch=2).terminated
    assert fake.fired == [Events.EPOCH_COMPLETED, Events.EPOCH_COMPLETED, Events.TERMINATE]


def test_fake_engine_requires_the_exception():
    """FakeEngine refuses to fire EXCEPTION_RAISED without an exception."""
    with pytest.raises(ValueError, match="requires the exception that was raised"):
        FakeEngine().fire(Events.EXCEPTION_RAISED)
