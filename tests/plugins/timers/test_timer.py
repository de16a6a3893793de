"""Timer: what it measures, what a resumed run adds, and its state."""

import time

import pytest
import torch
from torch import nn

import glowplug_timers.timer
from glowplug import Engine, Events
from glowplug.testing import FakeEngine
from glowplug_timers import Timer


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests advance: ``clock[0] += seconds``."""
    now = [100.0]
    monkeypatch.setattr(glowplug_timers.timer, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def trainer(clock):
    """An engine whose step takes 2 seconds, and each of whose epochs ends with a handler that takes 10 seconds."""

    def step(engine, batch):
        clock[0] += 2.0

    def evaluate():
        clock[0] += 10.0

    trainer = Engine(step)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, evaluate)
    return trainer


class TestValue:
    def test_by_hand(self, clock):
        """A timer runs from its creation, and can be paused, resumed and reset without an engine (H-091)."""
        timer = Timer()
        clock[0] += 1.0
        assert (timer.value(), timer.running) == (1.0, True)
        timer.pause()
        clock[0] += 5.0
        timer.pause()
        timer.resume()
        clock[0] += 2.0
        timer.resume()
        assert (timer.value(), timer.total) == (3.0, 1.0)
        assert timer.reset() is timer
        assert (timer.value(), timer.total, timer.step_count) == (0.0, 0.0, 0.0)

    def test_average(self, clock):
        """With average, the value is the time per step; without a step, it is the total (H-091)."""
        timer = Timer(average=True)
        clock[0] += 6.0
        assert timer.value() == 6.0
        timer.step()
        timer.step()
        assert (timer.value(), timer.step_count) == (3.0, 2.0)

    def test_events(self, trainer):
        """Events start, pause and resume timers: of the run, of a step, and of the epochs without their evaluation (H-091)."""
        total, step, epochs = Timer(), Timer(average=True), Timer()
        total.attach(trainer)
        step.attach(
            trainer,
            resume=Events.ITERATION_STARTED,
            pause=Events.ITERATION_COMPLETED,
            step=Events.ITERATION_COMPLETED,
        )
        epochs.attach(trainer, resume=Events.EPOCH_STARTED, pause=Events.ITERATION_COMPLETED(every=3))
        trainer.run(range(3), max_epochs=2)
        assert (total.value(), step.value(), epochs.value()) == (32.0, 2.0, 12.0)

    def test_methods_as_handlers(self, trainer):
        """The methods can be registered as handlers (H-091)."""
        timer = Timer()
        trainer.add_event_handler(Events.EPOCH_STARTED, timer.reset)
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), timer.pause)
        trainer.run(range(3))
        assert timer.value() == 4.0

    def test_real_time(self):
        """A timer of a real training measures real time (H-091)."""
        model, timer = nn.Linear(2, 1), Timer()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def step(engine, batch):
            time.sleep(0.01)
            optimizer.zero_grad()
            model(batch).sum().backward()
            optimizer.step()

        trainer = Engine(step)
        timer.attach(trainer)
        began = time.perf_counter()
        trainer.run(torch.ones(5, 1, 2))
        assert 0.05 <= timer.value() <= time.perf_counter() - began


class TestRuns:
    def test_exception(self, trainer, clock):
        """The end of a run pauses the timer, even after an exception (H-091)."""
        timer = Timer()
        timer.attach(trainer)
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.run(range(3))
        clock[0] += 100.0
        assert timer.value() == 4.0

    def test_new_and_continued_run(self, trainer, clock):
        """A run that continues adds to the total; a new run begins at zero (H-091)."""
        timer = Timer()
        timer.attach(trainer)
        trainer.run(range(3), max_epochs=1)
        clock[0] += 100.0
        trainer.run(range(3), max_epochs=2)
        assert timer.value() == 32.0
        trainer.state.max_epochs = None
        trainer.run(range(1), max_epochs=1)
        assert timer.value() == 12.0

    def test_resumed_run(self, trainer, clock):
        """The state of a timer is part of the engine's state, and a resumed run adds to it (H-091)."""
        timers = Timer(), Timer(average=True)
        events = {"resume": Events.ITERATION_STARTED, "step": Events.ITERATION_COMPLETED}
        timers[0].attach(trainer)
        timers[1].attach(trainer, pause=Events.ITERATION_COMPLETED, **events)
        states = []
        trainer.add_event_handler(
            Events.EPOCH_COMPLETED(once=1), lambda engine: states.append(engine.state_dict())
        )
        trainer.run(range(3), max_epochs=2)
        assert states[0]["handlers"] == {
            "Timer": {"total": 16.0, "step_count": 0.0},
            "Timer#2": {"total": 6.0, "step_count": 3.0},
        }
        clock[0] += 100.0
        others = Timer(), Timer(average=True)
        resumed = Engine(trainer._process_function)

        @resumed.on(Events.EPOCH_STARTED)
        def prepare():
            clock[0] += 50.0

        others[0].attach(resumed)
        others[1].attach(resumed, pause=Events.ITERATION_COMPLETED, **events)
        resumed.load_state_dict(states[0])
        clock[0] += 100.0
        resumed.run(range(3), max_epochs=2)
        assert [timer.value() for timer in others] == [72.0, 2.0]

    def test_state_without_a_timer(self, clock):
        """A timer that is attached to a run that was saved without it begins at zero."""
        timer, fake = Timer(), FakeEngine()
        timer.attach(fake)
        fake.load_state_dict({"handlers": {}})
        clock[0] += 100.0
        fake.fire(Events.STARTED)
        clock[0] += 1.0
        assert timer.value() == 1.0
