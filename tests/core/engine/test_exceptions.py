"""What becomes of an error in the step, in a handler, or in the data."""

from __future__ import annotations

import pytest

from glowplug import Engine, Events, RunOutcome


class BrokenError(Exception):
    """The error of these tests."""


def fail_at(engine, event, error=BrokenError):
    """Make a handler of an event raise, once."""

    def handler():
        handle.remove()
        raise error("broken")

    handle = engine.add_event_handler(event, handler)


IN_A_RUN = [event for event in Events if event.name not in {"EXCEPTION_RAISED", "TEARDOWN"}]


def reach(engine):
    """Ask for everything once, so that each event fires in the runs of this engine."""
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt())
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.terminate_epoch())
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=6), lambda e: e.terminate())


def run_all(engine):
    """Run, and go on when interrupted."""
    engine.run([1, 2], max_epochs=4)
    if engine.state.outcome is RunOutcome.INTERRUPTED:
        engine.run()


@pytest.mark.parametrize("event", IN_A_RUN, ids=lambda event: event.name)
def test_E_150_error_of_a_handler_goes_on(event, identity, fired):
    """Without handlers of EXCEPTION_RAISED, an error at any event leaves run() as it is, and TEARDOWN fires once."""
    reach(identity)
    fail_at(identity, event)
    names = fired(identity, Events.TEARDOWN)
    with pytest.raises(BrokenError, match="broken"):
        run_all(identity)
    assert names == ["TEARDOWN"]
    assert identity.state.outcome is RunOutcome.FAILED


@pytest.mark.parametrize("event", IN_A_RUN, ids=lambda event: event.name)
def test_E_153_E_154_E_155_told_once_and_raised(event, identity, fired):
    """A handler that returns nothing is told once, wherever the error came from; nothing else fires but TEARDOWN."""
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


@pytest.mark.parametrize("event", IN_A_RUN, ids=lambda event: event.name)
def test_E_153_E_154_suppressed_error_ends_the_run(event, identity, fired):
    """A handler that returns True keeps the error; the run ends all the same, and run() returns the state."""
    reach(identity)
    names = fired(identity)
    fail_at(identity, event)
    identity.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
    run_all(identity)
    assert names[-3:] == [event.name, "EXCEPTION_RAISED", "TEARDOWN"]
    assert identity.state.outcome is RunOutcome.FAILED


@pytest.mark.parametrize("value", [None, False, 1, "yes", object()])
def test_only_true_suppresses(value, identity):
    """Only True itself keeps an error: a handler that happens to return something does not."""
    fail_at(identity, Events.STARTED)
    identity.add_event_handler(Events.EXCEPTION_RAISED, lambda error: value)
    with pytest.raises(BrokenError):
        identity.run([1])


def test_E_151_removed_handler_swallows_nothing(identity):
    """After a handler was added and removed, errors go on as if it had never been."""
    identity.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True).remove()
    fail_at(identity, Events.ITERATION_STARTED)
    with pytest.raises(BrokenError):
        identity.run([1])


def test_E_152_watching_all_events_swallows_nothing(identity, fired):
    """A handler at every event changes nothing about an error."""
    fired(identity)
    fail_at(identity, Events.ITERATION_STARTED)
    with pytest.raises(BrokenError):
        identity.run([1])


def test_E_153_error_in_the_step_ends_the_run(fired):
    """A step that always fails is called once, though a handler has seen the error."""
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


def test_E_155_every_handler_is_told(identity):
    """A handler that raises the error again, or another one, hides it from none of those after it."""
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


def test_E_155_raising_again_is_not_suppressing(identity):
    """A handler that raises the error again leaves it as it is, also to a handler that suppresses."""

    def again(error):
        raise error

    identity.add_event_handler(Events.EXCEPTION_RAISED, again)
    fail_at(identity, Events.ITERATION_STARTED)
    with pytest.raises(BrokenError, match="broken"):
        identity.run([1])


def test_one_handler_is_enough_to_suppress(identity):
    """The error is kept if any of the handlers returns True, wherever it stands."""
    told = []
    for value in (None, True, False):
        identity.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error, v: told.append(v) or v, value)
    fail_at(identity, Events.ITERATION_STARTED)
    assert identity.run([1]).outcome is RunOutcome.FAILED
    assert told == [None, True, False]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_E_156_keyboard_interrupt(error, identity, fired):
    """KeyboardInterrupt and SystemExit are told like any error, and go on."""
    names = fired(identity)
    fail_at(identity, Events.ITERATION_STARTED, error)
    with pytest.raises(error):
        identity.run([1, 2])
    assert names[-2:] == ["EXCEPTION_RAISED", "TEARDOWN"]
    assert "COMPLETED" not in names
    assert "EPOCH_COMPLETED" not in names
    assert identity.state.outcome is RunOutcome.FAILED


@pytest.mark.parametrize("event", IN_A_RUN, ids=lambda event: event.name)
def test_E_157_next_run_runs(event, identity):
    """After an error anywhere, the next run() really runs, and returns the state."""
    reach(identity)
    fail_at(identity, event)
    with pytest.raises(BrokenError):
        run_all(identity)
    identity.state.max_epochs = None
    steps = []
    identity.add_event_handler(Events.ITERATION_STARTED, lambda: steps.append(1))
    assert identity.run([1]) is identity.state
    assert steps == [1]


def test_E_158_failed_epoch_is_gone_on_with(identity, batches):
    """The next run() takes the epoch's number from the next one, and does the iterations that were left of it."""
    epochs = batches(identity)
    fail_at(identity, Events.ITERATION_COMPLETED(once=4))
    with pytest.raises(BrokenError):
        identity.run([1, 2, 3], max_epochs=3)
    assert epochs == [[1, 2, 3], [1]]
    state = identity.run([1, 2, 3], max_epochs=3)
    assert epochs == [[1, 2, 3], [1], [1, 2]]
    assert (state.epoch, state.iteration, state.outcome) == (3, 6, RunOutcome.COMPLETED)


@pytest.mark.parametrize("event", [Events.TERMINATE, Events.COMPLETED, Events.TEARDOWN])
def test_E_158_run_that_was_ended_and_failed_then(event, identity, batches):
    """An error after terminate() does not change that the lost part of the epoch is not redone."""
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


def test_errors_in_the_data_are_told(identity):
    """An error of the data, of its iterator, or of making one, is an error of the run."""

    class Data:
        def __iter__(self):
            raise BrokenError("no data")

    told = []
    identity.add_event_handler(Events.EXCEPTION_RAISED, told.append)
    with pytest.raises(BrokenError, match="no data"):
        identity.run(Data())
    assert [type(error) for error in told] == [BrokenError]


def test_refused_arguments_are_no_error_of_a_run(identity, fired):
    """What run() refuses is raised before anything fires."""
    names = fired(identity)
    with pytest.raises(ValueError, match="max_epochs"):
        identity.run([1], max_epochs=0)
    assert names == []
    assert identity.state.outcome is None
