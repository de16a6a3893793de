"""Values that are recorded in engine.state.param_history."""

from unittest.mock import MagicMock

import pytest
import torch
from torch.optim import lr_scheduler

from glowplug import Engine, Events, State
from glowplug_schedulers import (
    ConcatScheduler,
    LinearCyclicalScheduler,
    LRScheduler,
    ParamGroupScheduler,
    PiecewiseLinear,
    create_lr_scheduler_with_warmup,
)


def sgd(*rates):
    """Return an optimizer with a parameter group for each learning rate."""
    return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": rate} for rate in rates])


def history(scheduler, iterations, **options):
    """Return the history of a run with a scheduler."""
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.ITERATION_STARTED, scheduler, **options)
    return getattr(engine.run(range(iterations)), "param_history", None)


def linear(optimizer, **options):
    """Return a scheduler of the learning rate."""
    return LinearCyclicalScheduler(optimizer, "lr", 1.0, 0.0, 4, **options)


def test_values_of_groups():
    """The history has a list of values per event, with a value for each changed group (H-111)."""
    assert history(linear(sgd(1.0, 2.0), save_history=True), 2) == {"lr": [[1.0, 1.0], [0.5, 0.5]]}
    scheduler = linear(sgd(1.0, 2.0), save_history=True, param_group_index=1)
    assert history(scheduler, 2) == {"lr": [[1.0], [0.5]]}


def test_off():
    """By default, there is no history (H-111)."""
    assert history(linear(sgd(1.0)), 2) is None


def test_name():
    """A name that is passed to add_event_handler is the name in the history (H-111)."""
    assert history(linear(sgd(1.0), save_history=True), 1, name="head") == {"head": [[1.0]]}


def test_names_of_groups():
    """A ParamGroupScheduler records the values of each scheduler under its name (H-113)."""

    def make(**options):
        optimizer = sgd(1.0, 2.0)
        return ParamGroupScheduler(
            [linear(optimizer, param_group_index=i) for i in (0, 1)], save_history=True, **options
        )

    assert history(make(names=["a", "b"]), 2) == {"a": [[1.0], [0.5]], "b": [[1.0], [0.5]]}
    assert history(make(), 2) == {"lr": [[1.0], [1.0], [0.5], [0.5]]}


def test_sequence():
    """The schedulers of a sequence record into one history, whether they did before or not (H-113, H-115)."""
    optimizer = sgd(1.0, 2.0)
    first = PiecewiseLinear(optimizer, "lr", [(0, 5.0)], save_history=True)
    scheduler = ConcatScheduler([first, linear(optimizer)], [1])
    assert not first.save_history
    scheduler.save_history = True
    assert history(scheduler, 2) == {"lr": [[5.0, 5.0], [1.0, 1.0]]}
    warm = create_lr_scheduler_with_warmup(
        lr_scheduler.ExponentialLR(sgd(1.0, 2.0), 0.5), 0.0, 2, save_history=True
    )
    assert history(warm, 3) == {"lr": [[0.0, 0.0], [1.0, 2.0], [0.5, 1.0]]}


def test_tensor():
    """A learning rate that is a tensor is recorded as a number, which later steps do not change (H-111)."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=torch.tensor(0.5))
    scheduler = PiecewiseLinear(optimizer, "lr", [(0, 1.0), (1, 0.25)], save_history=True)
    assert history(scheduler, 2) == {"lr": [[1.0], [0.25]]}


def test_plain_values():
    """The history is part of the engine's state, and a copy of it there (H-110)."""
    engine = Engine(lambda engine, batch: None)
    LRScheduler(lr_scheduler.ExponentialLR(sgd(1.0), 0.5), save_history=True).attach(engine)
    engine.run(range(2))
    state = engine.state_dict()["handlers"]["param_history"]
    assert state == {"lr": [[1.0], [0.5]]}
    state["lr"][0].append("changed")
    assert engine.state.param_history == {"lr": [[1.0], [0.5]]}


@pytest.mark.parametrize("earlier", [[], [[7.0]]])
def test_replaced_history(earlier):
    """A script can begin a new history or continue another one; the engine's state contains what the script sees (H-111)."""
    engine = Engine(lambda engine, batch: None)
    linear(sgd(1.0), save_history=True).attach(engine)
    engine.run(range(2))
    engine.state.param_history = {"lr": list(earlier)} if earlier else None
    expected = {"lr": earlier} if earlier else {}
    assert engine.state_dict()["handlers"]["param_history"] == expected
    engine.run(range(1))
    expected = {"lr": [*earlier, [0.0]]}
    assert engine.state.param_history == expected
    assert engine.state_dict()["handlers"]["param_history"] == expected


def test_replaced_state():
    """If a script gives the engine another state, the history is in this state (H-111)."""
    engine = Engine(lambda engine, batch: None)
    linear(sgd(1.0), save_history=True).attach(engine)
    engine.run(range(1))
    engine.state = State()
    engine.run(range(1))
    assert engine.state.param_history == {"lr": [[0.5]]}
    assert engine.state_dict()["handlers"]["param_history"] == {"lr": [[0.5]]}


@pytest.mark.parametrize("save_history", [False, True])
def test_mock(save_history):
    """A scheduler does not break on a mock engine (H-111)."""
    optimizer = sgd(1.0)
    scheduler = PiecewiseLinear(optimizer, "lr", [(0, 0.5)], save_history=save_history)
    engine = MagicMock()
    scheduler.attach(engine)
    scheduler(engine)
    assert optimizer.param_groups[0]["lr"] == 0.5
