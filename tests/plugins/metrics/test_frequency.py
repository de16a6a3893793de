"""Frequency: items per second."""

import time

import pytest
import torch

from glowplug import Engine, Events
from glowplug.exceptions import NotComputableError
from glowplug.testing import FakeEngine
from glowplug_metrics import Frequency

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


def test_detach():
    """detach() and is_attached() accept the event of attach() (M-090)."""
    fake, frequency = FakeEngine(), Frequency()
    frequency.attach(fake, "items/s")
    assert frequency.is_attached(fake)
    assert not frequency.is_attached(fake, Events.EPOCH_COMPLETED)
    frequency.detach(fake)
    assert not frequency.is_attached(fake)
    assert not fake.has_event_handler(frequency.iteration_completed)


def test_outputs():
    """Numbers and scalar tensors are accepted; other outputs are refused (M-090)."""
    frequency = Frequency()
    frequency.update(torch.tensor(3))
    frequency.update(2)
    assert frequency._items == 5
    for output, kind in (([1, 2], "list"), (torch.ones(2), "Tensor")):
        with pytest.raises(TypeError, match=f"needs the number of items, got a {kind}; .*output_transform"):
            frequency.update(output)


def test_without_items():
    """Frequency without items raises NotComputableError, where ignite divides by zero (M-010)."""
    with pytest.raises(NotComputableError, match="Frequency has received no items"):
        Frequency().compute()
