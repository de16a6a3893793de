"""Tests of TimeLimit: the contract of glowplug's test kit, events of a fake engine, and real runs."""

import pytest
from acme_glowplug_time_limit import TimeLimit, TimeLimitEvents

from glowplug import Engine, Events, RunOutcome, RunStart
from glowplug.testing import FakeEngine
from glowplug_testing import HandlerCase, HandlerContract


class Clock:
    """Clock that the tests set."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """Return a clock."""
    return Clock()


class TestTimeLimit(HandlerContract):
    @pytest.fixture
    def case(self):
        """Describe how to create a handler."""
        return HandlerCase(make=lambda: TimeLimit(3600), plugin="acme_glowplug_time_limit._plugin")


def test_limit(clock):
    """The handler terminates the run at the first iteration after the limit, and fires its event once."""
    engine, reached = FakeEngine(), []
    TimeLimit(10, clock).attach(engine)
    engine.add_event_handler(TimeLimitEvents.REACHED, lambda engine: reached.append(engine.state.iteration))
    engine.fire(Events.STARTED)
    for iteration, seconds in enumerate((4, 5), 1):
        clock.now += seconds
        assert not engine.fire(Events.ITERATION_COMPLETED, iteration=iteration).terminated
    clock.now += 1
    assert engine.fire(Events.ITERATION_COMPLETED, iteration=3).terminated
    engine.fire(Events.ITERATION_COMPLETED, iteration=4)
    assert reached == [3]


def test_time_between_runs_does_not_count(clock):
    """A continued run has the rest of the time; a new run has all of it."""
    engine, limit = FakeEngine(), TimeLimit(10, clock)
    limit.attach(engine)
    engine.fire(Events.STARTED)
    clock.now += 6
    engine.fire(Events.ITERATION_COMPLETED, iteration=1)
    clock.now += 1000
    engine.fire(Events.STARTED, run_start=RunStart.CONTINUED)
    clock.now += 3
    assert not engine.fire(Events.ITERATION_COMPLETED, iteration=2).terminated
    assert limit.elapsed == 9
    engine.fire(Events.STARTED, run_start=RunStart.NEW)
    assert limit.elapsed == 0


def test_resumed_run(clock):
    """The state of the engine contains the elapsed time, so a resumed run ends after the rest of it."""

    def step(engine, batch):
        clock.now += 1

    def make():
        trainer = Engine(step)
        TimeLimit(5, clock).attach(trainer)
        return trainer

    first = make()
    first.run(range(3))
    second = make()
    second.load_state_dict(first.state_dict())
    state = second.run(range(3), max_epochs=10)
    assert (state.iteration, state.outcome) == (5, RunOutcome.TERMINATED)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_wrong_limits(seconds):
    """A limit that is not positive is refused with its value."""
    with pytest.raises(ValueError, match=f"must be positive, got {seconds}"):
        TimeLimit(seconds)
