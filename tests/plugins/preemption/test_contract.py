"""The handler contract, applied to Preemption."""

import pytest

from glowplug_preemption import Preemption
from glowplug_testing import HandlerCase, HandlerContract


class TestPreemption(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler that receives the default signals."""
        return HandlerCase(make=Preemption, plugin="glowplug_preemption._plugin", heavy=["torch"])


class TestTimeLimit(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler with a time limit that is not reached."""
        return HandlerCase(make=lambda: Preemption([], max_minutes=60))
