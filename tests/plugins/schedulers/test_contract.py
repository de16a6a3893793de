"""The handler contract, applied to the schedulers."""

import pytest
import torch
from torch.utils.data import DataLoader

from glowplug import Events
from glowplug_schedulers import (
    BatchSizeScheduler,
    CosineAnnealingScheduler,
    ExpStateScheduler,
    LRScheduler,
    ParamGroupScheduler,
    PiecewiseLinear,
    ReduceLROnPlateauScheduler,
    create_lr_scheduler_with_warmup,
)
from glowplug_testing import HandlerCase, HandlerContract


def sgd():
    """Return an optimizer with two parameter groups."""
    groups = [{"params": [torch.zeros(1)], "lr": lr} for lr in (0.1, 0.2)]
    return torch.optim.SGD(groups, momentum=0.9)


def torch_scheduler(optimizer):
    """Return a scheduler of torch."""
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


def step_scheduler():
    """Return a handler for a scheduler of torch."""
    return LRScheduler(torch_scheduler(sgd()))


def warmup():
    """Return a scheduler with a warm-up."""
    return create_lr_scheduler_with_warmup(torch_scheduler(sgd()), 0.0, 2)


def groups():
    """Return a scheduler with one scheduler per group."""
    optimizer = sgd()
    return ParamGroupScheduler(
        [CosineAnnealingScheduler(optimizer, "lr", 1.0, 0.0, 4, param_group_index=i) for i in range(2)]
    )


def cosine():
    """Return a cyclical scheduler."""
    return CosineAnnealingScheduler(sgd(), "momentum", 0.9, 0.5, 4, end_value_mult=0.5)


def piecewise():
    """Return a scheduler with milestones."""
    return PiecewiseLinear(sgd(), "lr", [(0, 0.0), (3, 1.0)])


class TestCosine(HandlerContract):
    @pytest.fixture
    def case(self):
        """A cyclical scheduler, whose cycles change."""
        return HandlerCase(make=cosine, plugin="glowplug_schedulers._plugin", heavy=["torch", "matplotlib"])


class TestPiecewise(HandlerContract):
    @pytest.fixture
    def case(self):
        """A scheduler that sets the learning rate once per epoch."""
        return HandlerCase(
            make=piecewise, attach=lambda handler, engine: handler.attach(engine, Events.EPOCH_STARTED)
        )


class TestLRScheduler(HandlerContract):
    @pytest.fixture
    def case(self):
        """A scheduler of torch."""
        return HandlerCase(make=step_scheduler)


class TestWarmup(HandlerContract):
    @pytest.fixture
    def case(self):
        """A scheduler of torch after a warm-up."""
        return HandlerCase(make=warmup)


class TestGroups(HandlerContract):
    @pytest.fixture
    def case(self):
        """One scheduler per parameter group."""
        return HandlerCase(make=groups)


class TestPlateau(HandlerContract):
    @pytest.fixture
    def case(self):
        """A scheduler that reads a metric."""
        return HandlerCase(
            make=lambda: ReduceLROnPlateauScheduler(sgd(), "loss", patience=1),
            attach=lambda handler, engine: handler.attach(engine, Events.EPOCH_COMPLETED),
            metrics={"loss": 0.5},
        )


def attach_to_temperature(handler, engine):
    """Attach a scheduler to an attribute that exists."""
    engine.state.temperature = 1.0
    return handler.attach(engine)


class TestStateParam(HandlerContract):
    @pytest.fixture
    def case(self):
        """A scheduler of an attribute of the state."""
        return HandlerCase(
            make=lambda: ExpStateScheduler(1.0, 0.5, "temperature"), attach=attach_to_temperature
        )


def increasing(event):
    """Return a batch size."""
    return event + 1


class TestBatchSize(HandlerContract):
    @pytest.fixture
    def case(self):
        """A scheduler of a batch size."""
        return HandlerCase(make=lambda: BatchSizeScheduler(DataLoader(range(8)), increasing))
