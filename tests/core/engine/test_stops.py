"""terminate(), terminate_epoch() and interrupt() at every event."""

from __future__ import annotations

import weakref

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


class TestTerminate:
    @pytest.mark.parametrize("name", [*EPOCH, "EPOCH_COMPLETED"])
    @pytest.mark.parametrize("skip", [False, True])
    def test_at_each_event(self, name, skip, identity, fired):
        """The event is followed by TERMINATE, COMPLETED unless skipped, and TEARDOWN only (E-131, E-132, E-133, E-133a)."""
        names = fired(identity)
        identity.add_event_handler(Events[name], lambda e: e.terminate(skip_completed=skip))
        state = identity.run([1, 2, 3], max_epochs=2)
        ends = ["TERMINATE", "TEARDOWN"] if skip else ENDS
        assert names[names.index(name) + 1 :] == ends
        assert state.outcome is RunOutcome.TERMINATED
        assert state.times["COMPLETED"] > 0

    def test_at_started(self, identity):
        """terminate() at STARTED ends the run before its first epoch (E-131)."""
        identity.add_event_handler(Events.STARTED, lambda e: e.terminate())
        state = identity.run([1, 2, 3])
        assert (state.epoch, state.iteration) == (0, 0)

    def test_at_dataloader_stop_iteration(self, identity, fired):
        """terminate() at DATALOADER_STOP_ITERATION ends the run before another batch is fetched (E-131)."""
        names = fired(identity)
        identity.add_event_handler(Events.DATALOADER_STOP_ITERATION, lambda e: e.terminate())
        identity.run([1, 2], max_epochs=2)
        assert names[names.index("DATALOADER_STOP_ITERATION") + 1 :] == ENDS

    def test_in_the_step(self, fired):
        """ITERATION_COMPLETED still fires, with the output, after terminate() in the step (E-131)."""
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

    def test_without_handlers(self):
        """terminate() in the step ends the run immediately when no handler is registered (E-131)."""
        engine = Engine(lambda engine, batch: engine.terminate())
        assert engine.run([1, 2, 3]).iteration == 1

    @pytest.mark.parametrize("event", [Events.COMPLETED, Events.TERMINATE, Events.TEARDOWN])
    def test_at_the_end(self, event, identity, fired):
        """terminate() at COMPLETED or later changes neither the order of events nor the outcome (E-131)."""
        names = fired(identity)
        identity.add_event_handler(event, lambda e: e.terminate())
        identity.run([1])
        assert names[-2:] == ["COMPLETED", "TEARDOWN"]
        assert "TERMINATE" not in names
        assert identity.state.outcome is RunOutcome.COMPLETED

    def test_later_request_skips_completed(self, identity, fired):
        """A handler of TERMINATE can still skip COMPLETED (E-133)."""
        names = fired(identity)
        identity.add_event_handler(Events.STARTED, lambda e: e.terminate())
        identity.add_event_handler(Events.TERMINATE, lambda e: e.terminate(skip_completed=True))
        identity.run([1])
        assert names == ["STARTED", "TERMINATE", "TEARDOWN"]

    def test_next_run_starts_the_next_epoch(self, identity, batches):
        """The run after terminate() starts the next epoch at the first batch (E-134)."""
        epochs = batches(identity)
        with identity.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda e: e.terminate()):
            identity.run([1, 2, 3], max_epochs=3)
        state = identity.run([1, 2, 3], max_epochs=3)
        assert epochs == [[1, 2, 3], [1], [1, 2, 3]]
        assert (state.epoch, state.iteration, state.outcome) == (3, 7, RunOutcome.COMPLETED)


class TestTerminateEpoch:
    @pytest.mark.parametrize("name", EPOCH[2:])
    @pytest.mark.parametrize("skip", [False, True])
    def test_epoch_ends_at_each_event(self, name, skip, identity, fired, batches):
        """TERMINATE_SINGLE_EPOCH and EPOCH_COMPLETED fire, and the next epoch starts at the first batch (E-135)."""
        names, epochs = fired(identity), batches(identity)
        event = Events[name](event_filter=lambda e, n: e.state.epoch == 1)
        identity.add_event_handler(event, lambda e: e.terminate_epoch(skip_epoch_completed=skip))
        state = identity.run([1, 2, 3], max_epochs=2)
        expected = ["TERMINATE_SINGLE_EPOCH", *([] if skip else ["EPOCH_COMPLETED"]), "EPOCH_STARTED"]
        start = names.index(name) + 1
        assert names[start : start + len(expected)] == expected
        assert epochs == [[1] if name == "ITERATION_COMPLETED" else [], [1, 2, 3]]
        assert state.outcome is RunOutcome.COMPLETED

    def test_terminate_epoch_in_the_step(self, fired):
        """ITERATION_COMPLETED still fires after terminate_epoch() in the step (E-135)."""
        engine = Engine(lambda engine, batch: engine.terminate_epoch())
        names = fired(engine)
        engine.run([1, 2], max_epochs=1)
        end = ["ITERATION_COMPLETED", "TERMINATE_SINGLE_EPOCH", "EPOCH_COMPLETED", "COMPLETED", "TEARDOWN"]
        assert names[-5:] == end

    def test_terminate_epoch_at_dataloader_stop_iteration(self, identity, batches):
        """terminate_epoch() ends an epoch in which the data restarts (E-135)."""
        epochs = batches(identity)
        identity.add_event_handler(Events.DATALOADER_STOP_ITERATION(once=1), lambda e: e.terminate_epoch())
        identity.run([1, 2], max_epochs=2, epoch_length=3)
        assert epochs == [[1, 2], [1, 2, 1]]

    @pytest.mark.parametrize("event", [Events.EPOCH_COMPLETED, Events.TERMINATE_SINGLE_EPOCH])
    def test_terminate_epoch_after_the_epoch(self, event, identity, batches):
        """terminate_epoch() at an event that ends the epoch does not affect the next epoch (E-135)."""
        epochs = batches(identity)
        identity.add_event_handler(event, lambda e: e.terminate_epoch())
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.terminate_epoch())
        identity.run([1, 2, 3], max_epochs=3)
        assert epochs == [[1, 2], [1, 2, 3], [1, 2, 3]]

    def test_later_request_skips_epoch_completed(self, identity, fired):
        """A handler of TERMINATE_SINGLE_EPOCH can still skip EPOCH_COMPLETED (E-135)."""
        names = fired(identity, Events.TERMINATE_SINGLE_EPOCH, Events.EPOCH_COMPLETED)
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate_epoch())
        identity.add_event_handler(
            Events.TERMINATE_SINGLE_EPOCH, lambda e: e.terminate_epoch(skip_epoch_completed=True)
        )
        identity.run([1, 2], max_epochs=2)
        assert names == ["TERMINATE_SINGLE_EPOCH", "EPOCH_COMPLETED"]

    @pytest.mark.parametrize("event", [Events.STARTED, Events.EPOCH_STARTED])
    def test_terminate_epoch_before_the_epoch(self, event, identity):
        """terminate_epoch() before the epoch's first batch raises an error that names where to call it (E-135)."""
        identity.add_event_handler(event, lambda e: e.terminate_epoch())
        with pytest.raises(
            RuntimeError,
            match=rf"terminate_epoch\(\) was called at {event}.* to end the run, call terminate\(\)",
        ):
            identity.run([1])
        assert identity.state.outcome is RunOutcome.FAILED

    def test_shortened_epochs_count(self, identity):
        """A run ends after max_epochs epochs even if some were shortened (E-136)."""
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate_epoch())
        state = identity.run([1, 2, 3], max_epochs=3)
        assert (state.epoch, state.iteration) == (3, 7)


class TestRequests:
    def test_remaining_handlers_run(self, identity):
        """The handlers after the one that calls terminate() still run (E-130)."""
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
    def test_request_by_attribute(self, identity, attribute, value, outcome, iteration):
        """Setting a public attribute has the same effect as calling its method (E-004)."""
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: setattr(e, attribute, value))
        state = identity.run([1, 2], max_epochs=2)
        assert (state.outcome, state.iteration) == (outcome, iteration)
        assert getattr(identity, attribute) in {value, False}

    def test_precedence(self, identity, fired):
        """At one event terminate takes precedence over terminate_epoch, and terminate_epoch over interrupt (E-137)."""
        names = fired(identity)

        def request_all(engine):
            engine.interrupt()
            engine.terminate_epoch()
            if engine.state.epoch == 2:
                engine.terminate()

        identity.add_event_handler(Events.ITERATION_STARTED, request_all)
        state = identity.run([1], max_epochs=2)
        assert names[-2:] == ["TERMINATE_SINGLE_EPOCH", "INTERRUPT"]
        assert state.outcome is RunOutcome.INTERRUPTED
        identity.run()
        assert names[-4:] == ["ITERATION_STARTED", *ENDS]
        assert "TERMINATE_SINGLE_EPOCH" not in names[names.index("INTERRUPT") :]


class TestInterrupt:
    @pytest.mark.parametrize("name", [*EPOCH, "DATALOADER_STOP_ITERATION", "EPOCH_COMPLETED"])
    def test_resumes_at_each_event(self, name, identity, fired, batches):
        """run() returns after INTERRUPT, and the next run() continues from the same event (E-138)."""
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

    def test_interrupt_in_the_step(self):
        """ITERATION_COMPLETED still fires after interrupt() in the step, and the step is not repeated (E-138)."""
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
    def test_interrupt_at_the_end(self, event, identity, fired):
        """interrupt() at COMPLETED or later has no effect (E-138)."""
        names = fired(identity)
        identity.add_event_handler(event, lambda e: e.interrupt())
        assert identity.run([1]).outcome is RunOutcome.COMPLETED
        assert "INTERRUPT" not in names

    def test_interrupt_at_interrupt(self, identity, fired):
        """interrupt() in a handler of INTERRUPT does not interrupt again (E-138)."""
        names = fired(identity, Events.INTERRUPT)
        identity.add_event_handler(Events.INTERRUPT, lambda e: e.interrupt())
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt())
        identity.run([1, 2])
        assert identity.run().outcome is RunOutcome.COMPLETED
        assert names == ["INTERRUPT"]

    def test_continued_run_keeps_its_data(self, identity, batches):
        """An interrupted run continues with its original data and accepts a higher limit (E-139)."""
        epochs = batches(identity)
        with identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt()):
            identity.run([1, 2], max_epochs=1)
        state = identity.run([8, 9], max_epochs=2)
        assert epochs == [[1, 2], [1, 2]]
        assert state.max_epochs == 2

    @pytest.mark.parametrize(("first", "second"), [(3, 5), (5, 3)])
    @pytest.mark.parametrize("name", EPOCH)
    def test_new_max_iters_applies_to_the_current_epoch(self, first, second, name, identity, batches):
        """A new max_iters, higher or lower, applies to the current epoch of a continued run (E-139)."""
        epochs = batches(identity)
        handle = identity.add_event_handler(Events[name], lambda e: (e.interrupt(), handle.remove()))
        identity.run(range(6), max_iters=first)
        assert identity.run(max_iters=second).iteration == second
        assert epochs == [list(range(second))]

    def test_limit_below_progress_is_refused(self, identity):
        """A limit below the current progress is refused, and the run can still continue (E-139)."""
        with identity.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: e.interrupt()):
            identity.run([1, 2], max_epochs=3)
        with pytest.raises(ValueError, match="max_epochs=1 is below 2"):
            identity.run(max_epochs=1)
        assert identity.run().iteration == 6

    def test_error_after_an_interrupt(self, fired):
        """An error in a continued run fires EXCEPTION_RAISED and TEARDOWN once."""
        engine = Engine(lambda engine, batch: 1 / batch)
        names = fired(engine)
        with engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt()):
            engine.run([1, 0])
        assert "TEARDOWN" not in names
        with pytest.raises(ZeroDivisionError):
            engine.run()
        assert names[-2:] == ["EXCEPTION_RAISED", "TEARDOWN"]
        assert names.count("TEARDOWN") == 1

    def test_load_state_dict_replaces_an_interrupted_run(self, identity, batches):
        """Loading a state discards the interrupted run."""
        with identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt()):
            identity.run([1, 2, 3])
        identity.load_state_dict({"epoch_length": 2, "epoch": 1, "max_epochs": 2})
        epochs = batches(identity)
        assert identity.run([4, 5]).iteration == 4
        assert epochs == [[4, 5]]

    @pytest.mark.parametrize(
        "name", ["EPOCH_STARTED", "GET_BATCH_STARTED", "GET_BATCH_COMPLETED", "DATALOADER_STOP_ITERATION"]
    )
    def test_no_iteration_left(self, name, identity, fired):
        """A run interrupted before its last step ends without another step if the new limit is reached (E-139)."""
        names = fired(identity)
        event = Events[name](event_filter=lambda e, _: e.state.iteration == 2)
        handle = identity.add_event_handler(event, lambda e: (e.interrupt(), handle.remove()))
        identity.run([1, 2], max_iters=9, epoch_length=2 if name == "EPOCH_STARTED" else 4)
        state = identity.run(max_iters=2)
        assert (state.iteration, state.outcome) == (2, RunOutcome.COMPLETED)
        assert names[-4:] == ["INTERRUPT", *ENDS]


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("event", [Events.EPOCH_STARTED, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED])
def test_interrupted_engine_is_freed(event):
    """An interrupted engine is freed with its last reference, without the garbage collector."""
    engine = Engine(lambda engine, batch: batch)
    engine.add_event_handler(event, lambda e: e.interrupt())
    engine.run([1, 2], max_epochs=2)
    alive = weakref.ref(engine)
    del engine
    assert alive() is None
