"""The handler contract, applied to ProgressBar."""

import io

import pytest

from glowplug_progress import ProgressBar
from glowplug_testing import HandlerCase, HandlerContract


class TestProgressBar(HandlerContract):
    @pytest.fixture
    def case(self):
        """A bar that shows metrics and the output."""
        return HandlerCase(
            make=lambda: ProgressBar(file=io.StringIO()),
            attach=lambda handler, engine: handler.attach(engine, "all", lambda output: {"loss": output}),
            metrics={"accuracy": 0.5},
            plugin="glowplug_progress._plugin",
            heavy=["tqdm"],
        )
