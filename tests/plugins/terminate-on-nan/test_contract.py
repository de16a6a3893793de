"""The handler contract, applied to TerminateOnNan."""

import pytest

from glowplug_terminate_on_nan import TerminateOnNan
from glowplug_testing import HandlerCase, HandlerContract


class TestTerminateOnNan(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler whose engine has a finite output."""
        return HandlerCase(
            make=TerminateOnNan,
            output={"loss": 0.5},
            plugin="glowplug_terminate_on_nan._plugin",
            heavy=["torch"],
        )


class TestNotFinite(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler that stops the run at its first check."""
        return HandlerCase(make=TerminateOnNan, output=[0.5, float("nan")])
