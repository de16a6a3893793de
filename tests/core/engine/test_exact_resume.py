"""Exact resume: a stopped and resumed run equals an uninterrupted one bit for bit (C4)."""

import contextlib
import io
import os
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    WeightedRandomSampler,
)

from glowplug import Engine, Events
from glowplug.engine import reseeded

# A run resumed at the end of its first epoch steps the scheduler before the optimizer of this process.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning"),
    # The import of torchdata 0.11 accesses deprecated names of torch.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
]

EPOCHS, BATCHES, BATCH_SIZE = 3, 10, 4
SIZE = BATCHES * BATCH_SIZE
# Where a job with data workers is stopped. Starting the workers takes most of the time, so only a campaign stops everywhere.
STOPS = (
    range(1, EPOCHS * BATCHES + 1)
    if "GLOWPLUG_CAMPAIGN" in os.environ
    else (1, 2, 5, 9, 10, 11, 16, 20, 21, 29, 30)
)


class Noisy(Dataset):
    """Samples with their index and noise from torch, numpy and random."""

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return index, torch.randn(3) + float(np.random.rand()) + random.random()


class NoisyStream(IterableDataset):
    """The same samples as an iterable dataset, divided among the workers."""

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for index in range(first, SIZE, step):
            yield Noisy()[index]


class Unsized:
    """Re-iterable batches in random order, without a length."""

    def __iter__(self):
        order = torch.randperm(SIZE).reshape(BATCHES, BATCH_SIZE)
        return ((indices, torch.stack([Noisy()[i][1] for i in indices])) for indices in order)


def plain_list():
    """Return a list of batches."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.arange(BATCH_SIZE) + BATCH_SIZE * i, torch.randn(BATCH_SIZE, 3, generator=generator))
        for i in range(BATCHES)
    ]


def loader(dataset=None, **options):
    """Return a DataLoader."""
    batching = {} if "batch_sampler" in options else {"batch_size": BATCH_SIZE}
    return DataLoader(dataset or Noisy(), **batching, **options)


class QuietDataset(Noisy):
    """Samples without random numbers, because torchdata does not save those of its workers."""

    def __getitem__(self, index):
        return index, torch.full((3,), index / SIZE)


def stateful(dataset=None, **options):
    """Return a StatefulDataLoader."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(dataset or Noisy(), batch_size=BATCH_SIZE, **options)


DATA = {
    "list": plain_list,
    "in_order": loader,
    "shuffled": lambda: loader(shuffle=True),
    "own_generator": lambda: loader(shuffle=True, generator=torch.Generator().manual_seed(5)),
    "sampler": lambda: loader(sampler=WeightedRandomSampler(torch.ones(SIZE), SIZE)),
    "sampler_with_generator": lambda: loader(
        sampler=RandomSampler(range(SIZE), generator=torch.Generator().manual_seed(6))
    ),
    "batch_sampler": lambda: loader(
        batch_sampler=BatchSampler(RandomSampler(range(SIZE)), BATCH_SIZE, drop_last=False)
    ),
    "distributed": lambda: loader(sampler=DistributedSampler(Noisy(), num_replicas=2, rank=1, seed=3)),
    "stream": lambda: loader(NoisyStream()),
    "unsized": Unsized,
    "stateful": lambda: stateful(shuffle=True),
}
WITH_WORKERS = {
    "shuffled_2_workers": lambda: loader(shuffle=True, num_workers=2),
    "stream_2_workers": lambda: loader(NoisyStream(), num_workers=2),
    "distributed_2_workers": lambda: loader(
        sampler=DistributedSampler(Noisy(), num_replicas=1, rank=0, seed=3), num_workers=2
    ),
    "stateful_2_workers": lambda: stateful(QuietDataset(), shuffle=True, num_workers=2),
}


class StopError(Exception):
    """Raised to stop a run."""


class Job:
    """A model with dropout and momentum, and a record of its training."""

    def __init__(self, make_data, seed=0):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.002, momentum=0.5)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, gamma=0.5)
        self.data = make_data()
        self.seen = []
        self.engine = Engine(self.step)
        self.engine.add_event_handler(Events.EPOCH_STARTED, self.set_epoch)
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.scheduler.step())

    def step(self, engine, batch):
        indices, x = batch
        noise = random.random() + float(np.random.rand())
        loss = (self.model(x) + noise).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.seen.append(
            (
                engine.state.epoch,
                engine.state.iteration,
                [int(i) for i in indices],
                x.sum().item(),
                loss.item(),
            )
        )

    def set_epoch(self, engine):
        sampler = getattr(self.data, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(engine.state.epoch)

    def save(self):
        file = io.BytesIO()
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "engine": self.engine,
        }
        torch.save({name: part.state_dict() for name, part in parts.items()}, file)
        return file.getvalue()

    def load(self, saved):
        states = torch.load(io.BytesIO(saved), weights_only=True)
        for name, state in states.items():
            getattr(self, name).load_state_dict(state)

    def run(self):
        self.engine.run(self.data, max_epochs=EPOCHS)
        return self

    def release(self):
        """Release the data and its workers without waiting for the garbage collector."""
        self.data = None
        self.engine.state.dataloader = self.engine._position.data_pass = None

    def weights(self):
        return [parameter.detach().clone() for parameter in self.model.parameters()]


def stopped_at(make_data, iteration, how):
    """Stop a job at an iteration; return the job and its saved state."""
    job, saved = Job(make_data), []

    def stop(engine):
        if how == "at the end":
            engine.terminate()
        else:
            saved.append(job.save())
            if how == "by an exception":
                raise StopError
            engine.interrupt()

    job.engine.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), stop)
    with contextlib.suppress(StopError):
        job.run()
    saved = saved[0] if saved else job.save()
    job.release()
    return job, saved


def assert_resumes(make_data, whole, iteration, how):
    """Assert that a stopped and resumed job equals the uninterrupted one."""
    job, saved = stopped_at(make_data, iteration, how)
    # Another process has other weights and other random numbers.
    resumed = Job(make_data, seed=99)
    resumed.load(saved)
    resumed.run().release()
    assert job.seen[:iteration] + resumed.seen == whole.seen
    assert resumed.scheduler.last_epoch == whole.scheduler.last_epoch
    for expected, actual in zip(whole.weights(), resumed.weights(), strict=True):
        assert torch.equal(expected, actual)


class TestStopAnywhere:
    @pytest.mark.parametrize("how", ["by an exception", "at the end", "by an interrupt"])
    @pytest.mark.parametrize("kind", DATA)
    def test_at_every_iteration(self, kind, how):
        """A run stopped at any iteration resumes with the same weights, batches and losses (C4)."""
        whole = Job(DATA[kind]).run()
        for iteration in range(1, len(whole.seen) + 1):
            assert_resumes(DATA[kind], whole, iteration, how)

    @pytest.mark.parametrize("kind", WITH_WORKERS)
    def test_at_every_iteration_with_workers(self, kind):
        """A run with two data workers resumes exactly, wherever it was stopped (C4)."""
        whole = Job(WITH_WORKERS[kind]).run()
        whole.release()
        for iteration in STOPS:
            assert_resumes(WITH_WORKERS[kind], whole, iteration, "by an exception")

    @pytest.mark.parametrize("kind", ["in_order", "shuffled", "stream"])
    def test_each_sample_once_per_epoch(self, kind):
        """Each epoch of a stopped and resumed run uses each sample exactly once (C4)."""
        job, saved = stopped_at(DATA[kind], 14, "by an exception")
        resumed = Job(DATA[kind], seed=99)
        resumed.load(saved)
        resumed.run()
        for epoch in range(1, EPOCHS + 1):
            indices = [i for seen in job.seen + resumed.seen if seen[0] == epoch for i in seen[2]]
            assert sorted(indices) == list(range(SIZE))

    @pytest.mark.parametrize("epoch_length", [3, 7, 15])
    def test_epoch_length_differs_from_the_data(self, epoch_length):
        """A data pass that spans epochs, or ends within one, resumes at the right batch (C4)."""

        def run(job, epoch_length=epoch_length):
            job.engine.run(job.data, max_epochs=EPOCHS, epoch_length=epoch_length)
            return job

        whole = run(Job(DATA["shuffled"]))
        for iteration in range(1, EPOCHS * epoch_length):
            job, saved = Job(DATA["shuffled"]), []
            job.engine.add_event_handler(
                Events.ITERATION_COMPLETED(once=iteration),
                lambda e, j=job, s=saved: (s.append(j.save()), e.terminate()),
            )
            run(job)
            resumed = Job(DATA["shuffled"], seed=99)
            resumed.load(saved[0])
            resumed.run()
            assert job.seen + resumed.seen == whole.seen

    def test_failed_step_is_repeated(self):
        """A state saved in a failing step resumes with the batch of that step (C4)."""
        whole = Job(DATA["list"]).run()
        job = Job(DATA["list"])
        step, saved = job.step, []

        def failing(engine, batch):
            if engine.state.iteration == 14:
                saved.append(job.save())
                raise StopError
            step(engine, batch)

        job.engine._process_function = failing
        with pytest.raises(StopError):
            job.run()
        assert torch.load(io.BytesIO(saved[0]), weights_only=True)["engine"]["iteration"] == 13
        resumed = Job(DATA["list"], seed=99)
        resumed.load(saved[0])
        assert [seen[1] for seen in resumed.run().seen] == list(range(14, 31))
        assert job.seen + resumed.seen == whole.seen

    def test_stop_before_epoch_completed(self):
        """A state saved in the last iteration of an epoch resumes by completing that epoch (C4)."""
        engine = Engine(lambda engine, batch: None)
        saved, events = [], []
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda e: saved.append(e.state_dict()))
        engine.run([1, 2], max_epochs=3)
        resumed = Engine(lambda engine, batch: events.append(batch))
        for event in (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED):
            resumed.add_event_handler(event, lambda e, name=event.name: events.append((name, e.state.epoch)))
        resumed.load_state_dict(saved[0])
        resumed.run([1, 2])
        assert events == [
            ("EPOCH_STARTED", 2),
            ("EPOCH_COMPLETED", 2),
            ("EPOCH_STARTED", 3),
            1,
            2,
            ("EPOCH_COMPLETED", 3),
        ]


class TestRefusals:
    def test_generator_cannot_be_resumed(self):
        """Resuming a generator raises an error with reason and remedy."""
        engine, saved = Engine(lambda engine, batch: None), []
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: saved.append(e.state_dict()))
        engine.run((i for i in range(6)), epoch_length=6)
        resumed = Engine(lambda engine, batch: None)
        resumed.load_state_dict(saved[0])
        with pytest.raises(ValueError, match=r"iterated over only once.*StatefulDataLoader"):
            resumed.run(i for i in range(6))

    def test_data_of_other_length(self):
        """Resuming within a pass refuses data of a different length."""
        engine, saved = Engine(lambda engine, batch: None), []
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: saved.append(e.state_dict()))
        engine.run(range(6))
        resumed = Engine(lambda engine, batch: None)
        resumed.load_state_dict(saved[0])
        with pytest.raises(
            ValueError, match="3 batches, and its data had length 6, but this data has length 5"
        ):
            resumed.run(range(5))

    def test_unknown_format(self):
        """An unknown format is refused by its number, and nothing is loaded."""
        engine = Engine(lambda engine, batch: None)
        engine.run([1, 2])
        state = engine.state_dict()
        state["resume"]["format"] = 7
        other = Engine(lambda engine, batch: None)
        with pytest.raises(ValueError, match=r"format 7.*reads format 1"):
            other.load_state_dict(state)
        assert other.state.iteration == 0


def test_state_without_a_position_starts_at_the_first_batch():
    """A state without a data position starts the data at its first batch (E-184)."""
    seen = []
    engine = Engine(lambda engine, batch: seen.append(batch))
    engine.load_state_dict({"epoch_length": 5, "iteration": 7, "max_epochs": 2})
    engine.run(range(5))
    assert seen == [0, 1, 2]


def test_reseeded_state():
    """A reseeded state draws other numbers for each number and the same ones again, and changes no generator."""
    engine = Engine(lambda engine, batch: np.random.random())
    engine.run([1, 2])
    state = engine.state_dict()

    def drawn(state):
        resumed = Engine(lambda engine, batch: (random.random(), np.random.random(), float(torch.rand(()))))
        resumed.load_state_dict({**state, "max_epochs": 2})
        return resumed.run([1, 2]).output

    before = random.getstate(), torch.get_rng_state().tolist()
    others = [reseeded(state, number) for number in (1, 2, 1)]
    assert (random.getstate(), torch.get_rng_state().tolist()) == before
    first, second, again = map(drawn, others)
    assert first == again
    assert len({*first, *second, *drawn(state)}) == 9
    assert reseeded({"iteration": 0}, 1) == {"iteration": 0}
