"""TerminateOnNan keeps the contract of handlers."""

import pytest

from glowplug_terminate_on_nan import TerminateOnNan
from glowplug_testing import HandlerCase, HandlerContract


class TestTerminateOnNan(HandlerContract):
    @pytest.fixture
    def case(self):
        """One that finds nothing."""
        return HandlerCase(
            make=TerminateOnNan,
            output={"loss": 0.5},
            plugin="glowplug_terminate_on_nan._plugin",
            heavy=["torch"],
        )


class TestWhenItFindsOne(HandlerContract):
    @pytest.fixture
    def case(self):
        """One that ends the run at once."""
        return HandlerCase(make=TerminateOnNan, output=[0.5, float("nan")])
