"""Data that is short, long, unsized, exhausted, or replaced during a run."""

from __future__ import annotations

import itertools

import pytest

from glowplug import Engine, Events, RunOutcome


class TestExhaustedData:
    def test_generator_ends_the_epoch(self, identity, fired):
        """An exhausted generator gives an epoch without iterations and a warning (E-111)."""
        names = fired(identity)
        with pytest.warns(
            UserWarning, match=r"epoch 2 ends after 0 of 3 iterations: the data \(generator\) yields no more"
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

    def test_warns_in_each_epoch(self, identity, batches):
        """A run over an exhausted generator warns in each further epoch and completes normally (E-111)."""
        epochs = batches(identity)
        with pytest.warns(UserWarning, match="yields no more batches") as warned:
            state = identity.run((i for i in range(3)), max_epochs=3)
        assert len(warned) == 2
        assert epochs == [[0, 1, 2], [], []]
        assert state.outcome is RunOutcome.COMPLETED

    def test_max_iters_ends_the_run(self, identity):
        """Exhausted data ends a run with max_iters instead of looping forever (E-111)."""
        with pytest.warns(UserWarning, match="yields no more batches"):
            state = identity.run((i for i in range(3)), max_iters=10, epoch_length=3)
        assert (state.iteration, state.outcome) == (3, RunOutcome.TERMINATED)

    def test_set_data_continues_the_epoch(self, identity, batches):
        """A handler of DATALOADER_STOP_ITERATION can set new data, which continues the epoch (E-111)."""
        epochs = batches(identity)
        identity.add_event_handler(Events.DATALOADER_STOP_ITERATION, lambda e: e.set_data([7, 8, 9]))
        identity.run((i for i in range(3)), max_epochs=2)
        assert epochs == [[0, 1, 2], [7, 8, 9]]


class TestEpochLength:
    def test_shorter_than_the_data(self, identity, batches):
        """Each epoch continues the data where the previous epoch stopped (E-113)."""
        epochs = batches(identity)
        identity.run(range(5), max_epochs=3, epoch_length=2)
        assert epochs == [[0, 1], [2, 3], [4, 0]]

    def test_longer_than_the_data(self, identity, batches, fired):
        """The data restarts within an epoch, with DATALOADER_STOP_ITERATION and no second GET_BATCH_STARTED (E-114)."""
        epochs = batches(identity)
        names = fired(
            identity, Events.DATALOADER_STOP_ITERATION, Events.GET_BATCH_STARTED, Events.EPOCH_COMPLETED
        )
        identity.run(range(2), epoch_length=5)
        assert epochs == [[0, 1, 0, 1, 0]]
        fetch, end = "GET_BATCH_STARTED", "DATALOADER_STOP_ITERATION"
        assert names == [fetch, fetch, fetch, end, fetch, fetch, end, "EPOCH_COMPLETED"]

    @pytest.mark.parametrize("limit", [{"max_epochs": 2, "epoch_length": 3}, {"max_iters": 6}])
    def test_infinite_data(self, limit, identity):
        """Infinite data runs with epoch_length or max_iters (E-115)."""
        assert identity.run(itertools.count(), **limit).output == 5

    def test_infinite_data_and_terminate(self, identity):
        """terminate() ends a run over infinite data without limits (E-115)."""
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda e: e.terminate())
        state = identity.run(itertools.count())
        assert (state.iteration, state.epoch_length) == (4, None)


class TestBatchAndOutput:
    def test_lifetime(self, identity):
        """The batch is cleared before the next fetch, and the output after it (E-118)."""
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
    def test_handlers_can_replace_the_batch(self, event, identity):
        """The step receives the batch that a handler has set (E-119)."""
        outputs = []
        identity.add_event_handler(event, lambda e: setattr(e.state, "batch", e.state.batch * 10))
        identity.add_event_handler(Events.ITERATION_COMPLETED, lambda e: outputs.append(e.state.output))
        identity.run([1, 2])
        assert outputs == [10, 20]


class TestErrors:
    @pytest.mark.parametrize("event", list(Events)[:8])
    def test_stop_iteration_of_a_handler(self, event, identity):
        """StopIteration raised by a handler ends the run as an error (E-120)."""

        def handler():
            raise StopIteration("mine")

        identity.add_event_handler(event, handler)
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            identity.run([1, 2], max_epochs=2)
        assert str(caught.value.__cause__) == "mine"
        assert identity.state.outcome is RunOutcome.FAILED

    def test_stop_iteration_of_the_step(self, identity):
        """StopIteration raised by the step ends the run as an error (E-120)."""
        engine = Engine(lambda engine, batch: next(iter(())))
        with pytest.raises(RuntimeError, match="StopIteration"):
            engine.run([1])
        assert engine.state.outcome is RunOutcome.FAILED

    def test_error_of_the_data(self, identity):
        """An exception raised by the data propagates unchanged (E-120)."""

        def broken():
            yield 1
            raise OSError("disk")

        with pytest.raises(OSError, match="disk"):
            identity.run(broken())
        assert identity.state.iteration == 1


class TestSetData:
    def test_next_batch_comes_from_the_new_data(self, identity, batches):
        """After set_data() the next batch comes from the new data; the length of this epoch is unchanged (E-117)."""
        epochs = batches(identity)
        identity.add_event_handler(
            Events.ITERATION_COMPLETED(once=2), lambda e: e.set_data([10, 20, 30, 40, 50])
        )
        state = identity.run([1, 2, 3], max_epochs=3)
        assert epochs == [[1, 2, 10], [10, 20, 30, 40, 50], [10, 20, 30, 40, 50]]
        assert (state.epoch_length, state.dataloader) == (5, [10, 20, 30, 40, 50])

    def test_given_epoch_length(self, identity, batches):
        """After set_data() a given epoch_length continues to cut and restart the passes (E-117, E-113)."""
        epochs = batches(identity)
        identity.add_event_handler(
            Events.ITERATION_COMPLETED(once=2), lambda e: e.set_data([10, 20, 30, 40, 50])
        )
        state = identity.run([1, 2, 3], max_epochs=3, epoch_length=3)
        assert epochs == [[1, 2, 10], [20, 30, 40], [50, 10, 20]]
        assert state.epoch_length == 3

    def test_set_data_in_a_run_without_data(self, identity, fired):
        """set_data() in a run without data starts the batch events (E-117)."""
        names = fired(identity, Events.GET_BATCH_COMPLETED, Events.ITERATION_COMPLETED)
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.set_data([7, 8]))
        state = identity.run(epoch_length=3)
        assert names == ["ITERATION_COMPLETED", *["GET_BATCH_COMPLETED", "ITERATION_COMPLETED"] * 2]
        assert state.output == 8

    @pytest.mark.parametrize(
        "event", [Events.EPOCH_STARTED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED]
    )
    def test_batch_events_after_set_data(self, event, identity, fired, batches):
        """After set_data() in a run without data, each batch fires both GET_BATCH events (E-117)."""
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

    @pytest.mark.parametrize("data", [None, 5])
    def test_set_data_requires_an_iterable(self, data, identity):
        """set_data() refuses data that is not iterable (E-117)."""
        with pytest.raises(TypeError):
            identity.set_data(data)

    def test_set_data_between_runs(self, identity, batches):
        """run() uses its own data argument, not data that was set before (E-117)."""
        epochs = batches(identity)
        identity.run([1, 2])
        identity.set_data([7, 8])
        identity.run([3, 4], max_epochs=2)
        assert epochs == [[1, 2], [3, 4]]


class TestUnknownLength:
    def test_first_pass_determines_the_length(self, identity, fired, unsized):
        """The end of unsized data ends epoch 1 and sets epoch_length, without DATALOADER_STOP_ITERATION (E-110)."""
        lengths = []
        identity.add_event_handler(Events.EPOCH_STARTED, lambda e: lengths.append(e.state.epoch_length))
        identity.add_event_handler(Events.EPOCH_COMPLETED, lambda e: lengths.append(e.state.epoch_length))
        names = fired(identity, Events.DATALOADER_STOP_ITERATION, Events.EPOCH_COMPLETED)
        identity.run(unsized(1, 2, 3))
        assert lengths == [None, 3]
        assert names == ["EPOCH_COMPLETED"]

    def test_get_batch_started_fires_before_the_end(self, identity, fired, unsized):
        """The fetch that finds the end of unsized data fires GET_BATCH_STARTED (E-110)."""
        names = fired(identity, Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED)
        identity.run(unsized(1, 2))
        assert names == ["GET_BATCH_STARTED", "GET_BATCH_COMPLETED"] * 2 + ["GET_BATCH_STARTED"]

    def test_unsized_data_is_iterated_again(self, identity, batches, unsized):
        """Re-iterable unsized data gives all its batches in each epoch (E-112)."""
        epochs = batches(identity)
        state = identity.run(unsized(1, 2, 3), max_epochs=3)
        assert epochs == [[1, 2, 3]] * 3
        assert state.epoch_length == 3

    def test_second_pass_starts_lazily(self, identity, fired, unsized):
        """The second pass over unsized data starts at the first fetch, with DATALOADER_STOP_ITERATION (E-015, E-112)."""
        names = fired(identity)
        identity.run(unsized(1, 2), max_epochs=2)
        end = names.index("EPOCH_COMPLETED")
        assert names[end + 1 : end + 5] == [
            "EPOCH_STARTED",
            "GET_BATCH_STARTED",
            "DATALOADER_STOP_ITERATION",
            "GET_BATCH_COMPLETED",
        ]

    def test_empty_data(self, identity, fired):
        """Empty unsized data gives one epoch without iterations (E-116)."""
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

    def test_empty_data_with_max_iters(self, identity):
        """A run with max_iters over empty unsized data ends after one epoch (E-116)."""
        state = identity.run(iter(()), max_iters=5)
        assert (state.epoch, state.iteration, state.outcome) == (1, 0, RunOutcome.COMPLETED)

    def test_empty_data_twice(self, identity, unsized):
        """A run with max_iters over empty data also ends when it is repeated (E-116)."""
        for _ in range(2):
            assert identity.run(unsized(), max_iters=3).epoch == 1

    def test_sequence_protocol(self, identity, batches):
        """Data with __getitem__ only is iterable."""

        class Old:
            def __getitem__(self, index):
                if index > 2:
                    raise IndexError
                return index

        epochs = batches(identity)
        identity.run(Old(), max_epochs=2)
        assert epochs == [[0, 1, 2]] * 2
