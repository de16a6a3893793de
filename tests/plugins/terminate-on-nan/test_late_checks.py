"""Checks whose results are read later, as on an accelerator, and checks of a model."""

import copy
import logging
import pickle
from collections import deque

import pytest
import torch
from torch import nn

from glowplug import Engine, Events, RunOutcome
from glowplug.testing import FakeEngine
from glowplug_terminate_on_nan import TerminateOnNan
from glowplug_terminate_on_nan.late_check import LateChecks

NAN, INF = float("nan"), float("inf")


def late_run(outputs, **options):
    """Run an engine with these outputs, whose checks are read one call later."""
    engine = Engine(lambda engine, batch: batch)
    engine.attach(TerminateOnNan(is_deferred=True, **options))
    engine.run(outputs)
    return engine.state


class TestLateRead:
    def test_one_iteration_later(self, caplog):
        """The run ends one iteration after a value that is not finite, and the message names its iteration and path (H-083)."""
        losses = [{"loss": [torch.tensor(1.0), torch.tensor(NAN if i == 3 else 1.0)]} for i in range(1, 9)]
        state = late_run(losses)
        assert (state.iteration, state.outcome) == (4, RunOutcome.TERMINATED)
        assert caplog.messages == ["iteration 3: output['loss'][1] is not finite; the run is terminated"]

    def test_end_of_the_epoch(self, caplog):
        """A value of an epoch's last iteration is found before the checkpoints of EPOCH_COMPLETED, not in the next epoch (H-083)."""
        losses = [torch.tensor(NAN if i == 4 else 1.0) for i in range(1, 5)]
        engine = Engine(lambda engine, batch: batch)
        engine.attach(TerminateOnNan(is_deferred=True))
        engine.run(losses, max_epochs=3)
        assert (engine.state.epoch, engine.state.iteration) == (1, 4)
        assert caplog.messages == ["iteration 4: output is not finite; the run is terminated"]

    def test_end_of_a_run_within_an_epoch(self, caplog):
        """If max_iters ends the run within an epoch, the last value is still reported (H-083)."""
        engine = Engine(lambda engine, batch: torch.tensor(NAN if batch == 2 else 1.0))
        engine.attach(TerminateOnNan(is_deferred=True))
        engine.run(range(10), max_iters=3)
        assert caplog.messages == ["iteration 3: output is not finite; the run is terminated"]

    def test_numbers_are_checked_at_once(self):
        """Values that are on the CPU anyway, such as Python numbers, are not checked later (H-083)."""
        assert late_run([1.0, NAN, 1.0]).iteration == 2

    def test_earlier_run(self):
        """A check that a failed run left behind does not end the next run (H-083)."""
        engine = Engine(lambda engine, batch: torch.tensor(batch))
        engine.attach(TerminateOnNan(is_deferred=True))

        def fail():
            raise ValueError("failed")

        handle = engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), fail)
        with pytest.raises(ValueError, match="failed"):
            engine.run([NAN, 1.0])
        handle.remove()
        engine.state.max_epochs = None
        assert engine.run([1.0, 1.0]).outcome is RunOutcome.COMPLETED

    def test_default_on_the_cpu(self):
        """By default, tensors on the CPU are checked at once (H-083)."""
        fake = FakeEngine()
        TerminateOnNan().attach(fake)
        assert fake.fire(Events.ITERATION_COMPLETED, iteration=1, output=torch.tensor(NAN)).terminated

    def test_copies(self):
        """A handler with a check in progress can be copied and pickled; the copy has no checks in progress (H-083)."""
        handler = TerminateOnNan(is_deferred=True)
        handler(FakeEngine().fire(Events.STARTED, iteration=1, output=torch.tensor(NAN)))
        for copied in (copy.deepcopy(handler), pickle.loads(pickle.dumps(handler))):
            fake = FakeEngine()
            copied.attach(fake)
            assert not fake.fire(Events.ITERATION_COMPLETED, iteration=2, output=torch.tensor(1.0)).terminated

    @pytest.mark.parametrize(
        ("values", "is_finite"),
        [
            (torch.tensor([1.0, NAN]), False),
            (torch.tensor([[INF, 1.0]]), False),
            (torch.tensor([-INF]), False),
            (torch.tensor([INF, -INF]), False),
            (torch.tensor(3e38).repeat(4), True),
            (torch.tensor([3e38, -3e38]), True),
            (torch.tensor([1e308, -1e308], dtype=torch.float64), True),
            (torch.tensor([1.0, NAN], dtype=torch.float64), False),
            (torch.tensor([65504.0] * 3, dtype=torch.float16), True),
            (torch.tensor([INF], dtype=torch.float16), False),
            (torch.tensor([NAN], dtype=torch.bfloat16), False),
            (torch.tensor([NAN]).to(torch.float8_e5m2), False),
            (torch.tensor([1.0]).to(torch.float8_e4m3fn), True),
            (torch.tensor([1 + 2j]), True),
            (torch.tensor([complex(1.0, INF)]), False),
            (torch.tensor([complex(1.0, NAN)]).conj(), False),
            (torch.empty(0), True),
            (torch.tensor([1, 2]), True),
            (torch.tensor([1.0, NAN], requires_grad=True), False),
        ],
        ids=str,
    )
    def test_values(self, values, is_finite):
        """NaN and infinity are found in tensors of all formats, and large finite values are not (H-081)."""
        assert (late_run([values, torch.tensor(1.0)]).outcome is RunOutcome.COMPLETED) == is_finite

    def test_nothing_is_read(self, recorder):
        """Starting a check reads no value on the CPU, however many tensors there are (H-083)."""
        late = LateChecks()
        with recorder:
            late.start(1, [(str, torch.ones(3)) for _ in range(5)])
        assert recorder.names.count("aten::aminmax") == 5
        assert not {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero"} & set(
            recorder.names
        )

    def test_tensors_are_not_kept(self, no_gc):
        """A check keeps none of the tensors, so it needs no memory of the device (H-083)."""
        import weakref

        late, output = LateChecks(), torch.ones(3)
        alive = weakref.ref(output)
        late.start(1, [(str, output)])
        del output
        assert alive() is None


class BusyEvent:
    """The event of a device that is behind, until something waits for it."""

    def __init__(self):
        self.is_complete = False

    def query(self):
        """Return whether the device has got there."""
        return self.is_complete

    def synchronize(self):
        """Wait for the device."""
        self.is_complete = True


class TestBusyDevice:
    def busy(self, count):
        """Return checks, each with a NaN, of a device that has finished none of them."""
        late, events = LateChecks(), []
        for iteration in range(1, count + 1):
            late.start(iteration, [(lambda: "loss", torch.tensor(NAN))])
            late._pending[-1].event = BusyEvent()
            events.append(late._pending[-1].event)
        return late, events

    def test_does_not_wait(self):
        """While the device is behind, reading returns at once; the result is read when it is complete (H-083)."""
        late, events = self.busy(3)
        assert late.read(before=4) is None
        assert not any(event.is_complete for event in events)
        events[0].is_complete = True
        assert late.read(before=4) == (1, "loss")
        assert late._pending == deque()

    def test_wait(self):
        """At the end of an epoch, reading waits (H-083)."""
        late, events = self.busy(2)
        assert late.read(before=3, wait=True) == (1, "loss")
        assert events[0].is_complete

    def test_far_behind(self):
        """Checks do not pile up without bound: the device is waited for when it is 64 checks behind (H-083)."""
        late, _ = self.busy(63)
        assert late.read(before=100) is None
        late, events = self.busy(64)
        assert late.read(before=100) == (1, "loss")
        assert [event.is_complete for event in events].count(True) == 1


class TestModel:
    def test_parameter_and_gradient(self, caplog):
        """The parameter or the gradient that is not finite is named (H-080)."""
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        for make_bad, message in (
            (lambda: model[1].bias.data.fill_(INF), "parameter '1.bias'[0] is inf"),
            (
                lambda: setattr(model[0].weight, "grad", torch.full((2, 2), NAN)),
                "gradient of '0.weight'[0, 0] is nan",
            ),
        ):
            caplog.clear()
            for parameter in model.parameters():
                parameter.data.fill_(1.0)
            make_bad()
            fake = FakeEngine()
            TerminateOnNan(model=model, model_every=1).attach(fake)
            with caplog.at_level(logging.WARNING):
                assert fake.fire(Events.ITERATION_COMPLETED, iteration=1, output=1.0).terminated
            assert message in caplog.text

    @pytest.mark.parametrize(("is_deferred", "iteration"), [(False, 6), (True, 7)])
    def test_every(self, is_deferred, iteration):
        """The model is checked at every n-th iteration only, also after a resume at any iteration (H-080)."""
        model = nn.Linear(1, 1)
        engine = Engine(lambda engine, batch: None)
        engine.attach(TerminateOnNan(model=model, model_every=3, is_deferred=is_deferred))
        engine.add_event_handler(Events.ITERATION_STARTED(once=4), lambda: model.weight.data.fill_(NAN))
        assert engine.run(range(20)).iteration == iteration

    def test_frozen_and_integer_parameters(self):
        """Parameters without gradients, and parameters of integers, are no problem (H-081)."""
        model = nn.Linear(1, 1)
        model.register_parameter("steps", nn.Parameter(torch.tensor([3]), requires_grad=False))
        fake = FakeEngine()
        TerminateOnNan(model=model, model_every=1).attach(fake)
        assert not fake.fire(Events.ITERATION_COMPLETED, iteration=1, output=1.0).terminated

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"model": "model"}, TypeError, "model must be a torch.nn.Module, got 'model'"),
            ({"model_every": 0}, ValueError, "model_every must be an integer of at least 1, got 0"),
            ({"model_every": 1.5}, ValueError, "got 1.5"),
        ],
    )
    def test_invalid(self, options, error, message):
        """An invalid option is refused with its value."""
        with pytest.raises(error, match=message):
            TerminateOnNan(**options)
