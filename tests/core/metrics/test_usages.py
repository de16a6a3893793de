"""Usages: when metrics are reset, updated and published."""

import pytest

from glowplug import (
    BatchFiltered,
    BatchWise,
    Engine,
    EpochWise,
    Events,
    MetricUsage,
    RunningBatchWise,
    RunningEpochWise,
    SingleEpochRunningBatchWise,
)
from glowplug.metrics._usage import as_usage

from .total import Total


def published(usage, event):
    """Return the value after each firing of an event, over two epochs of the outputs 1 to 4."""
    engine, values = Engine(lambda engine, batch: batch), []
    Total().attach(engine, "total", usage)
    engine.add_event_handler(event, lambda e: values.append(e.state.metrics["total"]))
    engine.run([1, 2, 3, 4], max_epochs=2)
    return values


EPOCH, BATCH = Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED


class TestCustomUsages:
    def test_invalid_usage(self):
        """Unknown names and other types are refused (M-003)."""
        with pytest.raises(
            ValueError, match=r"usage must be one of epoch_wise, running_epoch_wise.*, got 'daily'"
        ):
            as_usage("daily")
        with pytest.raises(TypeError, match=r"such as EpochWise\(\); got 3"):
            as_usage(3)

    def test_three_events(self):
        """A usage can be created from three events (M-026)."""
        usage = MetricUsage(
            started=Events.STARTED,
            completed=Events.COMPLETED,
            iteration_completed=Events.ITERATION_COMPLETED(every=2),
        )
        assert published(usage, Events.TEARDOWN) == [12]
        assert [usage.STARTED, usage.COMPLETED] == [Events.STARTED, Events.COMPLETED]

    def test_equality(self):
        """Usages are equal if class, events and filters are (M-026)."""
        assert EpochWise() == EpochWise()
        assert EpochWise() != BatchWise()
        assert BatchFiltered(every=2) == BatchFiltered(every=2)
        assert BatchFiltered(every=2) != BatchFiltered(every=3)
        assert len({BatchFiltered(every=2), BatchFiltered(every=2), EpochWise()}) == 2
        either = Events.EPOCH_COMPLETED | Events.COMPLETED
        assert MetricUsage("a", either, "b") == MetricUsage(
            "a", Events.EPOCH_COMPLETED | Events.COMPLETED, "b"
        )


class TestBuiltInUsages:
    def test_epoch_wise(self):
        """EpochWise publishes the value of the epoch's outputs at its end (M-020)."""
        assert published(EpochWise(), EPOCH) == published("epoch_wise", EPOCH) == [10, 10]

    def test_running_epoch_wise(self):
        """RunningEpochWise publishes the value of the last outputs of all epochs so far (M-021)."""
        assert published(RunningEpochWise(), EPOCH) == published("running_epoch_wise", EPOCH) == [4, 8]

    def test_batch_wise(self):
        """BatchWise publishes the value of each output (M-022)."""
        assert published(BatchWise(), BATCH) == published("batch_wise", BATCH) == [1, 2, 3, 4, 1, 2, 3, 4]

    def test_running_batch_wise(self):
        """RunningBatchWise publishes the value of all outputs so far at each iteration (M-023)."""
        expected = [1, 3, 6, 10, 11, 13, 16, 20]
        assert published(RunningBatchWise(), BATCH) == published("running_batch_wise", BATCH) == expected

    def test_single_epoch_running_batch_wise(self):
        """SingleEpochRunningBatchWise publishes the value of the epoch's outputs so far (M-024)."""
        expected = [1, 3, 6, 10, 1, 3, 6, 10]
        assert published(SingleEpochRunningBatchWise(), BATCH) == expected
        assert published("single_epoch_running_batch_wise", BATCH) == expected

    def test_batch_filtered(self):
        """BatchFiltered publishes the value of the filtered outputs of an epoch (M-025)."""
        assert published(BatchFiltered(every=2), EPOCH) == [6, 6]

    def test_running_usages_after_an_interrupt(self):
        """Running usages keep their value over an interrupt and reset it in a new run (M-027)."""
        engine = Engine(lambda engine, batch: batch)
        Total().attach(engine, "total", RunningBatchWise())
        handle = engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.interrupt())
        assert engine.run([1, 2, 3]).metrics == {"total": 3}
        handle.remove()
        assert engine.run([1, 2, 3]).metrics == {"total": 6}
        assert engine.run([5]).metrics == {"total": 5}
