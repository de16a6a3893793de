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
            heavy=["tqdm", "rich"],
        )


class TestLines(HandlerContract):
    @pytest.fixture(params=["tqdm", "rich"])
    def case(self, request):
        """Bars of each style with lines of epochs that mark the best value."""
        return HandlerCase(
            make=lambda: ProgressBar(
                style=request.param, epoch_lines=True, best="accuracy", file=io.StringIO()
            ),
            attach=lambda handler, engine: handler.attach(engine, ["accuracy"]),
            metrics={"accuracy": 0.5},
            plugin="glowplug_progress._plugin",
            heavy=["tqdm", "rich"],
        )
