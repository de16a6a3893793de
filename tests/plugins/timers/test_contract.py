"""The handler contract, applied to the timers and profilers."""

import tempfile
from functools import partial

import pytest

from glowplug import Events
from glowplug_testing import HandlerCase, HandlerContract
from glowplug_timers import BasicTimeProfiler, HandlersTimeProfiler, ProfilerHandler, TimeLimit, Timer

PLUGIN = "glowplug_timers._plugin"


class TestTimer(HandlerContract):
    @pytest.fixture
    def case(self):
        """A timer of the run."""
        return HandlerCase(make=Timer, plugin=PLUGIN)


class TestTimerOfSteps(HandlerContract):
    @pytest.fixture
    def case(self):
        """A timer of the average step."""
        events = {
            "resume": Events.ITERATION_STARTED,
            "pause": Events.ITERATION_COMPLETED,
            "step": Events.ITERATION_COMPLETED,
        }
        return HandlerCase(
            make=partial(Timer, average=True), attach=lambda timer, engine: timer.attach(engine, **events)
        )


class TestTimeLimit(HandlerContract):
    @pytest.fixture
    def case(self):
        """A limit that is not reached."""
        return HandlerCase(make=partial(TimeLimit, hours=1), plugin=PLUGIN)


class TestTimeLimitReached(HandlerContract):
    @pytest.fixture
    def case(self):
        """A limit that is exceeded at the first check."""
        return HandlerCase(make=partial(TimeLimit, 1e-9))


class TestBasicTimeProfiler(HandlerContract):
    @pytest.fixture
    def case(self):
        """A profiler of events."""
        return HandlerCase(make=BasicTimeProfiler, plugin=PLUGIN)


class TestHandlersTimeProfiler(HandlerContract):
    @pytest.fixture
    def case(self):
        """A profiler of handlers."""
        return HandlerCase(make=HandlersTimeProfiler, plugin=PLUGIN)


class TestProfilerHandler(HandlerContract):
    @pytest.fixture
    def case(self, tmp_path):
        """A handler that records in each run."""
        folder = tempfile.mkdtemp(dir=tmp_path)
        return HandlerCase(
            make=partial(ProfilerHandler, folder, wait=0, active=1),
            plugin=PLUGIN,
            heavy=["torch"],
            seconds_per_event=10.0,
        )
