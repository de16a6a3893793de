"""Exceptions raised by the step, by handlers and by the data."""

from __future__ import annotations

import pytest

from glowplug import Engine, Events, RunOutcome


class BrokenError(Exception):
    """The exception that these tests raise."""


def fail_at(engine, event, error=BrokenError):
    """Make a handler of an event raise once."""

    def handler():
        handle.remove()
        raise error("broken")

    handle = engine.add_event_handler(event, handler)


IN_A_RUN = [event for event in Events if event.name not in {"EXCEPTION_RAISED", "TEARDOWN"}]


def reach(engine):
    """Request every kind of stop once, so that each event fires."""
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt())
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.terminate_epoch())
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=6), lambda e: e.terminate())


def run_all(engine):
    """Run, and continue after an interrupt."""
    engine.run([1, 2], max_epochs=4)
    if engine.state.outcome is RunOutcome.INTERRUPTED:
        engine.run()


class TestSuppress:
    @pytest.mark.parametrize("event", IN_A_RUN, ids=lambda event: event.name)
    def test_suppressed_error_ends_the_run(self, event, identity, fired):
        """After a handler returns True, run() ends and returns the state (E-153, E-154)."""
        reach(identity)
        names = fired(identity)
        fail_at(identity, event)
        identity.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
        run_all(identity)
        assert names[-3:] == [event.name, "EXCEPTION_RAISED", "TEARDOWN"]
        assert identity.state.outcome is RunOutcome.FAILED

    @pytest.mark.parametrize("value", [None, False, 1, "yes", object()])
    def test_only_true_suppresses(self, value, identity):
        """Only True suppresses an error; other return values do not."""
        fail_at(identity, Events.STARTED)
        identity.add_event_handler(Events.EXCEPTION_RAISED, lambda error: value)
        with pytest.raises(BrokenError):
            identity.run([1])

    def test_raising_again_does_not_suppress(self, identity):
        """A handler that raises the error again does not suppress it (E-155)."""

        def again(error):
            raise error

        identity.add_event_handler(Events.EXCEPTION_RAISED, again)
        fail_at(identity, Events.ITERATION_STARTED)
        with pytest.raises(BrokenError, match="broken"):
            identity.run([1])

    def test_one_handler_suppresses(self, identity):
        """One handler that returns True suppresses the error, whatever the others return."""
        told = []
        for value in (None, True, False):
            identity.add_event_handler(
                Events.EXCEPTION_RAISED, lambda _, error, v: told.append(v) or v, value
            )
        fail_at(identity, Events.ITERATION_STARTED)
        assert identity.run([1]).outcome is RunOutcome.FAILED
        assert told == [None, True, False]


class TestNextRun:
    @pytest.mark.parametrize("event", IN_A_RUN, ids=lambda event: event.name)
    def test_runs_after_an_error(self, event, identity):
        """The run after an error at any event executes steps and returns the state (E-157)."""
        reach(identity)
        fail_at(identity, event)
        with pytest.raises(BrokenError):
            run_all(identity)
        identity.state.max_epochs = None
        steps = []
        identity.add_event_handler(Events.ITERATION_STARTED, lambda: steps.append(1))
        assert identity.run([1]) is identity.state
        assert steps == [1]

    def test_continues_the_failed_epoch(self, identity, batches):
        """The run after an error executes the remaining iterations of the failed epoch (E-158)."""
        epochs = batches(identity)
        fail_at(identity, Events.ITERATION_COMPLETED(once=4))
        with pytest.raises(BrokenError):
            identity.run([1, 2, 3], max_epochs=3)
        assert epochs == [[1, 2, 3], [1]]
        state = identity.run([1, 2, 3], max_epochs=3)
        assert epochs == [[1, 2, 3], [1], [2, 3], [1, 2, 3]]
        assert (state.epoch, state.iteration, state.outcome) == (3, 9, RunOutcome.COMPLETED)

    @pytest.mark.parametrize("event", [Events.TERMINATE, Events.COMPLETED, Events.TEARDOWN])
    def test_error_after_terminate(self, event, identity, batches):
        """An error after terminate() does not repeat the rest of the epoch in the next run (E-158)."""
        epochs = batches(identity)
        fail_at(identity, event)
        with (
            identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate()),
            pytest.raises(BrokenError),
        ):
            identity.run([1, 2, 3], max_epochs=2)
        state = identity.run([1, 2, 3], max_epochs=2)
        assert epochs == [[1], [1, 2, 3]]
        assert state.outcome is RunOutcome.COMPLETED


class TestRaise:
    @pytest.mark.parametrize("event", IN_A_RUN, ids=lambda event: event.name)
    def test_handler_error_propagates(self, event, identity, fired):
        """Without EXCEPTION_RAISED handlers, run() raises an error at any event, and TEARDOWN fires once (E-150)."""
        reach(identity)
        fail_at(identity, event)
        names = fired(identity, Events.TEARDOWN)
        with pytest.raises(BrokenError, match="broken"):
            run_all(identity)
        assert names == ["TEARDOWN"]
        assert identity.state.outcome is RunOutcome.FAILED

    @pytest.mark.parametrize("event", IN_A_RUN, ids=lambda event: event.name)
    def test_handled_once_and_raised(self, event, identity, fired):
        """A handler that returns None runs once per error, and run() raises the error (E-153, E-154, E-155)."""
        reach(identity)
        names = fired(identity)
        fail_at(identity, event)
        got = []
        identity.add_event_handler(Events.EXCEPTION_RAISED, lambda e, error: got.append((e, error)))
        with pytest.raises(BrokenError) as caught:
            run_all(identity)
        assert got == [(identity, caught.value)]
        assert names[-3:] == [event.name, "EXCEPTION_RAISED", "TEARDOWN"]
        assert names.count("EXCEPTION_RAISED") == names.count("TEARDOWN") == 1

    def test_removed_handler_suppresses_nothing(self, identity):
        """A removed EXCEPTION_RAISED handler suppresses nothing (E-151)."""
        identity.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True).remove()
        fail_at(identity, Events.ITERATION_STARTED)
        with pytest.raises(BrokenError):
            identity.run([1])

    def test_handlers_at_all_events_suppress_nothing(self, identity, fired):
        """Handlers at all events that return None suppress nothing (E-152)."""
        fired(identity)
        fail_at(identity, Events.ITERATION_STARTED)
        with pytest.raises(BrokenError):
            identity.run([1])

    def test_error_in_the_step_ends_the_run(self, fired):
        """A failing step runs once, and its error ends the run (E-153)."""
        steps = []

        def step(engine, batch):
            steps.append(batch)
            raise BrokenError("step")

        engine = Engine(step)
        names = fired(engine)
        with pytest.raises(BrokenError, match="step"):
            engine.run([1, 2], max_epochs=3)
        assert steps == [1]
        assert names[-3:] == ["ITERATION_STARTED", "EXCEPTION_RAISED", "TEARDOWN"]

    def test_every_handler_runs(self, identity):
        """Every EXCEPTION_RAISED handler runs though an earlier one raises (E-155)."""
        told = []

        def again(error):
            told.append("again")
            raise error

        def other(error):
            told.append("other")
            raise KeyError("of the handler") from error

        for handler in (again, other, lambda error: told.append("last")):
            identity.add_event_handler(Events.EXCEPTION_RAISED, handler)
        fail_at(identity, Events.ITERATION_STARTED)
        with pytest.raises(KeyError, match="of the handler"):
            identity.run([1])
        assert told == ["again", "other", "last"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_keyboard_interrupt_and_system_exit(self, error, identity, fired):
        """KeyboardInterrupt and SystemExit fire EXCEPTION_RAISED and TEARDOWN, and run() raises them (E-156)."""
        names = fired(identity)
        fail_at(identity, Events.ITERATION_STARTED, error)
        with pytest.raises(error):
            identity.run([1, 2])
        assert names[-2:] == ["EXCEPTION_RAISED", "TEARDOWN"]
        assert "COMPLETED" not in names
        assert "EPOCH_COMPLETED" not in names
        assert identity.state.outcome is RunOutcome.FAILED

    def test_error_in_the_data(self, identity):
        """An error while the data creates its iterator fires EXCEPTION_RAISED."""

        class Data:
            def __iter__(self):
                raise BrokenError("no data")

        told = []
        identity.add_event_handler(Events.EXCEPTION_RAISED, lambda e: told.append(e))
        with pytest.raises(BrokenError, match="no data"):
            identity.run(Data())
        assert [type(error) for error in told] == [BrokenError]

    def test_refused_arguments_fire_nothing(self, identity, fired):
        """run() raises errors about its arguments before it fires any event."""
        names = fired(identity)
        with pytest.raises(ValueError, match="max_epochs"):
            identity.run([1], max_epochs=0)
        assert names == []
        assert identity.state.outcome is None
