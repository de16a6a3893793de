"""EarlyStopping keeps the contract of handlers."""

import pytest

from glowplug import Events
from glowplug_early_stopping import EarlyStopping
from glowplug_testing import HandlerCase, HandlerContract


class TestEarlyStopping(HandlerContract):
    @pytest.fixture
    def case(self):
        """One that stops the trainer after two epochs without an improvement."""
        return HandlerCase(
            make=lambda: EarlyStopping(patience=1, score_function="accuracy"),
            attach=lambda handler, engine: handler.attach(engine, Events.EPOCH_COMPLETED),
            metrics={"accuracy": 0.5},
            plugin="glowplug_early_stopping._plugin",
        )


class TestAtCompleted(HandlerContract):
    @pytest.fixture
    def case(self):
        """One at its own event, where the score is an evaluator's."""
        return HandlerCase(make=lambda: EarlyStopping(3, "accuracy"), metrics={"accuracy": 0.5})
