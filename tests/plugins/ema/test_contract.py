"""The handler contract, applied to EMAHandler and SWAHandler."""

import pytest
import torch
from torch import nn

from glowplug import Events
from glowplug_ema import EMAHandler, SWAHandler
from glowplug_testing import HandlerCase, HandlerContract


def model():
    """Return a model with parameters, averages and a counter."""
    # The checks do not allow a handler to draw random numbers.
    with torch.random.fork_rng():
        return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


# A check attaches two handlers to one engine, with the same attribute.
@pytest.mark.filterwarnings("ignore:EMAHandler. Attribute 'ema_momentum' already exists")
class TestEMAHandler(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler that warms up."""
        return HandlerCase(
            make=lambda: EMAHandler(model(), momentum=0.1, momentum_warmup=0.5, warmup_iters=4),
            plugin="glowplug_ema._plugin",
        )


class TestSWAHandler(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler that averages from the second epoch on."""
        return HandlerCase(make=lambda: SWAHandler(model(), start_epoch=2))


class TestSWAHandlerAtIterations(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler that averages at iterations."""
        return HandlerCase(
            make=lambda: SWAHandler(model(), start_iteration=3, handle_buffers="update"),
            attach=lambda handler, engine: handler.attach(engine, Events.ITERATION_COMPLETED),
        )
