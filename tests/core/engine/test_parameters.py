"""Parameters that receive the engine or the exception."""

import functools
import gc
import shutil
import traceback
from typing import Any, Protocol

import pytest
import torch
from torch.optim import lr_scheduler

from glowplug import Engine, Events
from glowplug.testing import FakeEngine
from glowplug.typing import EngineProtocol

SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 1),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [1]),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.5),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.5),
    "ConstantLR": lr_scheduler.ConstantLR,
    "LinearLR": lr_scheduler.LinearLR,
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.5),
    "PolynomialLR": lr_scheduler.PolynomialLR,
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 3),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.2),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=50),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.5)], [1]
    ),
}


class Looks(Protocol):
    state: Any


def _sgd():
    model = torch.nn.Linear(1, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


class TestTorch:
    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
    def test_scheduler(self, make):
        """The learning rates of a scheduler whose step is a handler are those of a plain loop (E-032)."""
        rates = []
        for uses_engine in (True, False):
            _, optimizer = _sgd()
            scheduler = make(optimizer)
            engine = Engine(lambda engine, batch, step=optimizer.step: step())
            step = scheduler.step if uses_engine else (lambda scheduler=scheduler: scheduler.step())
            engine.add_event_handler(Events.EPOCH_COMPLETED, step)
            engine.add_event_handler(
                Events.EPOCH_COMPLETED,
                lambda engine, optimizer: rates.append(optimizer.param_groups[0]["lr"]),
                optimizer,
            )
            engine.run([1], max_epochs=3)
        assert rates[:3] == rates[3:]

    def test_scheduler_that_needs_a_metric(self, identity):
        """ReduceLROnPlateau.step, which needs a number, is refused with the remedy (E-032)."""
        scheduler = lr_scheduler.ReduceLROnPlateau(_sgd()[1])
        with pytest.raises(
            ValueError, match=r"ReduceLROnPlateau.step\(metrics.*wrap the handler in a lambda"
        ):
            identity.add_event_handler(Events.EPOCH_COMPLETED, scheduler.step)

    @pytest.mark.parametrize("has_scheduler", [False, True])
    def test_optimizer(self, identity, has_scheduler):
        """optimizer.step is called without arguments, also when a scheduler has wrapped it (E-032)."""
        model, optimizer = _sgd()
        if has_scheduler:
            lr_scheduler.StepLR(optimizer, 1)
        model.weight.grad = torch.ones(1, 1)
        before = model.weight.item()
        identity.add_event_handler(Events.ITERATION_COMPLETED, optimizer.step)
        identity.run([1])
        assert model.weight.item() == pytest.approx(before - 0.1)

    def test_module_mode(self, identity):
        """model.train and model.eval set the mode that they name (E-032)."""
        model, _ = _sgd()
        modes = []
        identity.add_event_handler(Events.STARTED, model.eval)
        identity.add_event_handler(Events.EPOCH_STARTED, lambda: modes.append(model.training))
        identity.add_event_handler(Events.EPOCH_COMPLETED, model.train)
        identity.run([1])
        assert (modes, model.training) == ([False], True)


class TestLibraries:
    def test_optional_parameter(self, identity):
        """gc.collect is called without the engine (E-032)."""
        identity.add_event_handler(Events.EPOCH_COMPLETED, gc.collect)
        identity.run([1])

    @pytest.mark.parametrize("function", [torch.manual_seed, [].append, shutil.rmtree])
    def test_required_parameter(self, identity, function):
        """A library function with a required parameter is refused with the remedy (E-032)."""
        with pytest.raises(ValueError, match=r"cannot be called with .*wrap the handler in a lambda"):
            identity.add_event_handler(Events.EPOCH_COMPLETED, function)

    def test_registered_arguments(self, identity, capsys):
        """A library function gets the registered arguments and no engine (E-032)."""
        got = []
        identity.add_event_handler(Events.COMPLETED, got.append, "done")
        identity.add_event_handler(Events.COMPLETED, print, "printed")
        identity.run([1])
        assert (got, capsys.readouterr().out) == (["done"], "printed\n")


def _typed_as_number(value: int = 3):
    return value


def _typed_as_engine(first: Engine | None = None):
    return first


def _typed_by_text(first: "Engine" = None):
    return first


def _typed_by_protocol(first: EngineProtocol):
    return first


def _typed_by_own_protocol(first: Looks):
    return first


def _typed_as_fake(first: FakeEngine = None):
    return first


def _named(trainer=None):
    return trainer


def _named_longer(val_evaluator=None):
    return val_evaluator


def _any_name(x):
    return x


def _other_default(x=5):
    return x


class TestFirstParameter:
    @pytest.mark.parametrize(
        "function",
        [_typed_as_engine, _typed_by_text, _typed_by_protocol, _typed_by_own_protocol, _typed_as_fake, _named,
         _named_longer, _any_name],
    )  # fmt: skip
    def test_means_the_engine(self, identity, function):
        """A first parameter without a default, or named or annotated as an engine, gets the engine (E-032)."""
        got = []
        identity.add_event_handler(Events.STARTED, spy(function, got))
        identity.run([1])
        assert got == [identity]

    @pytest.mark.parametrize(("function", "value"), [(_typed_as_number, 3), (_other_default, 5)])
    def test_means_something_else(self, identity, function, value):
        """An optional parameter that means something else keeps its default (E-032)."""
        got = []
        identity.add_event_handler(Events.STARTED, spy(function, got))
        identity.run([1])
        assert got == [value]

    def test_required_number(self, identity):
        """A required parameter that is annotated as something else is refused with the signature (E-032)."""

        def handler(count: int): ...

        with pytest.raises(ValueError, match=r"handler\(count: .*wrap the handler in a lambda"):
            identity.add_event_handler(Events.STARTED, handler)


def spy(function, got):
    """Return a function with the same signature that records the result."""
    return functools.wraps(function)(lambda *args: got.append(function(*args)))


class TestException:
    def test_optional_second_parameter(self, identity):
        """The exception is passed only to a parameter that is meant for it (E-039)."""
        got = []

        def report(engine, error=None):
            got.append((engine, str(error)))

        def summary(error, verbose=False):
            got.append((str(error), verbose))

        identity.add_event_handler(Events.EXCEPTION_RAISED, report)
        identity.add_event_handler(Events.EXCEPTION_RAISED, summary)
        identity.add_event_handler(Events.STARTED, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            identity.run([1])
        assert got == [(identity, "division by zero"), ("division by zero", False)]

    def test_library_function(self, identity, capsys):
        """traceback.print_exception gets the exception and not the engine (E-039)."""
        identity.add_event_handler(Events.EXCEPTION_RAISED, traceback.print_exception)
        identity.add_event_handler(Events.STARTED, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            identity.run([1])
        assert "ZeroDivisionError: division by zero" in capsys.readouterr().err
