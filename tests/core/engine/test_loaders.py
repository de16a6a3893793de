"""Passes over DataLoaders: wrong lengths, and the life of worker processes."""

import multiprocessing

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from glowplug import Engine, Events
from glowplug.exceptions import GlowplugWarning

# torch reports datasets that yield more than their length; the engine's own warning is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:Length of IterableDataset:UserWarning")


class Stream(IterableDataset):
    """Numbers that are divided among the workers, with a length that may be wrong."""

    def __init__(self, size, claimed):
        self.size, self.claimed = size, claimed

    def __len__(self):
        return self.claimed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        return iter(range(worker.id, self.size, worker.num_workers) if worker else range(self.size))


@pytest.mark.parametrize(
    ("claimed", "message"), [(20, "is 5, but the data has 4"), (12, "is 3, but the data has more")]
)
def test_evaluation_covers_the_data_once(claimed, message):
    """An evaluation over two workers has each sample once, whatever the length of the dataset claims."""
    seen = []
    evaluator = Engine(lambda engine, batch: seen.extend(batch.tolist()))
    with pytest.warns(GlowplugWarning, match=message):
        evaluator.run(DataLoader(Stream(16, claimed), batch_size=4, num_workers=2))
    assert sorted(seen) == list(range(16))
    assert sum(seen) / len(seen) == 7.5


@pytest.mark.parametrize(
    "limits",
    [
        {"max_epochs": 2},
        {"max_epochs": 2, "epoch_length": 4},
        {"max_epochs": 2, "epoch_length": 3},
        {"max_iters": 3},
        {"max_iters": 8},
    ],
    ids=str,
)
def test_no_workers_after_a_pass(limits):
    """The workers of a finished pass have ended at EPOCH_COMPLETED, and those of a finished run at COMPLETED."""
    loader = DataLoader(range(16), batch_size=4, num_workers=2)
    engine, alive = Engine(lambda engine, batch: None), {}
    for event in (Events.EPOCH_COMPLETED, Events.TERMINATE, Events.COMPLETED):
        engine.add_event_handler(
            event, lambda e: alive.setdefault(e.current_event, len(multiprocessing.active_children()))
        )
    engine.run(loader, **limits)
    if limits.get("epoch_length") == 3:
        # The pass continues in the next epoch.
        del alive[Events.EPOCH_COMPLETED]
    assert alive
    assert set(alive.values()) == {0}


@pytest.mark.parametrize("stop", ["terminate", "terminate_epoch"])
def test_no_workers_after_a_stop(stop):
    """The workers of a pass that a stop ended have ended when the next event fires."""
    engine, alive = Engine(lambda engine, batch: None), []
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: getattr(e, stop)())
    engine.add_event_handler(
        Events.TERMINATE | Events.TERMINATE_SINGLE_EPOCH,
        lambda: alive.append(len(multiprocessing.active_children())),
    )
    engine.run(DataLoader(range(16), batch_size=4, num_workers=2))
    assert alive == [0]


def test_workers_continue_a_failed_epoch():
    """A failed epoch over a shuffling loader with workers continues with the batches that are left (E-158)."""
    loader = DataLoader(range(16), batch_size=2, num_workers=2, shuffle=True)
    done, errors = [], [ValueError("broken")]

    def step(engine, batch):
        if engine.state.iteration == 5 and errors:
            raise errors.pop()
        done.extend(batch.tolist())

    engine = Engine(step)
    with pytest.raises(ValueError, match="broken"):
        engine.run(loader, max_epochs=2)
    engine.run(loader, max_epochs=2)
    assert sorted(done[:16]) == sorted(done[16:]) == list(range(16))
