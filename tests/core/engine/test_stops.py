"""terminate(), terminate_epoch() and interrupt(), at every event."""

from __future__ import annotations

import pytest

from glowplug import Engine, Events, RunOutcome

EPOCH = (
    "STARTED",
    "EPOCH_STARTED",
    "GET_BATCH_STARTED",
    "GET_BATCH_COMPLETED",
    "ITERATION_STARTED",
    "ITERATION_COMPLETED",
)
ENDS = ["TERMINATE", "COMPLETED", "TEARDOWN"]


def test_E_130_remaining_handlers_run(identity):
    """The handlers after the one that asks for the end still run."""
    got = []
    identity.add_event_handler(Events.ITERATION_STARTED, lambda e: e.terminate())
    identity.add_event_handler(Events.ITERATION_STARTED, lambda: got.append("after"))
    identity.run([1, 2])
    assert got == ["after"]
    assert identity.state.output is None


@pytest.mark.parametrize(
    ("attribute", "value", "outcome", "iteration"),
    [
        ("should_terminate", True, RunOutcome.TERMINATED, 1),
        ("should_terminate", "skip_completed", RunOutcome.TERMINATED, 1),
        ("should_terminate_single_epoch", True, RunOutcome.COMPLETED, 3),
        ("should_interrupt", True, RunOutcome.INTERRUPTED, 1),
        ("should_terminate", False, RunOutcome.COMPLETED, 4),
    ],
)
def test_E_004_requests_by_attribute(identity, attribute, value, outcome, iteration):
    """Setting a public attribute asks for the same as calling its method."""
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: setattr(e, attribute, value))
    state = identity.run([1, 2], max_epochs=2)
    assert (state.outcome, state.iteration) == (outcome, iteration)
    assert getattr(identity, attribute) in {value, False}


@pytest.mark.parametrize("name", [*EPOCH, "EPOCH_COMPLETED"])
@pytest.mark.parametrize("skip", [False, True])
def test_E_131_E_132_E_133_E_133a_terminate_at_each_event(name, skip, identity, fired):
    """After the event come TERMINATE and, unless skipped, COMPLETED; EPOCH_COMPLETED does not come (E-132)."""
    names = fired(identity)
    identity.add_event_handler(Events[name], lambda e: e.terminate(skip_completed=skip))
    state = identity.run([1, 2, 3], max_epochs=2)
    ends = ["TERMINATE", "TEARDOWN"] if skip else ENDS
    assert names[names.index(name) + 1 :] == ends
    assert state.outcome is RunOutcome.TERMINATED
    assert state.times["COMPLETED"] > 0


def test_E_131_terminate_at_started_runs_no_epoch(identity):
    """terminate() at STARTED: no epoch begins."""
    identity.add_event_handler(Events.STARTED, lambda e: e.terminate())
    state = identity.run([1, 2, 3])
    assert (state.epoch, state.iteration) == (0, 0)


def test_E_131_terminate_at_dataloader_stop_iteration(identity, fired):
    """terminate() when the data begins anew: no further batch."""
    names = fired(identity)
    identity.add_event_handler(Events.DATALOADER_STOP_ITERATION, lambda e: e.terminate())
    identity.run([1, 2], max_epochs=2)
    assert names[names.index("DATALOADER_STOP_ITERATION") + 1 :] == ENDS


def test_E_131_terminate_in_the_step(fired):
    """terminate() in the step: ITERATION_COMPLETED still fires, with the output."""
    outputs = []

    def step(engine, batch):
        engine.terminate()
        return batch

    engine = Engine(step)
    names = fired(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: outputs.append(e.state.output))
    engine.run([5, 6])
    assert names[-4:] == ["ITERATION_COMPLETED", *ENDS]
    assert outputs == [5]


def test_E_131_terminate_without_handlers():
    """terminate() in the step ends the run at once also where no handler is registered."""
    engine = Engine(lambda engine, batch: engine.terminate())
    assert engine.run([1, 2, 3]).iteration == 1


@pytest.mark.parametrize("event", [Events.COMPLETED, Events.TERMINATE, Events.TEARDOWN])
def test_E_131_terminate_at_the_end(event, identity, fired):
    """terminate() at COMPLETED or later changes neither the order of events nor the outcome."""
    names = fired(identity)
    identity.add_event_handler(event, lambda e: e.terminate())
    identity.run([1])
    assert names[-2:] == ["COMPLETED", "TEARDOWN"]
    assert "TERMINATE" not in names
    assert identity.state.outcome is RunOutcome.COMPLETED


def test_E_133_a_later_request_can_skip_completed(identity, fired):
    """A handler of TERMINATE can still skip COMPLETED."""
    names = fired(identity)
    identity.add_event_handler(Events.STARTED, lambda e: e.terminate())
    identity.add_event_handler(Events.TERMINATE, lambda e: e.terminate(skip_completed=True))
    identity.run([1])
    assert names == ["STARTED", "TERMINATE", "TEARDOWN"]


def test_E_134_run_after_terminate(identity, batches):
    """The next run() begins the next epoch with the first batch; what was left of the last one is not redone."""
    epochs = batches(identity)
    with identity.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda e: e.terminate()):
        identity.run([1, 2, 3], max_epochs=3)
    state = identity.run([1, 2, 3], max_epochs=3)
    assert epochs == [[1, 2, 3], [1], [1, 2, 3]]
    assert (state.epoch, state.iteration, state.outcome) == (3, 7, RunOutcome.COMPLETED)


@pytest.mark.parametrize("name", EPOCH[2:])
@pytest.mark.parametrize("skip", [False, True])
def test_E_135_terminate_epoch_at_each_event(name, skip, identity, fired, batches):
    """The epoch ends with TERMINATE_SINGLE_EPOCH and EPOCH_COMPLETED, and the next begins with the first batch."""
    names, epochs = fired(identity), batches(identity)
    event = Events[name](event_filter=lambda e, n: e.state.epoch == 1)
    identity.add_event_handler(event, lambda e: e.terminate_epoch(skip_epoch_completed=skip))
    state = identity.run([1, 2, 3], max_epochs=2)
    expected = ["TERMINATE_SINGLE_EPOCH", *([] if skip else ["EPOCH_COMPLETED"]), "EPOCH_STARTED"]
    start = names.index(name) + 1
    assert names[start : start + len(expected)] == expected
    assert epochs == [[1] if name == "ITERATION_COMPLETED" else [], [1, 2, 3]]
    assert state.outcome is RunOutcome.COMPLETED


def test_E_135_terminate_epoch_in_the_step(fired):
    """terminate_epoch() in the step: ITERATION_COMPLETED still fires."""
    engine = Engine(lambda engine, batch: engine.terminate_epoch())
    names = fired(engine)
    engine.run([1, 2], max_epochs=1)
    end = ["ITERATION_COMPLETED", "TERMINATE_SINGLE_EPOCH", "EPOCH_COMPLETED", "COMPLETED", "TEARDOWN"]
    assert names[-5:] == end


def test_E_135_terminate_epoch_at_dataloader_stop_iteration(identity, batches):
    """terminate_epoch() when the data begins anew within an epoch."""
    epochs = batches(identity)
    identity.add_event_handler(Events.DATALOADER_STOP_ITERATION(once=1), lambda e: e.terminate_epoch())
    identity.run([1, 2], max_epochs=2, epoch_length=3)
    assert epochs == [[1, 2], [1, 2, 1]]


@pytest.mark.parametrize("event", [Events.EPOCH_COMPLETED, Events.TERMINATE_SINGLE_EPOCH])
def test_E_135_terminate_epoch_of_an_ended_epoch(event, identity, batches):
    """terminate_epoch() in a handler of what ends the epoch has no effect on the next."""
    epochs = batches(identity)
    identity.add_event_handler(event, lambda e: e.terminate_epoch())
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.terminate_epoch())
    identity.run([1, 2, 3], max_epochs=3)
    assert epochs == [[1, 2], [1, 2, 3], [1, 2, 3]]


def test_E_135_a_later_request_can_skip_epoch_completed(identity, fired):
    """A handler of TERMINATE_SINGLE_EPOCH can still skip EPOCH_COMPLETED."""
    names = fired(identity, Events.TERMINATE_SINGLE_EPOCH, Events.EPOCH_COMPLETED)
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate_epoch())
    identity.add_event_handler(
        Events.TERMINATE_SINGLE_EPOCH, lambda e: e.terminate_epoch(skip_epoch_completed=True)
    )
    identity.run([1, 2], max_epochs=2)
    assert names == ["TERMINATE_SINGLE_EPOCH", "EPOCH_COMPLETED"]


@pytest.mark.parametrize("event", [Events.STARTED, Events.EPOCH_STARTED])
def test_E_135_terminate_epoch_without_an_epoch(event, identity):
    """terminate_epoch() before the epoch is under way is an error that says where to call it."""
    identity.add_event_handler(event, lambda e: e.terminate_epoch())
    with pytest.raises(
        RuntimeError, match=rf"terminate_epoch\(\) was called at {event}.* or use terminate\(\)"
    ):
        identity.run([1])
    assert identity.state.outcome is RunOutcome.FAILED


def test_E_136_epochs_count(identity):
    """The run ends after its epochs, though fewer iterations were done."""
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate_epoch())
    state = identity.run([1, 2, 3], max_epochs=3)
    assert (state.epoch, state.iteration) == (3, 7)


def test_E_137_precedence(identity, fired):
    """Of several requests at one event, terminate comes before terminate_epoch, and that before interrupt."""
    names = fired(identity)

    def ask(engine):
        engine.interrupt()
        engine.terminate_epoch()
        if engine.state.epoch == 2:
            engine.terminate()

    identity.add_event_handler(Events.ITERATION_STARTED, ask)
    state = identity.run([1], max_epochs=2)
    assert names[-2:] == ["TERMINATE_SINGLE_EPOCH", "INTERRUPT"]
    assert state.outcome is RunOutcome.INTERRUPTED
    identity.run()
    assert names[-4:] == ["ITERATION_STARTED", *ENDS]
    assert "TERMINATE_SINGLE_EPOCH" not in names[names.index("INTERRUPT") :]


@pytest.mark.parametrize("name", [*EPOCH, "DATALOADER_STOP_ITERATION", "EPOCH_COMPLETED"])
def test_E_138_interrupt_at_each_event(name, identity, fired, batches):
    """run() returns after INTERRUPT, and the next one goes on right there: together they are one whole run."""
    whole = Engine(lambda engine, batch: batch)
    expected = fired(whole)
    whole.run([1, 2], max_epochs=2)
    names, epochs = fired(identity), batches(identity)
    handle = identity.add_event_handler(Events[name], lambda e: (e.interrupt(), handle.remove()))
    state = identity.run([1, 2], max_epochs=2)
    assert names[-2:] == [name, "INTERRUPT"]
    assert state.outcome is RunOutcome.INTERRUPTED
    assert identity.run() is state
    names.remove("INTERRUPT")
    assert names == expected
    assert epochs == [[1, 2], [1, 2]]
    assert (state.iteration, state.outcome) == (4, RunOutcome.COMPLETED)


def test_E_138_interrupt_in_the_step():
    """interrupt() in the step: ITERATION_COMPLETED still fires, and the step is not done again."""
    steps = []

    def step(engine, batch):
        steps.append(batch)
        engine.interrupt()

    engine = Engine(step)
    for count in (1, 2):
        engine.run([1, 2])
        assert steps == [1, 2][:count]
        assert engine.state.outcome is RunOutcome.INTERRUPTED
    assert engine.run().outcome is RunOutcome.COMPLETED


@pytest.mark.parametrize("event", [Events.COMPLETED, Events.TEARDOWN])
def test_E_138_interrupt_at_the_end(event, identity, fired):
    """interrupt() at COMPLETED or later has no effect."""
    names = fired(identity)
    identity.add_event_handler(event, lambda e: e.interrupt())
    assert identity.run([1]).outcome is RunOutcome.COMPLETED
    assert "INTERRUPT" not in names


def test_E_138_interrupt_in_its_own_handler(identity, fired):
    """interrupt() in a handler of INTERRUPT does not interrupt again."""
    names = fired(identity, Events.INTERRUPT)
    identity.add_event_handler(Events.INTERRUPT, lambda e: e.interrupt())
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt())
    identity.run([1, 2])
    assert identity.run().outcome is RunOutcome.COMPLETED
    assert names == ["INTERRUPT"]


def test_E_139_going_on_ignores_data(identity, batches):
    """A run that was interrupted goes on with its own data; its end may be put off."""
    epochs = batches(identity)
    with identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt()):
        identity.run([1, 2], max_epochs=1)
    state = identity.run([8, 9], max_epochs=2)
    assert epochs == [[1, 2], [1, 2]]
    assert state.max_epochs == 2


@pytest.mark.parametrize(("first", "second"), [(3, 5), (5, 3)])
@pytest.mark.parametrize("name", EPOCH)
def test_E_139_another_number_of_iterations(first, second, name, identity, batches):
    """A number of iterations given when going on holds in the epoch under way, be it more or less."""
    epochs = batches(identity)
    handle = identity.add_event_handler(Events[name], lambda e: (e.interrupt(), handle.remove()))
    identity.run(range(6), max_iters=first)
    assert identity.run(max_iters=second).iteration == second
    assert epochs == [list(range(second))]


def test_E_139_limits_of_an_interrupted_run_are_checked(identity):
    """A limit below what was reached is refused, and the run can still go on."""
    with identity.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: e.interrupt()):
        identity.run([1, 2], max_epochs=3)
    with pytest.raises(ValueError, match="max_epochs=1 is below"):
        identity.run(max_epochs=1)
    assert identity.run().iteration == 6


def test_interrupted_run_fails_or_ends_as_any_other(fired):
    """What happens after an interruption, an error here, is told and torn down once."""
    engine = Engine(lambda engine, batch: 1 / batch)
    names = fired(engine)
    with engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt()):
        engine.run([1, 0])
    assert "TEARDOWN" not in names
    with pytest.raises(ZeroDivisionError):
        engine.run()
    assert names[-2:] == ["EXCEPTION_RAISED", "TEARDOWN"]
    assert names.count("TEARDOWN") == 1


def test_load_state_dict_gives_an_interrupted_run_up(identity, batches):
    """Loading a state replaces the run that was interrupted."""
    with identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt()):
        identity.run([1, 2, 3])
    identity.load_state_dict({"epoch_length": 2, "epoch": 1, "max_epochs": 2})
    epochs = batches(identity)
    assert identity.run([4, 5]).iteration == 4
    assert epochs == [[4, 5]]


@pytest.mark.parametrize(
    "name", ["EPOCH_STARTED", "GET_BATCH_STARTED", "GET_BATCH_COMPLETED", "DATALOADER_STOP_ITERATION"]
)
def test_E_139_no_iteration_is_left(name, identity, fired):
    """Interrupted before a step, a run whose new limit is what was done already ends without a further one."""
    names = fired(identity)
    event = Events[name](event_filter=lambda e, _: e.state.iteration == 2)
    handle = identity.add_event_handler(event, lambda e: (e.interrupt(), handle.remove()))
    identity.run([1, 2], max_iters=9, epoch_length=2 if name == "EPOCH_STARTED" else 4)
    state = identity.run(max_iters=2)
    assert (state.iteration, state.outcome) == (2, RunOutcome.COMPLETED)
    assert names[-4:] == ["INTERRUPT", *ENDS]
