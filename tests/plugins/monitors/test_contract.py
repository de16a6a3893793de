"""The handler contract, applied to each monitor."""

import pytest
import torch

from glowplug import Events
from glowplug_monitors import DataWait, DeviceUsage, GradientNorm, LearningRate, ModelSummary, Throughput
from glowplug_testing import HandlerCase, HandlerContract

MODEL = torch.nn.Linear(2, 1)
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), lr=0.1)
PLUGIN = "glowplug_monitors._plugin"


class TestThroughput(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler that counts one item per batch, whatever the batch is."""
        return HandlerCase(make=lambda: Throughput(lambda batch: 1), plugin=PLUGIN)


class TestDataWait(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler with the default window."""
        return HandlerCase(make=DataWait, plugin=PLUGIN)


class TestGradientNorm(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler on an engine without the events of an optimizer step."""
        return HandlerCase(
            make=lambda: GradientNorm(MODEL),
            attach=lambda handler, engine: handler.attach(engine, event_name=Events.ITERATION_COMPLETED),
            plugin=PLUGIN,
        )


class TestLearningRate(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler for an optimizer with one parameter group."""
        return HandlerCase(make=lambda: LearningRate(OPTIMIZER), plugin=PLUGIN)


class TestDeviceUsage(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler at its default event."""
        return HandlerCase(make=DeviceUsage, plugin=PLUGIN)


class TestModelSummary(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler that prints to a list."""
        return HandlerCase(make=lambda: ModelSummary(MODEL, show=[].append), plugin=PLUGIN)
