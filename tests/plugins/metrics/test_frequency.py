"""Frequency: items per second."""

import time

import pytest
import torch

from glowplug import Engine, Events
from glowplug.exceptions import NotComputableError
from glowplug.testing import FakeEngine
from glowplug_metrics import Frequency, MetricGroup, RunningAverage

STEP = 0.02


def run(frequency, event=Events.ITERATION_COMPLETED, **attach):
    """Return the value after each iteration of two epochs with 10, 20 and 30 items."""
    engine, values = Engine(lambda engine, batch: time.sleep(STEP) or batch), []
    frequency.attach(engine, "items/s", **attach)
    engine.add_event_handler(event, lambda e: values.append(e.state.metrics.get("items/s")))
    engine.run([10, 20, 30], max_epochs=2)
    return values


def test_items_per_second_since_epoch_start():
    """The value is an integer in the expected range and restarts at each epoch (M-090)."""
    values = run(Frequency())
    assert all(isinstance(value, int) for value in values)
    for value, items, steps in zip(values, [10, 30, 60] * 2, [1, 2, 3] * 2, strict=True):
        assert items / (steps * STEP) / 20 < value <= items / (steps * STEP)


def test_event_name():
    """The value is published at event_name only (M-090)."""
    values = run(Frequency(), event_name=Events.ITERATION_COMPLETED(every=2))
    assert values[0] is None
    assert values[1] == values[2] != values[3]
    at_the_end = run(Frequency(), event_name=Events.EPOCH_COMPLETED)
    assert at_the_end[:3] == [None] * 3
    assert at_the_end[3] is not None


class SlowToReplay:
    """Data of 10 batches that takes a while to skip those that were already used, and nothing to yield others."""

    def __init__(self, used):
        self.used = used

    def __len__(self):
        return 10

    def __iter__(self):
        for i in range(10):
            time.sleep(10 * STEP if i < self.used else 0)
            yield 1


def attached(kind):
    """Return an engine with a Frequency, attached by itself or as a part of another metric."""
    engine, frequency = Engine(lambda engine, batch: time.sleep(STEP) or batch), Frequency()
    if kind == "alone":
        frequency.attach(engine, "items/s")
    elif kind == "in a group":
        MetricGroup({"items/s": frequency}).attach(engine, "group", "single_epoch_running_batch_wise")
    elif kind == "in an expression":
        (1 * frequency).attach(engine, "items/s", "single_epoch_running_batch_wise")
    else:
        RunningAverage(frequency, alpha=0.01).attach(engine, "items/s")
    return engine


KINDS = ["alone", "in a group", "in an expression", "averaged"]


@pytest.mark.parametrize("kind", KINDS)
def test_replay_after_a_resume(kind):
    """Skipping the batches that were already used is not counted in a resumed epoch (M-090)."""
    engine, saved = attached(kind), []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(once=8), lambda e: (saved.append(e.state_dict()), e.terminate())
    )
    engine.run(SlowToReplay(0))
    resumed = attached(kind)
    resumed.load_state_dict(saved[0])
    assert 1 / STEP / 10 < resumed.run(SlowToReplay(8)).metrics["items/s"] <= 1 / STEP


@pytest.mark.parametrize("kind", KINDS)
def test_epoch_that_continues(kind):
    """The time between an exception and the next run is not counted, and the items before it are (M-090)."""
    engine, data = attached(kind), SlowToReplay(0)
    failing = engine.add_event_handler(Events.ITERATION_STARTED(once=8), lambda e: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.run(data, max_epochs=2)
    failing.remove()
    time.sleep(20 * STEP)
    data.used, values = 7, {}
    engine.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda e: values.setdefault(e.state.iteration, e.state.metrics["items/s"]),
    )
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: setattr(data, "used", 0))
    engine.run(data)
    assert sorted(values) == [*range(8, 21)]
    assert all(1 / STEP / 10 < value <= 1 / STEP for value in values.values())


def test_items_of_the_whole_epoch():
    """In an epoch that continues, items and seconds of both runs are counted (M-090)."""
    fake, frequency = FakeEngine(), Frequency()
    frequency.attach(fake, "items/s")
    fake.fire(Events.STARTED).fire(Events.EPOCH_STARTED)
    fake.fire(Events.ITERATION_COMPLETED, iteration=1, output=100)
    seconds = frequency._seconds
    fake.fire(Events.STARTED, epoch_start=0).fire(Events.EPOCH_STARTED, epoch_start=0)
    time.sleep(20 * STEP)
    fake.fire(Events.ITERATION_STARTED, iteration=2)
    fake.fire(Events.ITERATION_COMPLETED, output=50)
    assert frequency._items == 150
    assert seconds < frequency._seconds < 20 * STEP
    assert fake.state.metrics["items/s"] == int(150 / frequency._seconds)
    assert not fake.handlers_at(Events.ITERATION_STARTED)


def test_detach():
    """detach() and is_attached() accept the event of attach() (M-090)."""
    fake, frequency = FakeEngine(), Frequency()
    frequency.attach(fake, "items/s")
    assert frequency.is_attached(fake)
    assert not frequency.is_attached(fake, Events.EPOCH_COMPLETED)
    frequency.detach(fake)
    assert not frequency.is_attached(fake)
    assert not fake.has_event_handler(frequency.iteration_completed)
    assert not fake.handlers_at(Events.EPOCH_STARTED)


def test_outputs():
    """Numbers and scalar tensors are accepted; other outputs are refused (M-090)."""
    frequency = Frequency()
    frequency.update(torch.tensor(3))
    frequency.update(2)
    assert frequency._items == 5
    for output, kind in (([1, 2], "list"), (torch.ones(2), "Tensor")):
        with pytest.raises(TypeError, match=f"needs the number of items .*, got {kind}; .*output_transform"):
            frequency.update(output)


def test_without_items():
    """Frequency without items raises NotComputableError, where ignite divides by zero (M-010)."""
    with pytest.raises(NotComputableError, match="Frequency has received no items"):
        Frequency().compute()


@pytest.mark.parametrize(("window", "items"), [(None, 115), (1, 5), (2, 15), (3, 115), (4, 115)])
def test_window(window, items):
    """With a window, only the last updates of the epoch count (M-090)."""
    fake, frequency = FakeEngine(), Frequency(window=window)
    frequency.attach(fake, "items/s")
    for _ in range(2):
        fake.fire(Events.EPOCH_STARTED)
        times = [frequency._begin]
        for output in (100, 10, 5):
            time.sleep(STEP)
            fake.fire(Events.ITERATION_COMPLETED, output=output)
            times.append(frequency._begin + frequency._seconds)
        start = times[max(0, 3 - window) if window else 0]
        assert frequency.compute() == pytest.approx(items / (times[-1] - start))


@pytest.mark.parametrize(("window", "error"), [(0, ValueError), (2.0, TypeError)])
def test_invalid_window(window, error):
    """A window that is not an integer of at least 1 is refused."""
    with pytest.raises(error, match="Frequency: window must be"):
        Frequency(window=window)
