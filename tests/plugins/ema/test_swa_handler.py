"""SWAHandler: the mean, its start, batch normalization, options."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from glowplug import Engine, Events
from glowplug.testing import FakeEngine
from glowplug_ema import SWAHandler


def counting(model):
    """Return a trainer that sets the weight to the number of the iteration."""

    def step(engine, batch):
        nn.init.constant_(model.weight, engine.state.iteration)

    return Engine(step)


@pytest.mark.parametrize(
    ("options", "event", "expected"),
    [
        ({}, Events.EPOCH_COMPLETED, [2, 4, 6, 8, 10]),
        ({"start_epoch": 4}, Events.EPOCH_COMPLETED, [8, 10]),
        ({"start_iteration": 5}, Events.EPOCH_COMPLETED, [6, 8, 10]),
        ({"start_iteration": 9}, Events.ITERATION_COMPLETED, [9, 10]),
        ({"start_epoch": 5}, Events.ITERATION_COMPLETED, [9, 10]),
        ({}, Events.ITERATION_COMPLETED(every=5), [5, 10]),
        ({"start_epoch": 6}, Events.EPOCH_COMPLETED, []),
    ],
)
def test_mean(options, event, expected):
    """The average is the mean of the weights at all events from the start on."""
    model = nn.Linear(1, 1, bias=False)
    initial = model.weight.item()
    swa, trainer = SWAHandler(model, **options), counting(model)
    swa.attach(trainer, event)
    trainer.run(range(2), max_epochs=5)
    assert swa.num_averaged == len(expected)
    mean = sum(expected) / len(expected) if expected else initial
    assert swa.swa_model.weight.item() == pytest.approx(mean)


@pytest.mark.parametrize("handle_buffers", ["copy", "update"])
def test_as_averaged_model(handle_buffers):
    """The average of a network, its buffers and the statistics after update_bn equal those of torch's AveragedModel."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    expected = AveragedModel(model, use_buffers=handle_buffers == "update")

    def step(engine, batch):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()

    trainer, swa = Engine(step), SWAHandler(model, start_epoch=3, handle_buffers=handle_buffers)
    swa.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(after=2), lambda: expected.update_parameters(model))
    batches = torch.randn(5, 8, 3)
    trainer.run(batches, max_epochs=6)
    assert swa.num_averaged == 4
    assert not swa.swa_model.training
    number = "1.num_batches_tracked"
    # torch averages this number, too.
    actual, wanted = (
        {name: value for name, value in module.state_dict().items() if name != number}
        for module in (swa.swa_model, expected.module)
    )
    torch.testing.assert_close(actual, wanted)
    assert swa.swa_model.state_dict()[number] == 30
    swa.update_bn(batches)
    update_bn(batches, expected)
    torch.testing.assert_close(dict(swa.swa_model.state_dict()), dict(expected.module.state_dict()))
    assert not torch.equal(swa.swa_model[1].running_mean, model[1].running_mean)


def test_new_run():
    """A new run starts a new average; a continued run does not."""
    model = nn.Linear(1, 1, bias=False)
    swa, trainer = SWAHandler(model), counting(model)
    swa.attach(trainer)
    trainer.run([0], max_epochs=2)
    trainer.run([0], max_epochs=4)
    assert (swa.num_averaged, swa.swa_model.weight.item()) == (4, 2.5)
    trainer.state.max_epochs = None
    trainer.run([0], max_epochs=3)
    assert (swa.num_averaged, swa.swa_model.weight.item()) == (3, 2.0)


def test_loaded_before_a_new_run():
    """A state that the user loaded is continued by the next run, and forgotten by the one after it."""
    model = nn.Linear(1, 1, bias=False)
    swa, trainer = SWAHandler(model), counting(model)
    swa.attach(trainer)
    swa.load_state_dict({"num_averaged": 1, "swa_model": {"weight": torch.tensor([[5.0]])}})
    trainer.run([0])
    assert (swa.num_averaged, swa.swa_model.weight.item()) == (2, 3.0)
    trainer.state.max_epochs = None
    trainer.run([0])
    assert (swa.num_averaged, swa.swa_model.weight.item()) == (1, 1.0)


def test_block_before_the_start():
    """Before the first update, the model keeps its weights in the block."""
    model = nn.Linear(1, 1, bias=False)
    swa = SWAHandler(model, start_epoch=2)
    nn.init.constant_(model.weight, 7.0)
    with swa.averaged_weights() as inner:
        assert inner.weight.item() == 7.0
    swa(FakeEngine().fire(Events.EPOCH_COMPLETED, epoch=2))
    nn.init.constant_(model.weight, 8.0)
    with swa.averaged_weights() as inner:
        assert inner.weight.item() == 7.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_epoch": 0}, "start_epoch must be an integer of at least 1, got 0"),
        ({"start_iteration": 1.5}, "start_iteration must be an integer of at least 1, got 1.5"),
        ({"start_epoch": 1, "start_iteration": 1}, "both given; pass only one"),
        ({"handle_buffers": "ema_train"}, "must be 'copy' or 'update', got 'ema_train'"),
        ({"model": 3}, "SWAHandler: model should be an instance of nn.Module, got 3"),
    ],
)
def test_invalid(options, message):
    """Invalid options raise an error that names the option."""
    with pytest.raises(ValueError, match=message):
        SWAHandler(**{"model": nn.Linear(1, 1), **options})
