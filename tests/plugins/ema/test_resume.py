"""The states of EMAHandler and SWAHandler."""

import pytest
import torch
from torch import nn

from glowplug import Engine, Events
from glowplug.testing import FakeEngine
from glowplug_ema import EMAHandler, SWAHandler

WAYS = {
    "attach": lambda handler, trainer, event: handler.attach(trainer, event_name=event),
    "add_event_handler": lambda handler, trainer, event: trainer.add_event_handler(event, handler),
}
CASES = {
    "ema": (lambda model: EMAHandler(model, 0.1, 0.9, 8, "update"), Events.ITERATION_COMPLETED),
    "swa": (lambda model: SWAHandler(model, start_epoch=2), Events.EPOCH_COMPLETED),
}


def training(case, way):
    """Return a trainer with a network that draws random numbers, its network, optimizer and handler."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(engine, batch):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()

    make, event = CASES[case]
    trainer, handler = Engine(step), make(model)
    WAYS[way](handler, trainer, event)
    return trainer, model, optimizer, handler


BATCHES = torch.randn(4, 8, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("iteration", [1, 3, 4, 6, 9])
def test_exact(tmp_path, case, way, iteration):
    """A run resumed with new objects ends with the same average as the uninterrupted run, from any iteration (H-102, C4)."""
    whole, _, _, expected = training(case, way)
    whole.run(BATCHES, max_epochs=3)
    trainer, model, optimizer, _ = training(case, way)

    @trainer.on(Events.ITERATION_COMPLETED(once=iteration))
    def save(engine):
        states = {"trainer": engine.state_dict(), "model": model.state_dict()}
        torch.save({**states, "optimizer": optimizer.state_dict()}, tmp_path / "states.pt")

    trainer.run(BATCHES, max_epochs=3)
    states = torch.load(tmp_path / "states.pt", weights_only=True)
    resumed, model, optimizer, handler = training(case, way)
    for name, each in (("trainer", resumed), ("model", model), ("optimizer", optimizer)):
        each.load_state_dict(states[name])
    resumed.run(BATCHES)
    wanted, actual = expected.state_dict(), handler.state_dict()
    name = "ema_model" if case == "ema" else "swa_model"
    torch.testing.assert_close(actual.pop(name), wanted.pop(name), rtol=0, atol=0)
    assert actual == wanted
    assert case == "swa" or resumed.state.ema_momentum == whole.state.ema_momentum


@pytest.mark.parametrize("is_late", [False, True])
def test_momentum_of_another_handler(is_late):
    """A momentum that another handler has set is part of the state, and is in engine.state after loading (H-102)."""
    fake = FakeEngine()
    ema = EMAHandler(nn.Linear(1, 1), momentum=0.5)
    ema.attach(fake, "teacher")
    fake.state.teacher = 0.25
    saved = fake.state_dict()
    assert saved["handlers"]["EMAHandler"]["momentum"] == 0.25
    resumed, other = FakeEngine(), EMAHandler(nn.Linear(1, 1), momentum=0.5)
    if not is_late:
        other.attach(resumed, "teacher")
    resumed.load_state_dict(saved)
    if is_late:
        other.attach(resumed, "teacher")
    assert resumed.state.teacher == 0.25


def test_keys():
    """Two handlers have different keys, or the keys that the user gave them (H-102)."""
    fake = FakeEngine()
    for options in ({}, {}, {"state_key": "critic"}):
        EMAHandler(nn.Linear(1, 1), **options).attach(fake, warn_if_exists=False)
    SWAHandler(nn.Linear(1, 1)).attach(fake)
    assert list(fake.state_dict()["handlers"]) == ["EMAHandler", "EMAHandler#2", "critic", "SWAHandler"]


@pytest.mark.parametrize("make", [lambda model: EMAHandler(model, 0.5), SWAHandler])
def test_state_is_a_copy(make):
    """Later updates do not change the weights in a state (C4)."""
    handler = make(nn.Linear(1, 1, bias=False))
    nn.init.constant_(handler.model.weight, 3.0)
    handler(FakeEngine())
    state = list(handler.state_dict().values())[-1]
    before = state["weight"].item()
    nn.init.constant_(handler.model.weight, 9.0)
    handler(FakeEngine())
    assert state["weight"].item() == before


@pytest.mark.parametrize("make", [EMAHandler, SWAHandler])
def test_other_model(make):
    """A state of another model, or an incomplete one, is refused and nothing is loaded (H-102)."""
    handler, other = make(nn.Linear(2, 1)), make(nn.Linear(3, 1, bias=False))
    before = handler.state_dict()
    with pytest.raises(
        ValueError, match=rf"{make.__name__}: the averaged weights belong to another model: bias, weight"
    ):
        handler.load_state_dict(other.state_dict())
    number = next(iter(before))
    with pytest.raises(ValueError, match=rf"{make.__name__}: the state lacks {number}"):
        handler.load_state_dict({name: value for name, value in before.items() if name != number})
    after = handler.state_dict()
    assert before[number] == after[number]
    name = list(before)[-1]
    assert all(torch.equal(after[name][key], before[name][key]) for key in before[name])
