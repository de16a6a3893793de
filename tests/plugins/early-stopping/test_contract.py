"""The handler contract, applied to EarlyStopping."""

import pytest

from glowplug import Events
from glowplug_early_stopping import EarlyStopping
from glowplug_testing import HandlerCase, HandlerContract


class TestEarlyStopping(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler that stops the trainer at its first epoch without an improvement."""
        return HandlerCase(
            make=lambda: EarlyStopping(patience=1, score_function="accuracy"),
            attach=lambda handler, engine: handler.attach(engine, Events.EPOCH_COMPLETED),
            metrics={"accuracy": 0.5},
            plugin="glowplug_early_stopping._plugin",
        )


# The checks run the evaluator without a trainer.
@pytest.mark.filterwarnings("ignore:EarlyStopping cannot stop the trainer at COMPLETED")
class TestAtCompleted(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler at its default event, as attached to an evaluator."""
        return HandlerCase(make=lambda: EarlyStopping(3, "accuracy"), metrics={"accuracy": 0.5})
