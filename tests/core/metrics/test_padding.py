"""Samples that a DistributedSampler repeats so that all ranks have equally many."""

import itertools
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

from glowplug import BatchFiltered, Engine, Events
from glowplug.metrics import without_padding

from .total import Total


class Number(Total):
    """The number of samples."""

    def update(self, output):
        self.total += len(output)


class Pair(NamedTuple):
    """An output with names."""

    y_pred: object
    y: object


def loader(samples, ranks, rank, batch_size=2, **options):
    """Return the loader of one rank, whose samples are the numbers from 0."""
    data = torch.arange(samples)
    if "batch_sampler" not in options:
        options |= {
            "sampler": DistributedSampler(data, ranks, rank, shuffle=False),
            "batch_size": batch_size,
        }
    return DataLoader(data, **options)


def outputs(step, data, **limits):
    """Return the outputs of an engine with this step."""
    engine, found = Engine(step), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: found.append(engine.state.output))
    engine.run(data, **limits)
    return found


def warnings_of(step, data, *, runs=1, usage=None, **limits):
    """Return the warnings of runs of an engine with a metric."""
    engine = Engine(step)
    Number().attach(engine, "number", usage)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(runs):
            engine.run(data, **limits)
    return [str(warning.message) for warning in caught]


def batch_of(engine, batch):
    """Return the batch; this is a step."""
    return batch


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_each_sample_remains_once(ranks, drop_last):
    """For all small data sets and batch sizes, the outputs of all ranks contain each sample of the batches once (M-063)."""
    for samples, batch_size in itertools.product(range(1, 10), (1, 2, 3, 4)):
        loaders = [loader(samples, ranks, rank, batch_size, drop_last=drop_last) for rank in range(ranks)]
        used = {number for data in loaders for batch in data for number in batch.tolist()}
        found = [
            output for data in loaders if len(data) for output in outputs(without_padding(batch_of), data)
        ]
        assert len(found) == sum(map(len, loaders))
        assert sorted(number for output in found for number in output.tolist()) == sorted(used)


def test_shuffled_epochs():
    """In each epoch of a shuffled loader, also after an epoch that ended early, each sample remains once (M-063)."""
    data = [DataLoader(range(7), batch_size=2, sampler=DistributedSampler(range(7), 3, r)) for r in range(3)]
    numbers = {epoch: [] for epoch in (1, 2, 3)}

    def collect(engine):
        engine.state.dataloader.sampler.set_epoch(engine.state.epoch)
        numbers[engine.state.epoch].extend(engine.state.output.tolist())
        if engine.state.epoch == 2:
            engine.terminate_epoch()

    for of_rank in data:
        engine = Engine(without_padding(batch_of))
        engine.add_event_handler(Events.ITERATION_COMPLETED, collect)
        engine.run(of_rank, max_epochs=3)
    assert [sorted(numbers[epoch]) == list(range(7)) for epoch in numbers] == [True, False, True]
    assert len(set(numbers[2])) == 6


def test_resumed_epoch():
    """An epoch that is resumed from a saved state drops the same samples (M-063)."""
    data = loader(9, 4, 3)  # two batches: 3 and 7, and a repeated sample
    engine = Engine(without_padding(batch_of))
    with engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.terminate):
        engine.run(data)
    resumed = Engine(without_padding(batch_of))
    resumed.load_state_dict(engine.state_dict())
    assert resumed.run(data).output.tolist() == []


def test_batch_of_padding_does_not_update():
    """A batch of repeated samples only updates no metric; metrics need not accept an output with 0 rows (M-063)."""

    class Largest(Number):
        def update(self, output):
            self.total = max(self.total, output.max().item())

    engine = Engine(without_padding(batch_of))
    Largest().attach(engine, "largest")
    data = loader(5, 2, 1)
    assert [batch.tolist() for batch in data] == [[1, 3], [0]]
    for _ in range(2):
        assert engine.run(data).metrics == {"largest": 3}
        assert engine.state.output.tolist() == []
    assert engine.run([torch.tensor([4])]).metrics == {"largest": 4}


@pytest.mark.parametrize(
    ("output", "shortened"),
    [
        (torch.arange(6).view(3, 2), [[0, 1], [2, 3]]),
        (np.arange(3), [0, 1]),
        ((torch.arange(3), torch.arange(3)), ([0, 1], [0, 1])),
        ([torch.arange(3), torch.arange(3)], [[0, 1], [0, 1]]),
        (Pair(torch.arange(3), {"a": torch.arange(3)}), Pair([0, 1], {"a": [0, 1]})),
        (
            (torch.arange(3), torch.arange(3), {"weight": torch.arange(4)}),
            ([0, 1], [0, 1], {"weight": [0, 1, 2, 3]}),
        ),
        ((torch.arange(3), torch.tensor(1.5), "abc"), ([0, 1], 1.5, "abc")),
        (((torch.arange(3), torch.arange(3)), torch.arange(3)), (([0, 1], [0, 1]), [0, 1])),
        (([torch.arange(3), torch.arange(2), torch.arange(1)], [1, 2, 3]), ([[0, 1, 2], [0, 1]], [1, 2])),
        ([{"box": torch.arange(3)}, {"box": torch.arange(1)}, {}], [{"box": [0, 1, 2]}, {"box": [0]}]),
        ([5, 6, 7], [5, 6]),
    ],
)
def test_forms_of_outputs(output, shortened):
    """Tensors, arrays and lists with one row for each sample are shortened, however they are nested (M-063)."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            parts = [plain(part) for part in value]
            return type(value)(*parts) if isinstance(value, Pair) else type(value)(parts)
        return value.tolist() if hasattr(value, "tolist") else value

    data = loader(5, 2, 1, batch_size=3)
    (found,) = outputs(without_padding(lambda engine, batch: output), data)
    assert plain(found) == shortened
    assert type(found) is type(output)


def test_list_of_two_for_a_batch_of_two():
    """In a batch of two samples, the list ``[y_pred, y]`` is still a pair (M-063)."""
    data = loader(3, 2, 1)
    (found,) = outputs(without_padding(lambda engine, batch: [batch, {"y": batch}]), data)
    assert [found[0].tolist(), found[1]["y"].tolist()] == [[1], [1]]


@pytest.mark.parametrize(
    ("output", "kind", "message"),
    [
        (
            0.5,
            ValueError,
            "1 of 3 samples in the last batches are repeated, but no part of the step's output has 3 rows",
        ),
        ((torch.arange(4), torch.tensor(0)), ValueError, "no part of the step's output has 3 rows"),
        (pack_sequence([torch.arange(2)]), TypeError, "cannot remove samples from a PackedSequence"),
    ],
)
def test_outputs_without_samples(output, kind, message):
    """An output from which the repeated samples cannot be removed raises an error (M-063)."""
    with pytest.raises(kind, match=message):
        outputs(without_padding(lambda engine, batch: output), loader(5, 2, 1, batch_size=3))


def test_epochs_that_are_no_passes():
    """An epoch that begins or ends within a pass raises an error, because the position of the padding is not known (M-063)."""
    data, step = loader(9, 2, 1), without_padding(batch_of)
    assert [len(output) for output in outputs(step, data, epoch_length=2)] == [2, 2]
    for limits in ({"epoch_length": 4}, {"epoch_length": 2, "max_epochs": 2}):
        with pytest.raises(ValueError, match="the data has 3 batches and epoch_length is"):
            outputs(step, data, **limits)


class Reversed(BatchSampler):
    """Batch sampler with another order of batches."""

    def __iter__(self):
        return reversed(list(super().__iter__()))


def test_other_data_is_not_changed():
    """Without padding, and with data whose order is not known, outputs are the objects that the step returned (M-063)."""
    sampler = DistributedSampler(range(5), 2, 1)
    for data in (
        [torch.arange(2)],
        loader(6, 2, 1),
        loader(5, 1, 0),
        DataLoader(range(5), batch_size=2),
        DataLoader(range(5), batch_size=2, sampler=DistributedSampler(range(5), 2, 1, drop_last=True)),
        DataLoader(range(5), batch_sampler=Reversed(sampler, 2, drop_last=False)),
    ):
        made = []
        found = outputs(without_padding(lambda engine, batch, made=made: made.append(batch) or batch), data)
        assert all(map(lambda output, batch: output is batch, found, made))
        assert warnings_of(batch_of, data) == []


def test_warning():
    """By default, one warning names the metrics, the number of repeated samples and the remedies (M-063)."""
    (message,) = warnings_of(batch_of, loader(7, 3, 0), runs=2, max_epochs=2)
    assert message == (
        "metrics ('number') count some samples more than once: the DistributedSampler pads the 7 samples of the data so that each of "
        "the 3 ranks has 3 (2 repeated). To count each sample once, use create_supervised_evaluator(..., drop_padding=True), or wrap "
        "your step: Engine(without_padding(step)), with without_padding from glowplug.metrics"
    )


def test_warning_names_all_metrics_of_epochs():
    """The warning names all metrics that count the samples of an epoch, and no others (M-063)."""
    engine = Engine(batch_of)
    for name, usage in {
        "a": None,
        "b": "epoch_wise",
        "each batch": "batch_wise",
        "so far": "running_batch_wise",
        "last": "running_epoch_wise",
        "some": BatchFiltered(every=2),
    }.items():
        Number().attach(engine, name, usage)
    (Number() + Number()).attach(engine, "sum")
    Number().attach(engine, "detached").remove()
    with pytest.warns(match=r"metrics \('a', 'b', 'sum'\) count"):
        engine.run(loader(5, 2, 0))


def test_no_warning():
    """There is no warning if no metric counts a repeated sample (M-063)."""
    data = loader(5, 2, 0)
    assert warnings_of(without_padding(batch_of), data) == []
    assert warnings_of(batch_of, data, usage="running_batch_wise") == []
    # The repeated sample is in the last batch.
    assert warnings_of(batch_of, data, epoch_length=1) == []
    assert warnings_of(batch_of, loader(5, 2, 0, drop_last=True)) == []
    assert len(warnings_of(batch_of, data)) == 1
