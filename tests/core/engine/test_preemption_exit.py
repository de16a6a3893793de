"""PreemptionExit, which ends a run and the process without failing the run, and handlers that run out of turn."""

import pytest

from glowplug import Engine, Events, Phase, RunOutcome
from glowplug.exceptions import PreemptionExit
from glowplug.testing import FakeEngine


def leaving(event, data=(1, 2, 3)):
    """Return an engine that a handler leaves once at an event, and the list of fired events after that."""
    engine, fired = Engine(lambda engine, batch: batch), []

    def leave():
        fired.clear()
        raise PreemptionExit(75)

    for other in Events:
        if other not in {Events.TERMINATE_SINGLE_EPOCH, Events.EXCEPTION_RAISED}:
            engine.add_event_handler(other, lambda other=other: fired.append(other))
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: fired.append(Events.EXCEPTION_RAISED))
    handle = engine.add_event_handler(event, leave)
    return engine, fired, handle


@pytest.mark.parametrize(
    "event", [Events.STARTED, Events.ITERATION_STARTED(once=2), Events.EPOCH_COMPLETED], ids=str
)
def test_outcome_and_events(event):
    """The run is INTERRUPTED, not FAILED; only TEARDOWN fires."""
    engine, fired, _ = leaving(event)
    with pytest.raises(PreemptionExit) as caught:
        engine.run([1, 2, 3], max_epochs=2)
    assert caught.value.code == 75
    assert engine.state.outcome is RunOutcome.INTERRUPTED
    assert fired == [Events.TEARDOWN]


@pytest.mark.parametrize("at", [Events.TEARDOWN, Events.EXCEPTION_RAISED], ids=str)
def test_raised_at_the_end(at):
    """A handler of TEARDOWN or EXCEPTION_RAISED can raise it too; the run is INTERRUPTED."""

    def step(engine, batch):
        if at is Events.EXCEPTION_RAISED:
            raise ValueError("step failed")

    engine = Engine(step)

    def leave(engine, *_):
        raise PreemptionExit(75)

    engine.add_event_handler(at, leave)
    with pytest.raises(PreemptionExit):
        engine.run([1, 2, 3])
    assert engine.state.outcome is RunOutcome.INTERRUPTED


def test_outer_engine():
    """It also ends the outer engine that runs this one, with the same outcome."""
    inner, _, _ = leaving(Events.ITERATION_STARTED(once=2))
    outer = Engine(lambda engine, batch: inner.run([1, 2, 3]))
    with pytest.raises(PreemptionExit):
        outer.run([1])
    assert (inner.state.outcome, outer.state.outcome) == (RunOutcome.INTERRUPTED, RunOutcome.INTERRUPTED)


def test_caught_and_continued():
    """If it is caught, the next run continues after the last completed iteration, with STARTED and without gaps."""
    seen = []
    engine = Engine(lambda engine, batch: seen.append(batch))
    starts = []
    engine.add_event_handler(Events.STARTED, lambda: starts.append(engine.state.iteration))

    def leave():
        handle.remove()
        raise PreemptionExit(75)

    handle = engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), leave)
    with pytest.raises(PreemptionExit):
        engine.run([1, 2, 3], max_epochs=2)
    engine.run([1, 2, 3], max_epochs=2)
    assert seen == [1, 2, 3, 1, 2, 3]
    assert starts == [0, 4]


class TestRunRegistration:
    @pytest.mark.parametrize(
        "make", [lambda: Engine(lambda engine, batch: batch), FakeEngine], ids=["Engine", "FakeEngine"]
    )
    def test_arguments_event_and_filter(self, make):
        """The handler receives its arguments, its event is current, and its filter is ignored."""
        engine, seen = make(), []

        def note(engine, text):
            seen.append((text, engine.current_event, engine.last_event_name))

        engine.add_event_handler(Events.EPOCH_COMPLETED(every=100), note, "text")
        engine.add_event_handler(
            Events.STARTED, lambda engine: engine.run_registration(engine.registrations()[-1])
        )
        engine.fire_event(Events.STARTED)
        assert seen == [("text", Events.EPOCH_COMPLETED, Events.EPOCH_COMPLETED)]
        assert engine.current_event is None
        assert engine.last_event_name is not Events.EPOCH_COMPLETED

    def test_needs_an_argument(self):
        """A handler of EXCEPTION_RAISED or TERMINATE_SINGLE_EPOCH cannot run out of turn, because it needs an argument."""
        fake = FakeEngine()
        for event in (Events.EXCEPTION_RAISED, Events.TERMINATE_SINGLE_EPOCH):
            with fake.add_event_handler(event, lambda engine, *_, **__: None):
                (registration,) = fake.registrations()
                with pytest.raises(ValueError, match="cannot run out of turn"):
                    fake.run_registration(registration)

    def test_exception(self):
        """An exception of the handler reaches the caller, and the outer event is current again."""
        fake = FakeEngine()

        def fail():
            raise OSError("disk full")

        fake.add_event_handler(Events.COMPLETED, fail)
        with pytest.raises(OSError, match="disk full"):
            fake.run_registration(fake.registrations()[0])
        assert fake.current_event is None

    def test_optional_handler(self):
        """A failing optional handler is detached and recorded, as at its event."""

        class Optional:
            phase = Phase.CHECKPOINT

            def attach(self, engine):
                return engine.add_event_handler(Events.COMPLETED, self)

            def __call__(self, engine):
                raise OSError("disk full")

        fake = FakeEngine()
        fake.attach(Optional(), on_error="disable")
        with pytest.warns(UserWarning, match="disk full"):
            fake.run_registration(fake.registrations()[0])
        assert len(fake.faults) == 1
