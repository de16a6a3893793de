"""What becomes of data that is shorter, longer, unsized, used up, or changed on the way."""

from __future__ import annotations

import itertools

import pytest

from glowplug import Engine, Events, RunOutcome


def test_E_110_unknown_length_is_found_out(identity, fired, unsized):
    """The first end of unsized data ends epoch 1 and tells its length, without DATALOADER_STOP_ITERATION."""
    lengths = []
    identity.add_event_handler(Events.EPOCH_STARTED, lambda e: lengths.append(e.state.epoch_length))
    identity.add_event_handler(Events.EPOCH_COMPLETED, lambda e: lengths.append(e.state.epoch_length))
    names = fired(identity, Events.DATALOADER_STOP_ITERATION, Events.EPOCH_COMPLETED)
    identity.run(unsized(1, 2, 3))
    assert lengths == [None, 3]
    assert names == ["EPOCH_COMPLETED"]


def test_E_110_get_batch_started_fires_before_the_end_is_known(identity, fired, unsized):
    """With unsized data, the fetch that finds the end has begun with GET_BATCH_STARTED."""
    names = fired(identity, Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED)
    identity.run(unsized(1, 2))
    assert names == ["GET_BATCH_STARTED", "GET_BATCH_COMPLETED"] * 2 + ["GET_BATCH_STARTED"]


def test_E_111_generator_runs_dry_in_the_last_epoch(identity, fired):
    """A generator has nothing for a second epoch: it begins, ends without an iteration, and a warning says so."""
    names = fired(identity)
    with pytest.warns(
        UserWarning, match=r"epoch 2 ends after 0 of 3 iterations: the data \(generator\) gives no more"
    ):
        state = identity.run((i for i in range(3)), max_epochs=2)
    start = names.index("EPOCH_COMPLETED")
    assert names[start:] == [
        "EPOCH_COMPLETED",
        "EPOCH_STARTED",
        "GET_BATCH_STARTED",
        "DATALOADER_STOP_ITERATION",
        "EPOCH_COMPLETED",
        "COMPLETED",
        "TEARDOWN",
    ]
    assert (state.epoch, state.iteration, state.outcome) == (2, 3, RunOutcome.COMPLETED)


def test_E_111_warns_in_each_epoch(identity, batches):
    """The run still ends normally after as many epochs as were asked for."""
    epochs = batches(identity)
    with pytest.warns(UserWarning, match="gives no more batches") as warned:
        state = identity.run((i for i in range(3)), max_epochs=3)
    assert len(warned) == 2
    assert epochs == [[0, 1, 2], [], []]
    assert state.outcome is RunOutcome.COMPLETED


def test_E_111_dry_data_and_max_iters(identity):
    """A number of iterations that dry data can never reach ends the run instead of looping for ever."""
    with pytest.warns(UserWarning, match="gives no more batches"):
        state = identity.run((i for i in range(3)), max_iters=10, epoch_length=3)
    assert (state.iteration, state.outcome) == (3, RunOutcome.TERMINATED)


def test_E_111_set_data_when_dry(identity, batches):
    """A handler of DATALOADER_STOP_ITERATION may bring new data, and the epoch goes on with it."""
    epochs = batches(identity)
    identity.add_event_handler(Events.DATALOADER_STOP_ITERATION, lambda e: e.set_data([7, 8, 9]))
    identity.run((i for i in range(3)), max_epochs=2)
    assert epochs == [[0, 1, 2], [7, 8, 9]]


def test_E_112_unsized_data_that_can_be_iterated_again(identity, batches, unsized):
    """Re-iterable data without a length gives all of its batches in each epoch."""
    epochs = batches(identity)
    state = identity.run(unsized(1, 2, 3), max_epochs=3)
    assert epochs == [[1, 2, 3]] * 3
    assert state.epoch_length == 3


def test_E_015_E_112_second_pass_of_unsized_data(identity, fired, unsized):
    """The second pass over unsized data begins as that over any: lazily, with DATALOADER_STOP_ITERATION."""
    names = fired(identity)
    identity.run(unsized(1, 2), max_epochs=2)
    end = names.index("EPOCH_COMPLETED")
    assert names[end + 1 : end + 5] == [
        "EPOCH_STARTED",
        "GET_BATCH_STARTED",
        "DATALOADER_STOP_ITERATION",
        "GET_BATCH_COMPLETED",
    ]


def test_data_with_getitem_only(identity, batches):
    """Old-style sequences are data too."""

    class Old:
        def __getitem__(self, index):
            if index > 2:
                raise IndexError
            return index

    epochs = batches(identity)
    identity.run(Old(), max_epochs=2)
    assert epochs == [[0, 1, 2]] * 2


def test_E_113_epochs_shorter_than_the_data(identity, batches):
    """The next epoch goes on where the one before stopped in the data."""
    epochs = batches(identity)
    identity.run(range(5), max_epochs=3, epoch_length=2)
    assert epochs == [[0, 1], [2, 3], [4, 0]]


def test_E_114_epochs_longer_than_the_data(identity, batches, fired):
    """Within an epoch the data begins anew, with DATALOADER_STOP_ITERATION, and without a second GET_BATCH_STARTED."""
    epochs = batches(identity)
    names = fired(
        identity, Events.DATALOADER_STOP_ITERATION, Events.GET_BATCH_STARTED, Events.EPOCH_COMPLETED
    )
    identity.run(range(2), epoch_length=5)
    assert epochs == [[0, 1, 0, 1, 0]]
    fetch, end = "GET_BATCH_STARTED", "DATALOADER_STOP_ITERATION"
    assert names == [fetch, fetch, fetch, end, fetch, fetch, end, "EPOCH_COMPLETED"]


@pytest.mark.parametrize("limit", [{"max_epochs": 2, "epoch_length": 3}, {"max_iters": 6}])
def test_E_115_infinite_data(limit, identity):
    """Endless data is run over with a length of epochs or a number of iterations."""
    assert identity.run(itertools.count(), **limit).output == 5


def test_E_115_infinite_data_and_terminate(identity):
    """Endless data without any limit ends with terminate()."""
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda e: e.terminate())
    state = identity.run(itertools.count())
    assert (state.iteration, state.epoch_length) == (4, None)


def test_E_116_empty_unsized_data(identity, fired):
    """Unsized data that turns out to be empty: one epoch without iterations."""
    names = fired(identity)
    state = identity.run(iter(()))
    assert names == [
        "STARTED",
        "EPOCH_STARTED",
        "GET_BATCH_STARTED",
        "EPOCH_COMPLETED",
        "COMPLETED",
        "TEARDOWN",
    ]
    assert (state.epoch, state.iteration, state.epoch_length) == (1, 0, 0)


def test_E_116_empty_unsized_data_and_max_iters(identity):
    """The same with a number of iterations ends as well."""
    state = identity.run(iter(()), max_iters=5)
    assert (state.epoch, state.iteration, state.outcome) == (1, 0, RunOutcome.COMPLETED)


def test_E_117_set_data(identity, batches):
    """The next batch after set_data() comes from the new data; the epochs keep their length."""
    epochs = batches(identity)
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.set_data([10, 20, 30, 40, 50]))
    state = identity.run([1, 2, 3], max_epochs=3)
    assert epochs == [[1, 2, 10], [20, 30, 40], [50, 10, 20]]
    assert (state.epoch_length, state.dataloader) == (3, [10, 20, 30, 40, 50])


def test_E_117_set_data_in_a_run_without_data(identity, fired):
    """Data that comes while a run without data is on is fetched as any."""
    names = fired(identity, Events.GET_BATCH_COMPLETED, Events.ITERATION_COMPLETED)
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.set_data([7, 8]))
    state = identity.run(epoch_length=3)
    assert names == ["ITERATION_COMPLETED", *["GET_BATCH_COMPLETED", "ITERATION_COMPLETED"] * 2]
    assert state.output == 8


@pytest.mark.parametrize("data", [None, 5])
def test_E_117_set_data_needs_data(data, identity):
    """set_data() refuses what cannot be iterated over."""
    with pytest.raises(TypeError):
        identity.set_data(data)


def test_E_118_when_batch_and_output_can_be_seen(identity):
    """The batch is gone before the next is fetched, the output only after that."""
    log = []
    for event in Events:
        identity.add_event_handler(
            event, lambda e, *_, name=event.name: log.append((name, e.state.batch, e.state.output))
        )
    identity.run([1, 2])
    assert log[2:9] == [
        ("GET_BATCH_STARTED", None, None),
        ("GET_BATCH_COMPLETED", 1, None),
        ("ITERATION_STARTED", 1, None),
        ("ITERATION_COMPLETED", 1, 1),
        ("GET_BATCH_STARTED", None, 1),
        ("GET_BATCH_COMPLETED", 2, None),
        ("ITERATION_STARTED", 2, None),
    ]
    assert log[-1] == ("TEARDOWN", 2, 2)


@pytest.mark.parametrize("event", [Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED])
def test_E_119_handlers_may_replace_the_batch(event, identity):
    """The step receives what a handler put in the place of the batch."""
    outputs = []
    identity.add_event_handler(event, lambda e: setattr(e.state, "batch", e.state.batch * 10))
    identity.add_event_handler(Events.ITERATION_COMPLETED, lambda e: outputs.append(e.state.output))
    identity.run([1, 2])
    assert outputs == [10, 20]


@pytest.mark.parametrize("event", list(Events)[:8])
def test_E_120_stop_iteration_of_a_handler(event, identity):
    """StopIteration from a handler is an error of that handler, not the end of the data or of the run."""

    def handler():
        raise StopIteration("mine")

    identity.add_event_handler(event, handler)
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        identity.run([1, 2], max_epochs=2)
    assert str(caught.value.__cause__) == "mine"
    assert identity.state.outcome is RunOutcome.FAILED


def test_E_120_stop_iteration_of_the_step(identity):
    """StopIteration from the step, such as next() on a used-up iterator, is an error."""
    engine = Engine(lambda engine, batch: next(iter(())))
    with pytest.raises(RuntimeError, match="StopIteration"):
        engine.run([1])
    assert engine.state.outcome is RunOutcome.FAILED


def test_E_120_error_of_the_data(identity):
    """What the data raises goes on as it is."""

    def broken():
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        identity.run(broken())
    assert identity.state.iteration == 1


@pytest.mark.parametrize(
    "event", [Events.EPOCH_STARTED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED]
)
def test_E_117_data_for_a_run_that_began_without(event, identity, fired, batches):
    """From the next batch on it is a run with data, its GET_BATCH_STARTED included."""
    names, epochs = fired(identity), batches(identity)
    identity.add_event_handler(
        event(event_filter=lambda e, _: e.state.iteration < 2), lambda e: e.set_data([7, 8, 9])
    )
    identity.run(epoch_length=3)
    assert epochs == [[7, 8, 9] if event is Events.EPOCH_STARTED else [None, 7, 8]]
    assert (
        names.count("GET_BATCH_STARTED")
        == names.count("GET_BATCH_COMPLETED")
        == len([*filter(None, epochs[0])])
    )


def test_E_117_set_data_between_runs(identity, batches):
    """The data of a run is what run() is given, whatever was set before."""
    epochs = batches(identity)
    identity.run([1, 2])
    identity.set_data([7, 8])
    identity.run([3, 4], max_epochs=2)
    assert epochs == [[1, 2], [3, 4]]


def test_E_116_empty_data_twice(identity, unsized):
    """A run limited by iterations over data without a batch ends, also when it is run again."""
    for _ in range(2):
        assert identity.run(unsized(), max_iters=3).epoch == 1
