"""The engine tells the samplers of its data which pass begins."""

import copy

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from glowplug import Engine, Events


def make_loader(rank=0, size=12):
    """Return a loader of batches of 2 with a shuffling sampler for two ranks."""
    data = list(range(size))
    return DataLoader(data, batch_size=2, sampler=DistributedSampler(data, 2, rank, seed=5))


def passes(loader, epochs):
    """Return the batches of passes that begin with these numbers."""
    found = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        found.append([batch.tolist() for batch in loader])
    return found


def run(loader, handler=None, event=Events.EPOCH_STARTED, **options):
    """Return the batches of an engine's run, by epoch."""
    found = []
    engine = Engine(lambda engine, batch: found[-1].append(batch.tolist()))
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: found.append([]))
    if handler is not None:
        engine.add_event_handler(event, handler)
    engine.run(loader, **options)
    return found


def test_each_pass():
    """Each epoch has another order, the same as with set_epoch(0), set_epoch(1) ... by hand; so has the next run."""
    loader = make_loader()
    expected = passes(make_loader(), range(3))
    assert expected[0] != expected[1]
    assert run(loader, max_epochs=3) == expected
    assert run(loader, max_epochs=2) == expected[:2]


def test_copied_loader():
    """A copy of a loader continues where the original would, with a sampler that cannot be hashed."""

    class Sampler(DistributedSampler):
        __hash__ = None

    data = list(range(12))
    loader = DataLoader(data, batch_size=2, sampler=Sampler(data, 2, 0, seed=5))
    expected = passes(make_loader(), range(2))
    assert run(loader, max_epochs=2) == expected
    assert run(copy.deepcopy(loader), max_epochs=2) == expected


def test_batch_sampler():
    """The sampler within a batch sampler is found."""
    loader = make_loader()
    batches = torch.utils.data.BatchSampler(loader.sampler, 2, drop_last=False)
    assert run(DataLoader(loader.dataset, batch_sampler=batches), max_epochs=3) == passes(
        make_loader(), range(3)
    )


def test_given_length():
    """With a given epoch_length, the passes are counted, not the epochs."""
    first, second, third = passes(make_loader(), range(3))
    assert run(make_loader(), max_epochs=2, epoch_length=4) == [
        [*first, second[0]],
        [*second[1:], *third[:2]],
    ]


@pytest.mark.parametrize("first", [1, 7])
def test_own_calls(first):
    """If the script calls set_epoch() itself, its numbers count."""
    loader = make_loader()

    def set_epoch(engine):
        loader.sampler.set_epoch(engine.state.epoch - 1 + first)

    assert run(loader, set_epoch, max_epochs=3) == passes(make_loader(), range(first, first + 3))


@pytest.mark.parametrize("stop", range(1, 9))
@pytest.mark.parametrize("options", [{}, {"epoch_length": 4}], ids=["passes", "given_length"])
def test_resume(stop, options):
    """A run that is resumed in a new process, after any iteration, has the order of the uninterrupted run (C4)."""
    saved = []

    def save(engine):
        if engine.state.iteration == stop:
            saved.append(engine.state_dict())

    whole = run(make_loader(), save, Events.ITERATION_COMPLETED, max_epochs=4, **options)
    found = []
    engine = Engine(lambda engine, batch: found.append(batch.tolist()))
    engine.load_state_dict(saved[0])
    engine.run(make_loader())
    assert found == [batch for epoch in whole for batch in epoch][stop:]
