"""BatchSizeScheduler with real loaders."""

import pytest
import torch
from torch.utils.data import DataLoader

from glowplug import Engine, Events
from glowplug_schedulers import BatchSizeScheduler

DATA = torch.arange(12)


@pytest.mark.parametrize("workers", [0, 1])
def test_epochs(workers):
    """Each epoch has batches of the size that the function returns, and uses each example once (H-117)."""
    loader = DataLoader(DATA, batch_size=1, num_workers=workers)
    sizes = []
    trainer = Engine(lambda engine, batch: sizes.append((engine.state.epoch, len(batch))))
    BatchSizeScheduler(loader, lambda event: 4 * 2**event, save_history=True).attach(trainer)
    state = trainer.run(loader, max_epochs=2)
    assert sizes == [(1, 4)] * 3 + [(2, 8), (2, 4)]
    assert state.param_history == {"batch_size": [4, 8]}


def test_filter():
    """With a filter, the size changes in some epochs only (H-117)."""
    loader = DataLoader(DATA, batch_size=3)
    sizes = []
    trainer = Engine(lambda engine, batch: sizes.append(len(batch)))
    BatchSizeScheduler(loader, lambda event: 6).attach(trainer, Events.EPOCH_STARTED(every=2))
    trainer.run(loader, max_epochs=2)
    assert sizes == [3, 3, 3, 3, 6, 6]


def test_simulated_values():
    """The simulation needs no loader (H-117)."""
    rows = BatchSizeScheduler.simulate_values(3, scheduler_fn=lambda event: event + 1, save_history=True)
    assert rows == [[0, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize("size", [0, 1.5, "a", None])
def test_invalid_size(size):
    """A size that is not a positive integer is refused, with its value and event (H-117)."""
    scheduler = BatchSizeScheduler(DataLoader(DATA), lambda event: size)
    with pytest.raises(ValueError, match=f"must return an integer of at least 1, got {size!r} for event 0"):
        scheduler(None)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BatchSizeScheduler([1], len), TypeError, r"dataloader must be a DataLoader, got \[1\]"),
        (lambda: BatchSizeScheduler(DataLoader(DATA), 3), TypeError, "scheduler_fn must be a function .*, got 3"),
        (lambda: BatchSizeScheduler(DataLoader(DATA, batch_size=None), len), ValueError, "got the batch sampler None"),
    ],
)  # fmt: skip
def test_invalid(make, error, message):
    """Invalid arguments are refused with their value (H-117)."""
    with pytest.raises(error, match=message):
        make()
