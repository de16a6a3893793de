"""The monitors on fake engines and on real trainings."""

import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from glowplug import Engine, Events, OptimizerEvents, create_supervised_trainer
from glowplug.testing import FakeEngine
from glowplug_monitors import (
    DataWait,
    DeviceUsage,
    GradientNorm,
    LearningRate,
    ModelSummary,
    Throughput,
    iteration_times,
)

mse = nn.functional.mse_loss


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(iteration_times, "perf_counter", lambda: clock.now)
    return clock


def play(fake, clock, *, wait, work, between=0.0, batch=None):
    """Fire the events of an iteration, which last for these times."""
    fake.fire_event(Events.GET_BATCH_STARTED)
    clock.now += wait
    fake.state.batch = batch
    fake.fire_event(Events.GET_BATCH_COMPLETED)
    fake.fire_event(Events.ITERATION_STARTED)
    clock.now += work
    fake.fire_event(Events.ITERATION_COMPLETED)
    clock.now += between


class TestThroughput:
    def test_window(self, clock):
        """The value is the items of the last iterations per second, without the first batch and the time between iterations."""
        fake = FakeEngine()
        Throughput(lambda batch: batch, window=2).attach(fake, "tokens/s")
        fake.fire_event(Events.STARTED)
        play(fake, clock, wait=100, work=1, between=50, batch=8)
        assert fake.state.metrics == {"tokens/s": 8.0}
        play(fake, clock, wait=1, work=1, between=50, batch=4)
        assert fake.state.metrics == {"tokens/s": 4.0}
        play(fake, clock, wait=1, work=3, batch=6)
        assert fake.state.metrics == {"tokens/s": 10 / 6}

    def test_new_run(self, clock):
        """A resumed or new run begins an empty window, and skipping batches before its first iteration does not count."""
        fake = FakeEngine()
        Throughput(lambda batch: 10).attach(fake)
        for _ in range(2):
            fake.fire_event(Events.STARTED)
            play(fake, clock, wait=1000, work=2)
            assert fake.state.metrics == {"throughput": 5.0}

    @pytest.mark.parametrize(
        "batch",
        [
            torch.zeros(6, 2),
            (torch.zeros(6, 2), torch.zeros(3)),
            {"meta": "text", "x": torch.zeros(6)},
            ["text", [1], torch.zeros(6)],
        ],
        ids=["tensor", "pair", "dict", "list"],
    )
    def test_samples(self, clock, batch):
        """By default, the items are the samples of the first tensor."""
        fake = FakeEngine()
        Throughput().attach(fake)
        play(fake, clock, wait=0, work=2, batch=batch)
        assert fake.state.metrics == {"throughput": 3.0}

    def test_batch_without_tensors(self):
        """A batch whose samples cannot be counted is an error that shows what to pass."""
        engine = Engine(lambda engine, batch: None)
        Throughput().attach(engine)
        with pytest.raises(
            TypeError, match=r"batch of type int; pass a function .*Throughput\(count=lambda batch"
        ):
            engine.run([1])

    def test_real_run(self):
        """In a real training with a validation in each epoch, the value is that of the training alone."""
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer = create_supervised_trainer(
            model, optimizer, mse, model_fn=lambda model, x: (time.sleep(0.01), model(x))[1]
        )
        Throughput().attach(trainer)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: time.sleep(0.05))
        data = DataLoader(TensorDataset(torch.randn(40, 3), torch.randn(40, 1)), batch_size=8)
        found = trainer.run(data, max_epochs=2).metrics["throughput"]
        # 8 samples take at least 10 ms. With the handler, the value would be at most 133.
        assert 200 < found < 800

    @pytest.mark.parametrize("monitor", [Throughput, DataWait])
    @pytest.mark.parametrize(("window", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
    def test_invalid_window(self, monitor, window, error):
        """A window that is not an integer of at least 1 is refused with its value."""
        with pytest.raises(error, match=rf"{monitor.__name__}: window must be .*got {window!r}"):
            monitor(window=window)

    def test_invalid_count(self):
        """An object that cannot be called is refused."""
        with pytest.raises(TypeError, match="count must be a function of the batch, got 3"):
            Throughput(3)


class TestDataWait:
    def test_share(self, clock):
        """The value is the share of the waiting time in the window, without the first batch."""
        fake = FakeEngine()
        DataWait(window=2).attach(fake)
        fake.fire_event(Events.STARTED)
        play(fake, clock, wait=100, work=1)
        assert fake.state.metrics == {"data_wait": 0.0}
        play(fake, clock, wait=3, work=1, between=50)
        assert fake.state.metrics == {"data_wait": 0.6}
        play(fake, clock, wait=1, work=3)
        assert fake.state.metrics == {"data_wait": 0.5}

    def test_without_data(self):
        """A run without data waits for nothing."""
        engine = Engine(lambda engine, batch: time.sleep(0.001))
        DataWait().attach(engine)
        assert engine.run(epoch_length=3).metrics == {"data_wait": 0.0}


class TestGradientNorm:
    def test_before_clipping(self):
        """With a supervised trainer, the norm is that of the whole accumulation window before it is clipped."""
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        data = [(torch.randn(4, 3), 10 * torch.randn(4, 1)) for _ in range(2)]
        for x, y in data:
            (mse(model(x), y) / 2).backward()
        expected = torch.cat([each.grad.flatten() for each in model.parameters()]).norm().item()
        trainer = create_supervised_trainer(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
            mse,
            gradient_accumulation_steps=2,
            clip_norm=0.1,
        )
        GradientNorm(model).attach(trainer)
        found = []
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: found.append(engine.state.metrics.get("gradient_norm"))
        )
        trainer.run(data)
        assert found[0] is None
        assert found[1].item() == pytest.approx(expected)

    def test_other_engine(self):
        """On an engine without these events, the norm is computed after each iteration, of the parameters with gradients."""
        parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))]
        parameters[0].grad = torch.tensor([3.0, -4.0])
        engine = Engine(lambda engine, batch: None)
        GradientNorm(parameters).attach(engine)
        GradientNorm(parameters, float("inf")).attach(engine, "greatest")
        assert engine.run([1]).metrics == {"gradient_norm": 5.0, "greatest": 4.0}

    def test_event(self):
        """The event can be chosen, with a filter."""
        model = nn.Linear(2, 1)
        trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), mse)
        GradientNorm(model).attach(trainer, event_name=OptimizerEvents.OPTIMIZER_STEP_COMPLETED(every=2))
        batch = (torch.ones(1, 2), torch.ones(1, 1))
        assert trainer.run([batch]).metrics == {}
        trainer.run([batch], max_epochs=2)
        assert set(trainer.state.metrics) == {"gradient_norm"}

    def test_invalid(self):
        """A norm that is not positive and objects that are no tensors are refused."""
        with pytest.raises(ValueError, match="norm_type must be positive, got 0"):
            GradientNorm([], 0)
        with pytest.raises(TypeError, match="got an object of type str among them"):
            GradientNorm(["weight"])


class TestLearningRate:
    def test_of_the_step(self):
        """The value is the learning rate of the step that follows, also with a scheduler in the step."""
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        trainer = create_supervised_trainer(
            model, optimizer, mse, lr_scheduler=torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        )
        LearningRate(optimizer).attach(trainer)
        found = []
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: found.append(engine.state.metrics["lr"])
        )
        trainer.run([(torch.zeros(1, 2), torch.zeros(1, 1))] * 3)
        assert found == [1.0, 0.5, 0.25]

    def test_groups_and_options(self):
        """Several parameter groups are numbered, and any option of them can be published under any name."""
        optimizer = torch.optim.SGD(
            [
                {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.1, "momentum": 0.5},
                {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.2, "momentum": 0.9},
            ]
        )
        fake = FakeEngine()
        LearningRate(optimizer).attach(fake)
        LearningRate(optimizer, "momentum").attach(fake, "m")
        fake.fire_event(Events.ITERATION_STARTED)
        assert fake.state.metrics == {"lr/0": 0.1, "lr/1": 0.2, "m/0": 0.5, "m/1": 0.9}

    def test_invalid(self):
        """An object without parameter groups and an unknown option are refused, with the known options."""
        with pytest.raises(TypeError, match="needs an optimizer with param_groups, got 3"):
            LearningRate(3)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        with pytest.raises(ValueError, match=r"no option 'momentun'; they have .*momentum"):
            LearningRate(optimizer, "momentun")


class TestDeviceUsage:
    def test_memory_of_the_process(self):
        """The memory of the process grows with a large tensor by about its size."""
        engine, kept, found = Engine(lambda engine, batch: kept.append(torch.ones(64 * 2**18))), [], []
        DeviceUsage().attach(engine, "usage/", event_name=Events.STARTED | Events.COMPLETED)
        engine.add_event_handler(
            Events.STARTED, lambda engine: found.append(engine.state.metrics["usage/process_memory"])
        )
        found.append(engine.run([1]).metrics["usage/process_memory"])
        assert 50 < found[1] - found[0] < 200

    def test_device(self):
        """A device that is not a CUDA device is refused."""
        with pytest.raises(ValueError, match="device must be a CUDA device such as 'cuda:0', got 'cpu'"):
            DeviceUsage("cpu")


class TestModelSummary:
    def test_table(self, capsys):
        """The table shows the layers, their parameters and the shapes of their outputs, and leaves the model as it is."""
        model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        engine = Engine(lambda engine, batch: None)
        ModelSummary(model, input_size=(3, 8)).attach(engine)
        engine.run([1])
        shown = capsys.readouterr().out
        assert all(text in shown for text in ("Linear", "[3, 4]", "[3, 2]", "Total params: 54"))
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_without_shapes(self):
        """Without an input, the table has no shapes, and the model is not called."""
        shown = []
        ModelSummary(nn.LSTM(3, 2), show=shown.append).print()
        assert "LSTM" in shown[0]
        assert "Output Shape" not in shown[0]

    def test_invalid_depth(self):
        """A depth below 1 is refused."""
        with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
            ModelSummary(nn.Linear(1, 1), depth=0)
