"""Metrics of a run that continues, in the same process, the epoch that an exception ended."""

import pytest
import torch

from glowplug import (
    BatchFiltered,
    BatchWise,
    Engine,
    EpochWise,
    Events,
    MetricUsage,
    RunningBatchWise,
    RunningEpochWise,
    RunStart,
    SingleEpochRunningBatchWise,
)
from glowplug.testing import FakeEngine

from .total import Total

BATCHES = [2.0**i for i in range(10)]
USAGES = {
    "epoch": EpochWise(),
    "running epoch": RunningEpochWise(),
    "batch": BatchWise(),
    "running batch": RunningBatchWise(),
    "epoch so far": SingleEpochRunningBatchWise(),
    "odd batches": BatchFiltered(lambda engine, event: event % 2 == 1),
    "run": MetricUsage(Events.STARTED, Events.COMPLETED, Events.ITERATION_COMPLETED),
    "both starts": MetricUsage(
        Events.STARTED | Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED
    ),
}


class Once:
    """Handler that raises at its first call."""

    def __init__(self):
        self.has_raised = False

    def __call__(self, *args):
        if not self.has_raised:
            self.has_raised = True
            raise RuntimeError("once")


def make_engine(fail=lambda iteration: None):
    """Return an engine with a metric of each usage, and the values that it publishes at each event."""

    def step(engine, batch):
        fail(engine.state.iteration)
        return batch

    engine, published = Engine(step), {}
    for name, usage in USAGES.items():
        Total().attach(engine, name, usage)
    for event in (Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED, Events.COMPLETED):
        engine.add_event_handler(
            event, lambda e: published.update({(e.current_event, e.state.iteration): dict(e.state.metrics)})
        )
    return engine, published


def run_until_done(engine, data, **limits):
    """Run, and run again after each exception."""
    while True:
        try:
            return engine.run(data, **limits)
        except RuntimeError as error:
            assert str(error) == "once"  # noqa: PT017 - any other error is a failure


@pytest.mark.parametrize("failing", [1, 7, 10, 11, 17, 20])
@pytest.mark.parametrize(
    "loader", [list, lambda x: torch.utils.data.DataLoader(x, batch_size=None)], ids=["list", "DataLoader"]
)
def test_failed_step(failing, loader):
    """After a step that fails once, an epoch's metrics cover each batch once, and the others resume as well."""
    expected_engine, expected = make_engine()
    expected_engine.run(loader(BATCHES), max_epochs=3)
    once = Once()
    engine, published = make_engine(lambda iteration: once() if iteration == failing else None)
    run_until_done(engine, loader(BATCHES), max_epochs=3)
    assert once.has_raised
    if failing == 11:
        # Nothing of this epoch was done, so a run that continues there counts from its start.
        of_run = {"running epoch", "running batch", "run"}
        expected, published = (
            {at: {name: value for name, value in of.items() if name not in of_run} for at, of in log.items()}
            for log in (expected, published)
        )
    assert published == expected
    assert engine.state.metrics["epoch"] == sum(BATCHES)


@pytest.mark.parametrize("event", [Events.ITERATION_COMPLETED(once=7), Events.ITERATION_COMPLETED(once=10)])
def test_failed_handler(event):
    """After a handler that fails when metrics are updated, no output is counted twice."""
    expected_engine, expected = make_engine()
    expected_engine.run(BATCHES, max_epochs=2)
    engine, published = make_engine()
    engine.add_event_handler(event, Once())
    run_until_done(engine, BATCHES, max_epochs=2)
    assert published == expected


def test_epoch_that_starts_again(caplog):
    """If the epoch starts again from its first iteration, its metrics are reset."""
    once = Once()
    engine, published = make_engine(lambda iteration: once() if iteration == 7 else None)
    with pytest.raises(RuntimeError, match="once"):
        engine.run((x for x in BATCHES), max_epochs=2, epoch_length=10)
    engine.run((x for x in [*BATCHES, *BATCHES]), max_epochs=2)
    assert "epoch 1 starts again" in caplog.text
    expected_engine, expected = make_engine()
    expected_engine.run(BATCHES, max_epochs=2)
    assert published == expected


def test_another_engine_in_between():
    """A metric that another engine used in between does not count that engine's outputs."""
    once = Once()
    trainer = Engine(lambda engine, batch: batch if engine.state.iteration != 7 else once() or batch)
    evaluator, total = Engine(lambda engine, batch: 1000.0), Total()
    total.attach(trainer, "total")
    total.attach(evaluator, "total")
    with pytest.raises(RuntimeError, match="once"):
        trainer.run(BATCHES, max_epochs=2)
    evaluator.run([0])
    epochs = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: epochs.append(e.state.metrics["total"]))
    trainer.run(BATCHES)
    assert epochs == [sum(BATCHES[6:]), sum(BATCHES)]


@pytest.mark.parametrize(
    ("event", "state", "kept"),
    [
        (Events.EPOCH_STARTED, {"iteration": 6, "epoch_start": 0}, True),
        (Events.EPOCH_STARTED, {"iteration": 6}, False),
        (Events.STARTED, {"iteration": 6, "epoch_start": 0}, True),
        (Events.STARTED, {"iteration": 6}, False),
        (Events.STARTED, {"iteration": 6, "epoch_start": 0, "run_start": RunStart.NEW}, False),
    ],
)
def test_position_decides(event, state, kept):
    """Data is kept within an epoch of a continued run, and reset at the epoch's first iteration."""
    fake, metric = FakeEngine(), Total()
    metric.attach(fake, "total", MetricUsage(event, Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED))
    fake.state.run_start = RunStart.CONTINUED
    fake.fire(event)
    fake.fire(Events.ITERATION_COMPLETED, iteration=1, output=5.0)
    fake.fire(event, **state)
    assert metric.compute() == (5.0 if kept else 0.0)
