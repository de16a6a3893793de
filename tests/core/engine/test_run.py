"""The order of events, the arguments of run(), and which call starts anew or goes on."""

from __future__ import annotations

import threading

import pytest

from glowplug import Engine, Events, RunOutcome


@pytest.fixture
def seen():
    """Return a function that records event, epoch and iteration of all firings."""

    def record(engine):
        log = []
        for event in Events:
            engine.add_event_handler(
                event, lambda e, *_, name=event.name: log.append((name, e.state.epoch, e.state.iteration))
            )
        return log

    return record


def test_E_014_order_of_events(identity, seen):
    """Two epochs of two batches fire these events, with these numbers."""
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


def test_E_015_data_restarts_lazily():
    """The data is iterated anew at the first fetch of the next epoch, so EPOCH_STARTED can still change its order."""
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


def test_E_016_get_batch_started_is_not_repeated(identity, fired):
    """An event fired by a handler of DATALOADER_STOP_ITERATION does not repeat GET_BATCH_STARTED."""
    identity.register_events("custom")
    identity.add_event_handler(Events.DATALOADER_STOP_ITERATION, lambda e: e.fire_event("custom"))
    names = fired(identity, Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED)
    identity.run([1, 2], max_epochs=2)
    assert names == ["GET_BATCH_STARTED", "GET_BATCH_COMPLETED"] * 4


def test_E_017_iteration_is_counted_after_the_fetch(identity, seen):
    """GET_BATCH events still see the number of the iteration before."""
    log = seen(identity)
    identity.run([1])
    assert [number for name, _, number in log if name.startswith("GET_BATCH")] == [0, 0]
    assert [number for name, _, number in log if name.startswith("ITERATION")] == [1, 1]


def test_E_018_without_data(fired):
    """Without data nothing is fetched: the step gets None, and the output of the step before is gone."""
    got = []
    engine = Engine(lambda engine, batch: got.append((batch, engine.state.output)) or "output")
    names = fired(engine)
    engine.run(max_epochs=2, epoch_length=2)
    epoch = ["EPOCH_STARTED", *["ITERATION_STARTED", "ITERATION_COMPLETED"] * 2, "EPOCH_COMPLETED"]
    assert names == ["STARTED", *epoch, *epoch, "COMPLETED", "TEARDOWN"]
    assert got == [(None, None)] * 4


def test_E_018_going_on_without_data():
    """A run that goes on without data does not give the step the last batch of the data that it had."""
    got = []
    engine = Engine(lambda engine, batch: got.append(batch))
    engine.run([1, 2])
    engine.run(max_epochs=2)
    assert got == [1, 2, None, None]


def test_E_090_returns_its_state(identity):
    """run() returns the engine's state, the same object each time."""
    state = identity.state
    assert identity.run([1]) is state
    assert identity.run([1], max_epochs=3) is state
    assert identity.state is state


@pytest.mark.parametrize("data", [5, object()])
def test_E_091_data_must_be_iterable(data, identity):
    """Data that cannot be iterated over is a TypeError, and leaves the engine as it was."""
    with pytest.raises(TypeError, match="data must be something that can be iterated over"):
        identity.run(data)
    assert identity.state.max_epochs is None
    assert identity.run([1]).iteration == 1


def test_E_091_one_limit(identity):
    """Both limits at once contradict each other."""
    with pytest.raises(ValueError, match="give max_epochs or max_iters, not both; got 2 and 3"):
        identity.run([1], max_epochs=2, max_iters=3)


def test_E_092_E_093_new_run_resets_what_belongs_to_a_run(identity):
    """A new run begins with fresh counters, output, batch, metrics and times; the user's attributes stay."""
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


def test_E_093_handlers_stay(identity):
    """Handlers and registered events outlive a run."""
    got = []
    identity.register_events("custom")
    identity.add_event_handler(Events.COMPLETED, got.append)
    identity.run([1])
    identity.run([1])
    assert got == [identity, identity]
    assert identity.has_registered_events("custom")


def test_E_094_requests_before_a_run_are_lost(identity):
    """terminate() and the others belong to a run: those from before it are cleared at its start."""
    identity.terminate()
    identity.terminate_epoch()
    identity.interrupt()
    assert identity.run([1, 2], max_epochs=2).iteration == 4
    assert identity.state.outcome is RunOutcome.COMPLETED


def test_E_094_terminate_while_interrupted(identity, fired):
    """terminate() between two calls of run() ends the interrupted run."""
    handle = identity.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.interrupt())
    identity.run([1, 2, 3])
    handle.remove()
    names = fired(identity)
    identity.terminate()
    assert identity.run().iteration == 1
    assert names == ["TERMINATE", "COMPLETED", "TEARDOWN"]
    assert identity.state.outcome is RunOutcome.TERMINATED


def test_E_095_run_after_a_finished_run(identity):
    """Without a limit or with the same: a new run; with more: it goes on, with the epoch length that it had."""
    state = identity.run([1, 2], max_epochs=3)
    identity.run([1, 2])
    assert (state.epoch, state.iteration, state.max_epochs) == (1, 2, 1)
    identity.run([1, 2], max_epochs=1)
    assert (state.epoch, state.iteration) == (1, 2)
    identity.run([1, 2, 3, 4, 5], max_epochs=3)
    assert (state.epoch, state.iteration, state.epoch_length) == (3, 6, 2)


def test_E_095_going_on_counts_on(identity, seen):
    """A run that goes on keeps counting, and fires STARTED again."""
    identity.run([1], max_epochs=1)
    log = seen(identity)
    identity.run([1], max_epochs=2)
    assert log[:2] == [("STARTED", 1, 1), ("EPOCH_STARTED", 2, 1)]
    assert log[-2:] == [("COMPLETED", 2, 2), ("TEARDOWN", 2, 2)]


@pytest.mark.parametrize("limits", [{"max_epochs": 1}, {"max_iters": 3}])
def test_E_095_less_than_reached(limits, identity):
    """A limit below what was reached is refused, with what was reached and how to start anew."""
    (name,) = limits
    identity.run([1, 2], **{name: 4})
    with pytest.raises(
        ValueError, match=rf"{name}=\d is below .* reached already, 4; .*engine.state.{name} = None"
    ):
        identity.run([1, 2], **limits)
    assert getattr(identity.state, name) == 4


@pytest.mark.parametrize("name", ["max_epochs", "max_iters"])
def test_E_096_forcing_a_new_run(name, identity, batches):
    """Setting the limit in the state to None makes the next run a new one, after an interruption too."""
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


def test_E_097_changing_the_kind_of_limit(identity):
    """The other kind of limit is refused while one is set; no limit at all is a new run of one epoch."""
    identity.run([1, 2], max_iters=3)
    with pytest.raises(ValueError, match=r"limited by max_iters=3; .* engine.state.max_iters = None"):
        identity.run([1, 2], max_epochs=3)
    identity.run([1, 2])
    assert (identity.state.max_epochs, identity.state.max_iters, identity.state.iteration) == (1, None, 2)
    with pytest.raises(ValueError, match=r"limited by max_epochs=1; .* engine.state.max_epochs = None"):
        identity.run([1, 2], max_iters=3)


def test_E_098_another_epoch_length(identity):
    """A run that goes on refuses another epoch length, and takes the same."""
    identity.run([1, 2])
    with pytest.raises(
        ValueError,
        match=r"epoch_length of this run is 2 and cannot become 3; to start a new run, set engine.state.max_epochs = None",
    ):
        identity.run([1, 2], max_epochs=2, epoch_length=3)
    assert identity.run([1, 2], max_epochs=2, epoch_length=2).iteration == 4


def test_E_098_unknown_length_is_found_when_going_on(identity, unsized):
    """A run that ended before it knew the length of its epochs takes that of the data it goes on with."""
    with identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate()):
        identity.run(unsized(1, 2, 3), max_epochs=3)
    assert identity.state.epoch_length is None
    identity.run([1, 2], max_epochs=3)
    assert (identity.state.epoch_length, identity.state.epoch, identity.state.iteration) == (2, 3, 5)


def test_E_098_interrupted_run_of_unknown_length(identity, unsized):
    """An interrupted run finds its epoch length out by itself, and refuses to be given one."""
    with identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt()):
        identity.run(unsized(1, 2, 3))
    with pytest.raises(ValueError, match=r"epoch_length of this run is not known yet"):
        identity.run(epoch_length=2)
    assert identity.run().iteration == 3


def test_E_099_length_of_the_run_before_is_forgotten(identity, unsized, batches):
    """A new run over data of unknown length runs over all of it, whatever the run before had."""
    identity.run([1, 2, 3, 4])
    epochs = batches(identity)
    identity.run(unsized(*range(6)))
    assert epochs == [[0, 1, 2, 3, 4, 5]]


def test_E_099_length_that_raises(identity):
    """Data whose __len__ raises TypeError has no length."""

    class Loader:
        def __len__(self):
            raise TypeError

        def __iter__(self):
            return iter([1, 2, 3])

    assert identity.run(Loader()).epoch_length == 3


def test_E_100_no_data_needs_a_length(identity):
    """Without data, the length of an epoch must be given once."""
    with pytest.raises(ValueError, match=r"run\(\) without data needs epoch_length="):
        identity.run()
    assert identity.run(epoch_length=3).iteration == 3
    assert identity.run().iteration == 3


@pytest.mark.parametrize(
    "arguments", [{"data": []}, {"data": [1], "epoch_length": 0}, {"epoch_length": -1}, {"epoch_length": 1.5}]
)
def test_E_100_nothing_to_run_over(arguments, identity, fired):
    """Empty data and lengths below one are refused before anything fires, and change nothing."""
    names = fired(identity)
    with pytest.raises(
        ValueError, match=r"an epoch has zero size .* iterations\); give data with at least one batch"
    ):
        identity.run(**arguments)
    assert names == []
    assert identity.state.max_epochs is None


@pytest.mark.parametrize("name", ["max_epochs", "max_iters"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2"])
def test_E_101_limits_are_at_least_one(name, value, identity):
    """A limit below one, or that is no integer, is refused on a fresh engine and on one that has run."""
    for _ in range(2):
        with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got {value!r}"):
            identity.run([1], **{name: value})
        identity.state.max_epochs = identity.state.max_iters = None
        identity.run([1], **{name: 1})


def test_E_102_reentrant_run(identity):
    """An engine cannot be run from one of its own handlers, and the message says what to do instead."""
    identity.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.run([1]))
    with pytest.raises(ValueError, match=r"already running: .* own handlers. Use another engine"):
        identity.run([1])


def test_E_102_other_engines_run_in_handlers(identity):
    """Another engine runs inside of a handler, and knows in whose."""
    evaluator = Engine(lambda engine, batch: batch)
    parents = []
    evaluator.add_event_handler(Events.COMPLETED, lambda e: parents.append(e.parent))
    identity.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([7, 8]))
    identity.run([1, 2], max_epochs=2)
    assert (identity.state.iteration, evaluator.state.iteration) == (4, 2)
    assert parents == [identity, identity]
    assert (identity.parent, evaluator.parent) == (None, None)


def test_E_102_failing_inner_engine_leaves_no_parent(identity):
    """When an inner run fails, neither engine believes that it is still running."""
    evaluator = Engine(lambda engine, batch: 1 / batch)
    identity.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    with pytest.raises(ZeroDivisionError):
        identity.run([1])
    assert (identity.parent, evaluator.parent) == (None, None)
    assert evaluator.run([1]).output == 1


def test_E_103_run_in_a_thread():
    """run() works in a thread, and terminate() may be called from another one."""
    stepped = threading.Event()
    engine = Engine(lambda engine, batch: stepped.set())
    thread = threading.Thread(target=engine.run, kwargs={"epoch_length": 10**9}, daemon=True)
    thread.start()
    assert stepped.wait(5)
    engine.terminate()
    thread.join(5)
    assert not thread.is_alive()
    assert engine.state.outcome is RunOutcome.TERMINATED


def test_E_104_max_iters_in_the_middle_of_an_epoch(identity, fired):
    """A limit within an epoch: TERMINATE and COMPLETED fire, EPOCH_COMPLETED does not."""
    names = fired(identity, Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.TERMINATE, Events.COMPLETED)
    state = identity.run([1, 2, 3], max_iters=5)
    assert names == ["EPOCH_STARTED", "EPOCH_COMPLETED", "EPOCH_STARTED", "TERMINATE", "COMPLETED"]
    assert (state.epoch, state.iteration, state.max_epochs) == (2, 5, None)
    assert state.outcome is RunOutcome.COMPLETED


def test_E_104_max_iters_at_the_end_of_an_epoch(identity, fired):
    """A limit at the end of an epoch: EPOCH_COMPLETED and COMPLETED fire, TERMINATE does not."""
    names = fired(identity, Events.EPOCH_COMPLETED, Events.TERMINATE, Events.COMPLETED)
    state = identity.run([1, 2, 3], max_iters=6)
    assert names == ["EPOCH_COMPLETED", "EPOCH_COMPLETED", "COMPLETED"]
    assert (state.epoch, state.iteration) == (2, 6)


def test_E_104_going_on_after_max_iters(identity, batches):
    """What was left of the epoch in which max_iters was reached is not made up for."""
    identity.run([1, 2, 3], max_iters=5)
    epochs = batches(identity)
    state = identity.run([1, 2, 3], max_iters=8)
    assert epochs == [[1, 2, 3]]
    assert (state.epoch, state.iteration) == (3, 8)


def test_E_105_max_iters_and_unknown_length(identity, unsized):
    """The first end of the data gives the epoch length, and with it the number of epochs."""
    state = identity.run(unsized(1, 2, 3), max_iters=7)
    assert (state.epoch_length, state.max_epochs, state.max_iters) == (3, 3, 7)
    assert (state.epoch, state.iteration) == (3, 7)


def test_E_105_next_run_is_limited_by_iterations_again(identity, unsized):
    """The number of epochs that was found out does not stand in the way of the next limit."""
    identity.run(unsized(1, 2, 3), max_iters=7)
    assert identity.run(unsized(1, 2, 3), max_iters=9).iteration == 9
    assert identity.run(unsized(1, 2, 3), max_iters=9).iteration == 9


def test_E_100_refused_when_the_length_is_not_known_yet(identity, unsized):
    """run() that is refused for its data leaves the length of an epoch as unknown as it was."""
    with identity.add_event_handler(Events.STARTED, lambda e: e.terminate()):
        identity.run(unsized(1, 2), max_epochs=2)
    with pytest.raises(ValueError, match="zero size"):
        identity.run([])
    assert identity.state.epoch_length is None
    assert identity.run([1, 2, 3]).iteration == 6
