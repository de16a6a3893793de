"""LRScheduler compared with a plain loop that steps the same scheduler of torch."""

import warnings

import pytest
import torch
from torch.optim import lr_scheduler

from glowplug import Engine, Events
from glowplug_schedulers import LRScheduler, ReduceLROnPlateauScheduler

SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.1),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5], 0.1),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.9),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, 1, 4),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.5),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 10, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 6),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=50),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 3), lr_scheduler.ExponentialLR(o, 0.9)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1, 3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
}
each_scheduler = pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
# SequentialLR itself calls a deprecated form of step().
pytestmark = pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")


def sgd():
    """Return an optimizer with two parameter groups."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 2.0)]
    return torch.optim.SGD(groups, momentum=0.9)


def settings(optimizer):
    """Return what schedulers change in an optimizer."""
    return [(group["lr"], group["momentum"]) for group in optimizer.param_groups]


def plain_loop(make, steps):
    """Return the settings with which each step of a plain loop is made."""
    optimizer = sgd()
    scheduler, seen = make(optimizer), []
    for _ in range(steps):
        seen.append(settings(optimizer))
        optimizer.step()
        scheduler.step()
    return seen


def trained(make, attach):
    """Return the settings with which each step of an engine of 3 epochs of 4 iterations is made."""
    optimizer, seen = sgd(), []

    def step(engine, batch):
        seen.append(settings(optimizer))
        optimizer.step()

    trainer = Engine(step)
    attach(trainer, make(optimizer))
    trainer.run(range(4), max_epochs=3)
    return seen


@each_scheduler
def test_iterations(make):
    """Attached as by default, the settings of each step are those of a loop that calls scheduler.step() (H-114)."""
    seen = trained(make, lambda trainer, scheduler: LRScheduler(scheduler).attach(trainer))
    assert seen == plain_loop(make, 12)


@each_scheduler
def test_legacy(make):
    """With use_legacy, a step is made after each iteration, with the same settings (H-114)."""
    seen = trained(make, lambda trainer, scheduler: LRScheduler(scheduler, use_legacy=True).attach(trainer))
    assert seen == plain_loop(make, 12)


@each_scheduler
def test_epochs(make):
    """At EPOCH_STARTED, all steps of an epoch have the same settings, and the first epoch has the initial ones (H-114)."""
    seen = trained(
        make,
        lambda trainer, scheduler: trainer.add_event_handler(Events.EPOCH_STARTED, LRScheduler(scheduler)),
    )
    expected = [each for each in plain_loop(make, 3) for _ in range(4)]
    assert seen == expected


@each_scheduler
def test_simulated_values(make):
    """The simulation gives the learning rates of the loop, and changes neither the scheduler nor the optimizer (H-114)."""
    optimizer = sgd()
    scheduler = make(optimizer)
    before = settings(optimizer)
    rows = LRScheduler.simulate_values(12, scheduler)
    assert settings(optimizer) == before
    expected = plain_loop(make, 12)
    assert rows == [[i, *(lr for lr, _ in each)] for i, each in enumerate(expected)]
    # A second simulation begins where the first one did.
    assert LRScheduler.simulate_values(12, scheduler) == rows


def test_optimizer_step_event():
    """A scheduler can follow a custom event that fires once per optimizer step, as with accumulated gradients (H-114)."""
    optimizer, seen = sgd(), []

    def step(engine, batch):
        if engine.state.iteration % 3 == 0:
            engine.fire_event("optimizer_step")
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()

    trainer = Engine(step)
    trainer.register_events("optimizer_step")
    LRScheduler(lr_scheduler.ExponentialLR(optimizer, 0.5)).attach(trainer, event_name="optimizer_step")
    trainer.run(range(9))
    assert seen == [1.0, 0.5, 0.25]


def test_accumulated_gradients():
    """A scheduler that makes its first steps before the optimizer does causes no warning (H-114)."""
    optimizer = sgd()
    trainer = Engine(lambda engine, batch: optimizer.step() if batch == 3 else None)
    LRScheduler(lr_scheduler.ExponentialLR(optimizer, 0.5)).attach(trainer)
    with warnings.catch_warnings(record=True) as caught:
        trainer.run(range(4))
    assert caught == []


def test_two_schedulers():
    """Two schedulers of one optimizer multiply their factors, as in a plain loop (H-114)."""
    optimizer, seen = sgd(), []

    def step(engine, batch):
        seen.append(round(optimizer.param_groups[0]["lr"], 6))
        optimizer.step()

    trainer = Engine(step)
    for factor in (0.5, 0.1):
        LRScheduler(lr_scheduler.ExponentialLR(optimizer, factor)).attach(trainer)
    trainer.run(range(3))
    assert seen == [1.0, 0.05, 0.0025]


def test_invalid():
    """What is no scheduler of torch is refused; for ReduceLROnPlateau, the message names the right handler (H-114)."""
    with pytest.raises(TypeError, match=r"must be a scheduler from torch\.optim\.lr_scheduler, got 1"):
        LRScheduler(1)
    with pytest.raises(TypeError, match=rf"use {ReduceLROnPlateauScheduler.__name__}\(optimizer"):
        LRScheduler(lr_scheduler.ReduceLROnPlateau(sgd()))
