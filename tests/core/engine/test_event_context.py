"""The event context: current_event, run_start, the stash and registrations()."""

from __future__ import annotations

import copy
import pickle

import pytest

from glowplug import Engine, Events, Phase, RunStart, StashKey
from glowplug.testing import FakeEngine


def step(engine, batch):
    """Return the batch, as a function that can be pickled."""
    return batch


def pass_by(engine):
    """Do nothing."""


class TestCurrentEvent:
    def test_is_none_outside_of_handlers(self, identity):
        """The current event is None before a run, in the step and after the run."""
        seen = []
        engine = Engine(lambda engine, batch: seen.append(engine.current_event))
        engine.add_event_handler(Events.ITERATION_STARTED, lambda: None)
        seen.append(engine.current_event)
        engine.run([1])
        seen.append(engine.current_event)
        assert seen == [None, None, None]

    @pytest.mark.parametrize(
        "event", [Events.STARTED, Events.ITERATION_COMPLETED(every=2), Events.COMPLETED, Events.TEARDOWN]
    )
    def test_is_the_event_in_a_handler(self, identity, event):
        """A handler sees the unfiltered event that it was called for."""
        seen = []
        identity.add_event_handler(event, lambda e: seen.append(e.current_event))
        identity.run([1, 2])
        assert seen == [getattr(event, "event", event)]

    @pytest.mark.parametrize("filtered", [False, True])
    def test_is_restored_after_a_nested_event(self, identity, filtered):
        """Handlers that run after a nested fire_event() see the outer event."""
        seen = []
        identity.register_events("saved")
        identity.add_event_handler("saved", lambda e: seen.append(e.current_event))
        event = Events.EPOCH_COMPLETED(every=1) if filtered else Events.EPOCH_COMPLETED
        identity.add_event_handler(event, lambda e: e.fire_event("saved"))
        identity.add_event_handler(event, lambda e: seen.append((e.current_event, e.last_event_name)))
        identity.run([1])
        assert seen == ["saved", (Events.EPOCH_COMPLETED, Events.EPOCH_COMPLETED)]

    def test_is_restored_after_a_nested_event_that_raises(self, identity):
        """A failing handler of a nested event leaves the outer event as current_event."""
        seen = []
        identity.register_events("saved")
        identity.add_event_handler("saved", lambda: 1 / 0)

        @identity.on(Events.EPOCH_COMPLETED)
        def fire(engine):
            with pytest.raises(ZeroDivisionError):
                engine.fire_event("saved")
            seen.append(engine.current_event)

        identity.run([1])
        assert seen == [Events.EPOCH_COMPLETED]
        assert identity.current_event is None

    def test_is_the_event_of_a_failure(self):
        """EXCEPTION_RAISED handlers see that event, and it is None after the run."""
        engine, seen = Engine(lambda engine, batch: 1 / 0), []
        engine.add_event_handler(Events.EXCEPTION_RAISED, lambda e, error: seen.append(e.current_event))
        with pytest.raises(ZeroDivisionError):
            engine.run([1])
        assert (seen, engine.current_event) == ([Events.EXCEPTION_RAISED], None)


class TestCurrentEventOfFakeEngine:
    def test_is_restored_after_a_nested_event(self):
        """A handler that fires another event reads its own event afterwards, on a fake engine as well."""
        engine, seen = FakeEngine(), []
        engine.add_event_handler(Events.COMPLETED, lambda: None)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.fire(Events.COMPLETED))
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(e.current_event))
        engine.fire(Events.EPOCH_COMPLETED, epoch=1)
        assert seen == [Events.EPOCH_COMPLETED]
        assert engine.current_event is None

    def test_is_none_after_a_failure(self):
        """A handler that raises leaves no current event behind."""
        engine = FakeEngine()
        engine.add_event_handler(Events.STARTED, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.fire(Events.STARTED)
        assert engine.current_event is None


class TestRunStart:
    def test_new_then_continued(self, identity):
        """A first run is NEW, a run with a higher limit CONTINUED, and a run after completion NEW again."""
        seen = []
        identity.add_event_handler(Events.STARTED, lambda e: seen.append(e.state.run_start))
        identity.run([1], max_epochs=1)
        identity.run([1], max_epochs=2)
        identity.run([1], max_epochs=2)
        assert seen == [RunStart.NEW, RunStart.CONTINUED, RunStart.NEW]

    def test_loaded(self, identity):
        """The first run after load_state_dict() is LOADED, even at iteration 0; the next one is not."""
        seen = []
        identity.add_event_handler(Events.STARTED, lambda e: seen.append(e.state.run_start))
        identity.load_state_dict({"epoch_length": 1, "iteration": 0, "max_epochs": 1})
        identity.run([1])
        identity.run([1], max_epochs=2)
        assert seen == [RunStart.LOADED, RunStart.CONTINUED]

    def test_fake_engine_derives_it(self):
        """FakeEngine derives run_start from the iteration and loads unless the test sets it."""
        fake, seen = FakeEngine(), []
        fake.add_event_handler(Events.STARTED, lambda e: seen.append(e.state.run_start))
        fake.fire(Events.STARTED).fire(Events.STARTED, iteration=3)
        fake.load_state_dict(fake.state_dict())
        fake.fire(Events.STARTED).fire(Events.STARTED, run_start=RunStart.NEW)
        assert seen == [RunStart.NEW, RunStart.CONTINUED, RunStart.LOADED, RunStart.NEW]


class TestStash:
    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
    def test_is_not_copied(self, duplicate):
        """Deep copies and pickles of an engine have an empty, independent stash."""
        key, engine = StashKey[int](), Engine(step)
        engine.stash[key] = 1
        other = duplicate(engine)
        assert key not in other.stash
        other.stash[key] = 2
        assert engine.stash[key] == 1

    def test_unknown_key(self):
        """A missing key raises a KeyError, and get() returns its default."""
        key, stash = StashKey[int](), FakeEngine().stash
        with pytest.raises(KeyError):
            stash[key]
        assert (stash.get(key), stash.get(key, 3), stash.setdefault(key, 4), stash[key]) == (None, 3, 4, 4)


class TestRegistrations:
    @pytest.mark.parametrize("make", [lambda: Engine(step), FakeEngine])
    def test_are_in_calling_order(self, make):
        """registrations() yields event, handler, filter and phase in calling order."""
        engine = make()

        class Save:
            phase = Phase.CHECKPOINT

            def __call__(self): ...

        save = Save()
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), save)
        engine.add_event_handler(Events.EPOCH_COMPLETED, pass_by)
        first, second = engine.registrations()
        assert (first.event, first.handler, first.filter, first.phase) == (
            Events.EPOCH_COMPLETED, pass_by, None, Phase.USER,
        )  # fmt: skip
        assert (second.handler, str(second.filter), second.phase) == (save, "every=2", Phase.CHECKPOINT)
