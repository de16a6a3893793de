"""TimeLimit: its options, when it stops a run, and what a resumed run counts."""

import logging
import re
import time

import numpy as np
import pytest

from glowplug import Engine, Events, RunOutcome
from glowplug.testing import FakeEngine
from glowplug_timers import TimeLimit


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests advance: ``clock[0] += seconds``."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def trainer(clock):
    """An engine whose step takes 2 seconds."""

    def step(engine, batch):
        clock[0] += 2.0

    return Engine(step)


class TestLimit:
    @pytest.mark.parametrize(
        ("limit", "seconds"),
        [
            (TimeLimit(), 28800),
            (TimeLimit(10), 10),
            (TimeLimit(0.5), 0.5),
            (TimeLimit(np.float32(0.5)), 0.5),
            (TimeLimit(minutes=1.5), 90),
            (TimeLimit(hours=2, minutes=30, limit_sec=1), 9001),
        ],
    )
    def test_units(self, limit, seconds):
        """The limit is a number of seconds, minutes and hours, and 8 hours by default (H-090)."""
        assert limit.limit_sec == seconds

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"limit_sec": "abc"}, TypeError, "limit_sec must be a number, got 'abc'"),
            ({"hours": [1]}, TypeError, "hours must be a number, got [1]"),
            ({"limit_sec": -5}, ValueError, "must be positive and finite, got -5 seconds"),
            ({"minutes": 0}, ValueError, "got 0 seconds"),
            ({"limit_sec": float("nan")}, ValueError, "got nan seconds"),
            ({"limit_sec": float("inf")}, ValueError, "got inf seconds"),
        ],
    )
    def test_wrong_limit(self, options, error, message):
        """A limit that is not a positive number is refused (H-090)."""
        with pytest.raises(error, match=re.escape(message)):
            TimeLimit(**options)

    @pytest.mark.parametrize("how", ["attach", "handler", "engine"])
    def test_stops(self, trainer, clock, how, caplog):
        """The run ends at the first check after the limit, however the handler is added (H-090)."""
        limit = TimeLimit(7)
        if how == "attach":
            limit.attach(trainer, event_name=Events.ITERATION_COMPLETED)
        elif how == "handler":
            trainer.add_event_handler(Events.ITERATION_COMPLETED, limit)
        else:
            trainer.attach(limit)
        with caplog.at_level(logging.INFO, "glowplug_timers"):
            state = trainer.run(range(20))
        assert (state.iteration, state.outcome) == (4, RunOutcome.TERMINATED)
        assert caplog.messages == [
            "iteration 4: the time limit of 7 seconds is exceeded; the run is terminated"
        ]

    def test_clock(self, trainer, clock):
        """The clock starts when the handler is created, and a new value of limit_sec takes effect (H-090)."""
        limit = TimeLimit(10)
        assert limit.start_time == 100.0
        limit.attach(trainer)
        clock[0] += 5.0
        assert trainer.run(range(20)).iteration == 3
        limit.limit_sec = 20
        assert trainer.run(range(20), max_epochs=2).outcome is RunOutcome.TERMINATED
        assert clock[0] == 121.0

    def test_completed(self, trainer):
        """A run within the limit completes (H-090)."""
        trainer.attach(TimeLimit(100))
        assert trainer.run(range(5)).outcome is RunOutcome.COMPLETED


class TestResumed:
    @pytest.mark.parametrize(("counts", "iteration"), [(False, 9), (True, 6)])
    def test_earlier_runs(self, clock, counts, iteration):
        """The time of earlier runs counts only with count_earlier_runs (H-090)."""

        def resume(state=None):
            engine = Engine(lambda engine, batch: clock.__setitem__(0, clock[0] + 2.0))
            TimeLimit(11, count_earlier_runs=counts).attach(engine)
            if state is not None:
                engine.load_state_dict(state)
            return engine

        first = resume()
        first.run(range(20), max_iters=3)
        state = first.state_dict()
        assert state["handlers"] == {"TimeLimit": {"elapsed_sec": 6.0}}
        clock[0] += 1000.0
        second = resume(state)
        assert second.run(range(20), max_iters=20).iteration == iteration
        assert second.state_dict()["handlers"]["TimeLimit"]["elapsed_sec"] == 6.0 + 2.0 * (iteration - 3)


def test_ranks(run_ranks):
    """The clock of rank 0 decides for both ranks, which stop at the same iteration (H-090)."""

    def ranks(rank):
        import time

        from glowplug import Engine
        from glowplug_timers import TimeLimit

        engine = Engine(lambda engine, batch: time.sleep(0.001 * (1 + rank)))
        TimeLimit(0.2 + rank).attach(engine)
        state = engine.run(range(5000))
        return [state.outcome.name, state.iteration]

    first, second = run_ranks(ranks)
    assert first == second
    assert first[0] == "TERMINATED"


def test_fake_engine(clock):
    """The handler needs no loop."""
    fake = FakeEngine()
    fake.attach(TimeLimit(minutes=1))
    assert not fake.fire(Events.ITERATION_COMPLETED).terminated
    clock[0] += 61.0
    assert fake.fire(Events.ITERATION_COMPLETED).terminated
