"""run(): the order of events, its arguments, and whether a run is new or continued."""

from __future__ import annotations

import threading

import pytest

from glowplug import Engine, Events, RunOutcome


@pytest.fixture
def seen():
    """Return a function that records event, epoch and iteration of every firing."""

    def record(engine):
        log = []
        for event in Events:
            engine.add_event_handler(
                event, lambda e, *_, name=event.name: log.append((name, e.state.epoch, e.state.iteration))
            )
        return log

    return record


class TestEventOrder:
    def test_two_epochs_of_two_batches(self, identity, seen):
        """Two epochs of two batches fire these events with these counters (E-014)."""
        log = seen(identity)
        identity.run([1, 2], max_epochs=2)
        assert log == [
            ("STARTED", 0, 0),
            ("EPOCH_STARTED", 1, 0),
            ("GET_BATCH_STARTED", 1, 0),
            ("GET_BATCH_COMPLETED", 1, 0),
            ("ITERATION_STARTED", 1, 1),
            ("ITERATION_COMPLETED", 1, 1),
            ("GET_BATCH_STARTED", 1, 1),
            ("GET_BATCH_COMPLETED", 1, 1),
            ("ITERATION_STARTED", 1, 2),
            ("ITERATION_COMPLETED", 1, 2),
            ("EPOCH_COMPLETED", 1, 2),
            ("EPOCH_STARTED", 2, 2),
            ("GET_BATCH_STARTED", 2, 2),
            ("DATALOADER_STOP_ITERATION", 2, 2),
            ("GET_BATCH_COMPLETED", 2, 2),
            ("ITERATION_STARTED", 2, 3),
            ("ITERATION_COMPLETED", 2, 3),
            ("GET_BATCH_STARTED", 2, 3),
            ("GET_BATCH_COMPLETED", 2, 3),
            ("ITERATION_STARTED", 2, 4),
            ("ITERATION_COMPLETED", 2, 4),
            ("EPOCH_COMPLETED", 2, 4),
            ("COMPLETED", 2, 4),
            ("TEARDOWN", 2, 4),
        ]

    @pytest.mark.parametrize(
        ("event", "end_pass"),
        [
            (Events.ITERATION_COMPLETED(once=1), lambda engine: engine.terminate_epoch()),
            (Events.EPOCH_COMPLETED(once=1), lambda engine: engine.set_data([3, 4])),
        ],
        ids=["terminate_epoch", "set_data"],
    )
    def test_pass_that_does_not_reach_the_end(self, identity, fired, event, end_pass):
        """DATALOADER_STOP_ITERATION fires only if the data has ended, and not after another end of a pass (E-014)."""
        identity.add_event_handler(event, end_pass)
        names = fired(identity, Events.DATALOADER_STOP_ITERATION, Events.EPOCH_COMPLETED)
        identity.run([1, 2], max_epochs=3)
        assert names == ["EPOCH_COMPLETED", "EPOCH_COMPLETED", "DATALOADER_STOP_ITERATION", "EPOCH_COMPLETED"]

    def test_data_restarts_lazily(self):
        """The data restarts at the first fetch of an epoch, so EPOCH_STARTED can still change its order (E-015)."""
        log = []

        class Data:
            def __len__(self):
                return 2

            def __iter__(self):
                log.append("iter")
                return iter([1, 2])

        engine = Engine(lambda engine, batch: batch)
        for event in (Events.EPOCH_STARTED, Events.GET_BATCH_STARTED, Events.DATALOADER_STOP_ITERATION):
            engine.add_event_handler(event, lambda e: log.append(e.last_event_name.name))
        engine.run(Data(), max_epochs=2)
        first = ["EPOCH_STARTED", "iter", "GET_BATCH_STARTED", "GET_BATCH_STARTED"]
        assert log == [
            *first,
            "EPOCH_STARTED",
            "GET_BATCH_STARTED",
            "DATALOADER_STOP_ITERATION",
            "iter",
            "GET_BATCH_STARTED",
        ]

    def test_get_batch_started_is_not_repeated(self, identity, fired):
        """An event fired at DATALOADER_STOP_ITERATION does not repeat GET_BATCH_STARTED (E-016)."""
        identity.register_events("custom")
        identity.add_event_handler(Events.DATALOADER_STOP_ITERATION, lambda e: e.fire_event("custom"))
        names = fired(identity, Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED)
        identity.run([1, 2], max_epochs=2)
        assert names == ["GET_BATCH_STARTED", "GET_BATCH_COMPLETED"] * 4

    def test_iteration_increases_after_the_fetch(self, identity, seen):
        """GET_BATCH events see the number of the previous iteration (E-017)."""
        log = seen(identity)
        identity.run([1])
        assert [number for name, _, number in log if name.startswith("GET_BATCH")] == [0, 0]
        assert [number for name, _, number in log if name.startswith("ITERATION")] == [1, 1]


class TestState:
    def test_run_returns_the_state(self, identity):
        """run() returns the engine's state, always the same object (E-090)."""
        state = identity.state
        assert identity.run([1]) is state
        assert identity.run([1], max_epochs=3) is state
        assert identity.state is state

    def test_new_run_resets_the_state(self, identity):
        """A new run resets counters, output, batch and metrics, and keeps user attributes (E-092, E-093)."""
        identity.run([1, 2], max_epochs=2)
        state = identity.state
        state.metrics["accuracy"] = 0.5
        state.mine, state.seed, old_metrics = "kept", 3, state.metrics
        got = []
        identity.add_event_handler(
            Events.STARTED,
            lambda e: got.append(
                (e.state.iteration, e.state.epoch, e.state.output, e.state.batch, dict(e.state.metrics))
            ),
        )
        identity.run([3], max_epochs=1 + 1)
        assert got == [(0, 0, None, None, {})]
        assert (state.mine, state.seed, old_metrics) == ("kept", 3, {"accuracy": 0.5})
        assert state.metrics is not old_metrics
        assert state.outcome is RunOutcome.COMPLETED

    def test_handlers_survive_a_run(self, identity):
        """Handlers and registered events survive a run (E-093)."""
        got = []
        identity.register_events("custom")
        identity.add_event_handler(Events.COMPLETED, lambda e: got.append(e))
        identity.run([1])
        identity.run([1])
        assert got == [identity, identity]
        assert identity.has_registered_events("custom")

    def test_run_clears_earlier_requests(self, identity):
        """Stop requests made before a run are cleared when it starts (E-094)."""
        identity.terminate()
        identity.terminate_epoch()
        identity.interrupt()
        assert identity.run([1, 2], max_epochs=2).iteration == 4
        assert identity.state.outcome is RunOutcome.COMPLETED

    def test_terminate_between_runs(self, identity, fired):
        """terminate() between two calls of run() ends the interrupted run (E-094)."""
        handle = identity.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.interrupt())
        identity.run([1, 2, 3])
        handle.remove()
        names = fired(identity)
        identity.terminate()
        assert identity.run().iteration == 1
        assert names == ["TERMINATE", "COMPLETED", "TEARDOWN"]
        assert identity.state.outcome is RunOutcome.TERMINATED


class TestContinuedRun:
    def test_run_after_a_finished_run(self, identity):
        """No limit or the same limit starts a new run; a higher limit continues with passes over the new data (E-095)."""
        state = identity.run([1, 2], max_epochs=3)
        identity.run([1, 2])
        assert (state.epoch, state.iteration, state.max_epochs) == (1, 2, 1)
        identity.run([1, 2], max_epochs=1)
        assert (state.epoch, state.iteration) == (1, 2)
        identity.run([1, 2, 3, 4, 5], max_epochs=3)
        assert (state.epoch, state.iteration, state.epoch_length) == (3, 12, 5)

    def test_counters_continue(self, identity, seen):
        """A continued run keeps its counters and fires STARTED again (E-095)."""
        identity.run([1], max_epochs=1)
        log = seen(identity)
        identity.run([1], max_epochs=2)
        assert log[:2] == [("STARTED", 1, 1), ("EPOCH_STARTED", 2, 1)]
        assert log[-2:] == [("COMPLETED", 2, 2), ("TEARDOWN", 2, 2)]

    @pytest.mark.parametrize("limits", [{"max_epochs": 1}, {"max_iters": 3}])
    def test_limit_below_progress_is_refused(self, limits, identity):
        """A limit below the progress is refused, and the message shows both and the remedy (E-095)."""
        (name,) = limits
        identity.run([1, 2], **{name: 4})
        with pytest.raises(
            ValueError,
            match=rf"{name}=\d is below 4, which the run has already reached\. .*engine.state.{name} = None",
        ):
            identity.run([1, 2], **limits)
        assert getattr(identity.state, name) == 4

    @pytest.mark.parametrize("name", ["max_epochs", "max_iters"])
    def test_limit_none_forces_a_new_run(self, name, identity, batches):
        """Setting the limit in the state to None forces a new run, also after an interrupt (E-096)."""
        identity.run([1, 2], **{name: 4})
        setattr(identity.state, name, None)
        assert identity.run([1], max_epochs=1).iteration == 1
        identity.state.max_epochs = None
        with identity.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.interrupt()):
            identity.run([1, 2])
        identity.state.max_epochs = None
        epochs = batches(identity)
        assert identity.run([5, 6, 7]).iteration == 3
        assert epochs == [[5, 6, 7]]

    def test_other_kind_of_limit(self, identity):
        """The other kind of limit is refused while one is set; without a limit a new run of one epoch starts (E-097)."""
        identity.run([1, 2], max_iters=3)
        with pytest.raises(ValueError, match=r"limited by max_iters=3; .* engine.state.max_iters = None"):
            identity.run([1, 2], max_epochs=3)
        identity.run([1, 2])
        assert (identity.state.max_epochs, identity.state.max_iters, identity.state.iteration) == (1, None, 2)
        with pytest.raises(ValueError, match=r"limited by max_epochs=1; .* engine.state.max_epochs = None"):
            identity.run([1, 2], max_iters=3)

    def test_new_run_of_unsized_data(self, identity, unsized):
        """The remedy in the message about the limit starts a new run, also after a run that found its length (E-097)."""
        identity.run(unsized(1, 2), max_iters=4)
        with pytest.raises(
            ValueError, match=r"set engine.state.max_epochs = None and engine.state.max_iters = None before"
        ):
            identity.run(unsized(1, 2), max_epochs=3)
        identity.state.max_epochs = identity.state.max_iters = None
        assert identity.run(unsized(1, 2), max_epochs=3).iteration == 6


class TestEpochLength:
    def test_other_epoch_length_is_refused(self, identity):
        """A continued run refuses another epoch_length and accepts the same one (E-098)."""
        identity.run([1, 2])
        with pytest.raises(
            ValueError,
            match=r"epoch_length=3: the epoch_length of this run is 2\. .* to start a new run, set engine.state.max_epochs = None",
        ):
            identity.run([1, 2], max_epochs=2, epoch_length=3)
        assert identity.run([1, 2], max_epochs=2, epoch_length=2).iteration == 4

    def test_unknown_length_is_found_when_continuing(self, identity, unsized):
        """A continued run whose epoch_length is unknown takes it from its new data (E-098)."""
        with identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate()):
            identity.run(unsized(1, 2, 3), max_epochs=3)
        assert identity.state.epoch_length is None
        identity.run([1, 2], max_epochs=3)
        assert (identity.state.epoch_length, identity.state.epoch, identity.state.iteration) == (2, 3, 5)

    def test_interrupted_run_of_unknown_length(self, identity, unsized):
        """An interrupted run finds its epoch_length itself and refuses a given one (E-098)."""
        with identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt()):
            identity.run(unsized(1, 2, 3))
        with pytest.raises(ValueError, match=r"epoch_length of this run is not known yet"):
            identity.run(epoch_length=2)
        assert identity.run().iteration == 3

    def test_new_run_forgets_the_length(self, identity, unsized, batches):
        """A new run over unsized data ignores the epoch_length of the previous run (E-099)."""
        identity.run([1, 2, 3, 4])
        epochs = batches(identity)
        identity.run(unsized(*range(6)))
        assert epochs == [[0, 1, 2, 3, 4, 5]]

    def test_len_that_raises(self, identity):
        """Data whose __len__ raises TypeError counts as unsized (E-099)."""

        class Loader:
            def __len__(self):
                raise TypeError

            def __iter__(self):
                return iter([1, 2, 3])

        assert identity.run(Loader()).epoch_length == 3


class TestWithoutData:
    def test_step_receives_none(self, fired):
        """Without data no batch events fire, the step receives None, and the previous output is cleared (E-018)."""
        got = []
        engine = Engine(lambda engine, batch: got.append((batch, engine.state.output)) or "output")
        names = fired(engine)
        engine.run(max_epochs=2, epoch_length=2)
        epoch = ["EPOCH_STARTED", *["ITERATION_STARTED", "ITERATION_COMPLETED"] * 2, "EPOCH_COMPLETED"]
        assert names == ["STARTED", *epoch, *epoch, "COMPLETED", "TEARDOWN"]
        assert got == [(None, None)] * 4

    def test_continued_without_data(self):
        """A run that continues without data does not pass the last batch to the step (E-018)."""
        got = []
        engine = Engine(lambda engine, batch: got.append(batch))
        engine.run([1, 2])
        engine.run(max_epochs=2)
        assert got == [1, 2, None, None]

    def test_epoch_length_is_required(self, identity):
        """A run without data requires epoch_length once (E-100)."""
        with pytest.raises(ValueError, match=r"run\(\) without data needs epoch_length="):
            identity.run()
        assert identity.run(epoch_length=3).iteration == 3
        assert identity.run().iteration == 3


class TestNestedRuns:
    def test_own_handler_cannot_run_the_engine(self, identity):
        """An engine refuses run() in its own handler, and the message suggests another engine (E-102)."""
        identity.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.run([1]))
        with pytest.raises(
            ValueError,
            match=r"already running, so its step and handlers cannot call run\(\)\. Use another engine",
        ):
            identity.run([1])

    def test_other_engine_runs_in_a_handler(self, identity):
        """Another engine can run in a handler, and its parent is the outer engine (E-102)."""
        evaluator = Engine(lambda engine, batch: batch)
        parents = []
        evaluator.add_event_handler(Events.COMPLETED, lambda e: parents.append(e.parent))
        identity.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([7, 8]))
        identity.run([1, 2], max_epochs=2)
        assert (identity.state.iteration, evaluator.state.iteration) == (4, 2)
        assert parents == [identity, identity]
        assert (identity.parent, evaluator.parent) == (None, None)

    def test_failing_inner_run_resets_the_parent(self, identity):
        """After a failed inner run both engines can run again (E-102)."""
        evaluator = Engine(lambda engine, batch: 1 / batch)
        identity.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
        with pytest.raises(ZeroDivisionError):
            identity.run([1])
        assert (identity.parent, evaluator.parent) == (None, None)
        assert evaluator.run([1]).output == 1

    def test_run_in_a_thread(self):
        """run() works in a thread, and another thread can call terminate() (E-103)."""
        stepped = threading.Event()
        engine = Engine(lambda engine, batch: stepped.set())
        thread = threading.Thread(target=engine.run, kwargs={"epoch_length": 10**9}, daemon=True)
        thread.start()
        assert stepped.wait(5)
        engine.terminate()
        thread.join(5)
        assert not thread.is_alive()
        assert engine.state.outcome is RunOutcome.TERMINATED


class TestMaxIters:
    def test_within_an_epoch(self, identity, fired):
        """A limit within an epoch fires TERMINATE and COMPLETED, but not EPOCH_COMPLETED (E-104)."""
        names = fired(
            identity, Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.TERMINATE, Events.COMPLETED
        )
        state = identity.run([1, 2, 3], max_iters=5)
        assert names == ["EPOCH_STARTED", "EPOCH_COMPLETED", "EPOCH_STARTED", "TERMINATE", "COMPLETED"]
        assert (state.epoch, state.iteration, state.max_epochs) == (2, 5, None)
        assert state.outcome is RunOutcome.COMPLETED

    def test_at_the_end_of_an_epoch(self, identity, fired):
        """A limit at the end of an epoch fires EPOCH_COMPLETED and COMPLETED, but not TERMINATE (E-104)."""
        names = fired(identity, Events.EPOCH_COMPLETED, Events.TERMINATE, Events.COMPLETED)
        state = identity.run([1, 2, 3], max_iters=6)
        assert names == ["EPOCH_COMPLETED", "EPOCH_COMPLETED", "COMPLETED"]
        assert (state.epoch, state.iteration) == (2, 6)

    def test_continued_run_starts_a_new_epoch(self, identity, batches):
        """A run continued after max_iters skips the rest of the interrupted epoch (E-104)."""
        identity.run([1, 2, 3], max_iters=5)
        epochs = batches(identity)
        state = identity.run([1, 2, 3], max_iters=8)
        assert epochs == [[1, 2, 3]]
        assert (state.epoch, state.iteration) == (3, 8)

    def test_unknown_length(self, identity, unsized):
        """The first end of the data determines epoch_length and the number of epochs (E-105)."""
        state = identity.run(unsized(1, 2, 3), max_iters=7)
        assert (state.epoch_length, state.max_epochs, state.max_iters) == (3, 3, 7)
        assert (state.epoch, state.iteration) == (3, 7)

    def test_next_run_accepts_max_iters(self, identity, unsized):
        """The derived number of epochs does not conflict with max_iters of the next run (E-105)."""
        identity.run(unsized(1, 2, 3), max_iters=7)
        assert identity.run(unsized(1, 2, 3), max_iters=9).iteration == 9
        assert identity.run(unsized(1, 2, 3), max_iters=9).iteration == 9


class TestArguments:
    @pytest.mark.parametrize("data", [5, object()])
    def test_data_must_be_iterable(self, data, identity):
        """Data that is not iterable raises a TypeError and leaves the engine unchanged (E-091)."""
        with pytest.raises(TypeError, match="data must be an iterable of batches"):
            identity.run(data)
        assert identity.state.max_epochs is None
        assert identity.run([1]).iteration == 1

    def test_one_limit_only(self, identity):
        """Giving both limits raises a ValueError (E-091)."""
        with pytest.raises(
            ValueError, match="pass max_epochs or max_iters, not both; got max_epochs=2 and max_iters=3"
        ):
            identity.run([1], max_epochs=2, max_iters=3)

    @pytest.mark.parametrize(
        "arguments",
        [{"data": []}, {"data": [1], "epoch_length": 0}, {"epoch_length": -1}, {"epoch_length": 1.5}],
    )
    def test_empty_epochs_are_refused(self, arguments, identity, fired):
        """Empty data and an epoch_length below one are refused before any event fires (E-100)."""
        names = fired(identity)
        with pytest.raises(
            ValueError,
            match=r"an epoch must have at least one iteration, got epoch length .*; pass data with at least one batch",
        ):
            identity.run(**arguments)
        assert names == []
        assert identity.state.max_epochs is None

    def test_refused_run_keeps_unknown_length(self, identity, unsized):
        """A refused run leaves an unknown epoch_length unknown (E-100)."""
        with identity.add_event_handler(Events.STARTED, lambda e: e.terminate()):
            identity.run(unsized(1, 2), max_epochs=2)
        with pytest.raises(ValueError, match="an epoch must have at least one iteration"):
            identity.run([])
        assert identity.state.epoch_length is None
        assert identity.run([1, 2, 3]).iteration == 6

    @pytest.mark.parametrize("name", ["max_epochs", "max_iters"])
    @pytest.mark.parametrize("value", [0, -1, 1.5, "2"])
    def test_limits_are_positive_integers(self, name, value, identity):
        """A limit that is not a positive integer is refused, on a new engine and after a run (E-101)."""
        for _ in range(2):
            with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got {value!r}"):
                identity.run([1], **{name: value})
            identity.state.max_epochs = identity.state.max_iters = None
            identity.run([1], **{name: 1})
