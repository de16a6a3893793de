"""state_dict() and load_state_dict(): counters, limits, user keys and handler state."""

from __future__ import annotations

import copy
import functools
import random
from unittest.mock import MagicMock

import pytest

from glowplug import Engine, Events, RunOutcome
from glowplug.testing import FakeEngine


@pytest.fixture
def loaded():
    """Return a function that loads a state into a new engine."""

    def load(**state):
        engine = Engine(lambda engine, batch: batch)
        engine.load_state_dict(state)
        return engine

    return load


class Counter:
    """A stateful handler that counts iterations."""

    def __init__(self):
        self.count = 0

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        return engine.register_state("Counter", self)

    def __call__(self):
        self.count += 1

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class TestStateDict:
    @pytest.mark.parametrize(("limit", "value"), [("max_epochs", 3), ("max_iters", 6)])
    def test_keys(self, limit, value, identity):
        """The state holds epoch_length, iteration, the limit and the user's keys, but no epoch, metrics or seed (E-180)."""
        identity.state_dict_user_keys.append("alpha")
        identity.state.alpha = 0.1
        identity.run([1, 2], **{limit: value})
        state = identity.state_dict()
        assert list(state)[:4] == ["epoch_length", "iteration", limit, "alpha"]
        assert [state[key] for key in ("epoch_length", "iteration", limit, "alpha")] == [2, 6, value, 0.1]
        assert not {"epoch", "metrics", "seed"} & set(state)

    def test_new_engine(self, identity):
        """The state of an engine that has not run can be loaded (E-180)."""
        other = Engine(lambda engine, batch: batch)
        other.load_state_dict(identity.state_dict())
        assert other.run([1, 2]).iteration == 2

    def test_missing_user_key(self, identity):
        """A user key that is not in the state raises an AttributeError that names the key (E-180)."""
        identity.state_dict_user_keys.append("alpha")
        with pytest.raises(AttributeError, match="alpha"):
            identity.state_dict()


class TestValidation:
    @pytest.mark.parametrize("state", [None, [("epoch_length", 1)], 5])
    def test_not_a_mapping(self, state, identity):
        """load_state_dict() accepts mappings only (E-181)."""
        with pytest.raises(TypeError, match="an engine's state must be a mapping, got"):
            identity.load_state_dict(state)

    @pytest.mark.parametrize(
        ("state", "group"),
        [
            ({"iteration": 0, "max_epochs": 1}, "'epoch_length'"),
            ({"epoch_length": 1, "max_epochs": 1}, "'iteration' or 'epoch', but not both"),
            (
                {"epoch_length": 1, "iteration": 0, "epoch": 0, "max_epochs": 1},
                "'iteration' or 'epoch', but not both",
            ),
            ({"epoch_length": 1, "iteration": 0}, "'max_epochs' or 'max_iters', but not both"),
            (
                {"epoch_length": 1, "iteration": 0, "max_epochs": 1, "max_iters": 1},
                "'max_epochs' or 'max_iters', but not both",
            ),
        ],
    )
    def test_exactly_one_of_each_group(self, state, group, identity):
        """epoch_length, one counter and one limit are required; the message names the group and the keys (E-181)."""
        with pytest.raises(ValueError, match=rf"must contain {group}; got the keys \["):
            identity.load_state_dict(state)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"epoch": 3}, "state at epoch 3 must have a max_epochs of at least 3, got max_epochs=2"),
            ({"epoch": -1}, "epoch of an engine's state must be an integer of at least 0, got -1"),
            ({"epoch": None}, "epoch of .* at least 0, got None"),
            ({"epoch_length": 0}, "epoch_length of .* at least 1, got 0"),
            ({"epoch_length": "5"}, "epoch_length of .* at least 1, got '5'"),
            ({"max_epochs": 0}, "max_epochs of .* at least 1, got 0"),
        ],
    )
    def test_invalid_numbers(self, wrong, message, loaded):
        """load_state_dict() refuses invalid numbers, and the message names key and value (E-183)."""
        with pytest.raises(ValueError, match=message):
            loaded(**{"epoch_length": 5, "epoch": 1, "max_epochs": 2, **wrong})

    def test_max_iters_below_iteration(self, loaded):
        """load_state_dict() refuses max_iters below the iteration (E-183)."""
        with pytest.raises(
            ValueError, match="state at iteration 4 must have a max_iters of at least 4, got max_iters=3"
        ):
            loaded(epoch_length=5, iteration=4, max_iters=3)

    def test_user_keys(self, identity):
        """Keys in state_dict_user_keys are required and loaded; other keys are ignored (E-183)."""
        identity.state_dict_user_keys.append("alpha")
        state = {"epoch_length": 1, "iteration": 0, "max_epochs": 1}
        with pytest.raises(
            ValueError, match=r"no value for alpha, which engine\.state_dict_user_keys requires"
        ):
            identity.load_state_dict(state)
        identity.load_state_dict({**state, "alpha": 0.1, "other": 1})
        assert identity.state.alpha == 0.1
        assert not hasattr(identity.state, "other")

    @pytest.mark.parametrize(
        "wrong",
        [
            *({"epoch": 9}, {"max_epochs": 0}, {"epoch_length": 0}, {"iteration": 1}),
            *({"handlers": [1]}, {"resume": [1]}, {"resume": {"format": 1, "data": None}}),
        ],
        ids=lambda w: next(iter(w)),
    )
    def test_refused_state_changes_nothing(self, wrong, identity):
        """A refused load leaves the engine unchanged, and its run can continue."""
        identity.run([1, 2], max_epochs=2)
        with pytest.raises(ValueError, match="engine's state"):
            identity.load_state_dict({"epoch_length": 5, "epoch": 1, "max_epochs": 2, **wrong})
        state = identity.state
        assert (state.epoch, state.iteration, state.epoch_length, state.max_epochs) == (2, 4, 2, 2)
        assert identity.run([1, 2], max_epochs=3).iteration == 6


class TestHandlerState:
    def test_state_moves_to_another_engine(self, identity):
        """A stateful handler resumes in another engine, whether it is attached before or after the load."""
        identity.attach(Counter())
        identity.run([1, 2, 3], max_epochs=1)
        state = identity.state_dict()
        assert state["handlers"] == {"Counter": {"count": 3}}
        for attach_first in (True, False):
            engine, counter = Engine(lambda engine, batch: batch), Counter()
            if attach_first:
                engine.attach(counter)
            engine.load_state_dict(state)
            if not attach_first:
                engine.attach(counter)
            engine.run([1, 2, 3], max_epochs=2)
            assert counter.count == 6

    def test_state_of_detached_handler_is_kept(self, identity):
        """The state of a handler that is not attached survives a run and a second save."""
        identity.attach(Counter())
        identity.run([1])
        engine = Engine(lambda engine, batch: batch)
        engine.load_state_dict(identity.state_dict())
        engine.run([1], max_epochs=2)
        assert engine.state_dict()["handlers"] == {"Counter": {"count": 1}}

    def test_second_load_replaces_pending_state(self, identity):
        """A second load discards pending handler state of the first."""
        base = {"epoch_length": None, "iteration": 0, "max_epochs": None}
        identity.load_state_dict({**base, "handlers": {"Counter": {"count": 1}}})
        identity.load_state_dict(base)
        assert "handlers" not in identity.state_dict()

    def test_handler_refuses_its_state(self, identity):
        """A handler that fails to load its pending state is not registered, and the state stays pending."""
        identity.load_state_dict(
            {"epoch_length": None, "iteration": 0, "max_epochs": None, "handlers": {"Counter": {"wrong": 1}}}
        )
        with pytest.raises(
            ValueError, match=r"the state under 'Counter' in .* does not fit Counter: KeyError: 'count'"
        ):
            identity.register_state("Counter", Counter())
        assert identity.state_dict()["handlers"] == {"Counter": {"wrong": 1}}

    @pytest.mark.parametrize("wrong", [{}, {"other": 1}, None, [1]], ids=repr)
    def test_state_that_does_not_fit(self, identity, wrong):
        """The error names the handler, its key and the remedy; the engine is unchanged, and loads the corrected state."""
        identity.attach(Counter(), Counter())
        identity.run([1, 2, 3], max_epochs=2)
        state = {**identity.state_dict(), "max_epochs": 5}
        engine, second = Engine(lambda engine, batch: batch), Counter()
        engine.attach(Counter(), second)
        engine.run([1], max_epochs=1)
        before = engine.state_dict()
        with pytest.raises(
            ValueError, match=r"'Counter#2' in .* does not fit Counter: \w+Error: .*"
        ) as caught:
            engine.load_state_dict({**state, "handlers": {**state["handlers"], "Counter#2": wrong}})
        assert "del state_dict['handlers']['Counter#2']" in str(caught.value)
        after = engine.state_dict()
        assert (after["iteration"], after["max_epochs"], second.count) == (1, before["max_epochs"], 1)
        engine.load_state_dict(state)
        assert engine.run([1, 2, 3]).iteration == 15
        assert second.count == 15


class TestCounters:
    def test_epoch_or_iteration(self, loaded):
        """Epoch and iteration are derived from each other (E-182)."""
        state = loaded(epoch_length=5, epoch=2, max_epochs=4).state
        assert (state.iteration, state.epoch, state.max_epochs, state.max_iters) == (10, 2, 4, None)
        state = loaded(epoch_length=5, iteration=13, max_iters=20).state
        assert (state.iteration, state.epoch, state.max_epochs, state.max_iters) == (13, 2, None, 20)

    def test_unknown_length_requires_epoch_zero(self, loaded):
        """A state without epoch_length can be loaded at epoch 0 only (E-182)."""
        assert loaded(epoch_length=None, iteration=0, max_epochs=2).run([1, 2, 3]).iteration == 6
        with pytest.raises(ValueError, match="epoch_length=None must have epoch=0, got epoch=1"):
            loaded(epoch_length=None, epoch=1, max_epochs=2)

    def test_continues_at_the_next_epoch(self, loaded, batches):
        """A run continues a loaded epoch count with the next epoch (E-182)."""
        engine = loaded(epoch_length=3, epoch=1, max_epochs=3)
        epochs = batches(engine)
        started = []
        engine.add_event_handler(Events.EPOCH_STARTED, lambda e: started.append(e.state.epoch))
        engine.run([1, 2, 3])
        assert (epochs, started) == ([[1, 2, 3]] * 2, [2, 3])

    def test_handwritten_state_within_an_epoch(self, loaded, batches):
        """A handwritten state runs the rest of its epoch from the first batch of the data (E-184)."""
        engine = loaded(epoch_length=5, iteration=7, max_epochs=3)
        epochs = batches(engine)
        engine.run(range(5))
        assert epochs == [[0, 1, 2], [3, 4, 0, 1, 2]]

    def test_handwritten_state_keeps_its_position(self, loaded, batches):
        """A handwritten state that is loaded and saved again keeps its position within the epoch."""
        engine = loaded(epoch_length=5, iteration=7, max_epochs=2)
        engine.load_state_dict(engine.state_dict())
        epochs = batches(engine)
        engine.run(range(5))
        assert epochs == [[0, 1, 2]]


class TestFinishedRun:
    @pytest.mark.parametrize(
        ("position", "limit"), [({"epoch": 2}, {"max_epochs": 2}), ({"iteration": 5}, {"max_iters": 5})]
    )
    def test_loaded_finished_run_fires_no_iteration(self, position, limit, loaded, fired):
        """A loaded finished run fires STARTED, COMPLETED and TEARDOWN, and no iteration (E-185)."""
        engine = loaded(epoch_length=3, **position, **limit)
        names = fired(engine)
        before = engine.state.iteration
        engine.run([1, 2, 3], **limit)
        assert names == ["STARTED", "COMPLETED", "TEARDOWN"]
        assert engine.state.iteration == before
        engine.run([1, 2, 3], **limit)
        assert engine.state.iteration in {6, 5}
        assert names.count("ITERATION_COMPLETED") == engine.state.iteration

    def test_higher_limit_continues(self, loaded):
        """A higher limit continues a loaded finished run (E-185)."""
        assert loaded(epoch_length=3, epoch=2, max_epochs=2).run([1, 2, 3], max_epochs=3).iteration == 9

    def test_finished_within_an_epoch(self, identity, fired):
        """A loaded run that max_iters ended within an epoch counts as finished (E-185)."""
        identity.run([1, 2, 3], max_iters=4)
        other = Engine(lambda engine, batch: batch)
        other.load_state_dict(identity.state_dict())
        names = fired(other)
        other.run([1, 2, 3], max_iters=4)
        assert names == ["STARTED", "COMPLETED", "TEARDOWN"]

    def test_loading_replaces_a_finished_run(self, identity):
        """Loading a state replaces outcome, counters and limits of a finished run."""
        identity.run([1, 2], max_epochs=4)
        identity.load_state_dict({"epoch_length": 3, "epoch": 1, "max_epochs": 2})
        assert identity.state.outcome is None
        state = identity.run([1, 2, 3])
        assert (state.epoch, state.iteration, state.max_epochs) == (2, 6, 2)


class TestLoadDuringRun:
    @pytest.mark.parametrize("event", [Events.STARTED, Events.ITERATION_COMPLETED, Events.TEARDOWN])
    def test_load_in_a_handler_is_refused(self, event, identity):
        """load_state_dict() in a handler of the running engine raises an error and changes nothing."""
        saved = {"epoch_length": 2, "iteration": 4, "max_epochs": 3}
        identity.add_event_handler(event, lambda: identity.load_state_dict(saved))
        with pytest.raises(
            RuntimeError, match=r"load_state_dict\(\) was called while this engine is running"
        ):
            identity.run([1, 2])
        assert identity.state.max_epochs == 1
        Engine(lambda engine, batch: batch).load_state_dict(saved)

    def test_load_into_an_interrupted_engine(self, identity, batches):
        """A state loaded after interrupt() replaces the interrupted run."""
        seen = batches(identity)
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), identity.interrupt)
        identity.run([1, 2, 3], max_epochs=3)
        identity.load_state_dict({"epoch_length": 3, "iteration": 6, "max_epochs": 3})
        identity.run([1, 2, 3])
        assert seen == [[1], [1, 2, 3]]
        assert (identity.state.epoch, identity.state.iteration) == (3, 9)


class TestPosition:
    def test_resumes_at_the_next_batch(self, identity, batches):
        """A state saved within an epoch resumes with the next batch of the data."""
        epochs, saved = batches(identity), []
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=7), lambda e: saved.append(e.state_dict()))
        identity.run(range(5), max_epochs=3)
        other = Engine(lambda engine, batch: batch)
        rest = []
        other.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: rest.append((e.state.iteration, e.state.batch))
        )
        other.load_state_dict(saved[0])
        state = other.run(range(5))
        assert rest == list(enumerate([2, 3, 4, 0, 1, 2, 3, 4], start=8))
        assert (state.epoch, state.iteration) == (3, 15)
        assert epochs == [[0, 1, 2, 3, 4]] * 3

    def test_after_terminate_epoch_starts_at_the_first_batch(self, identity, batches):
        """A state saved after terminate_epoch() resumes the next epoch at the first batch (E-135)."""
        saved = []
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate_epoch())
        identity.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda e: saved.append(e.state_dict()))
        identity.run([1, 2, 3], max_epochs=2)
        other = Engine(lambda engine, batch: batch)
        epochs = batches(other)
        other.load_state_dict(saved[0])
        assert other.run([1, 2, 3]).iteration == identity.state.iteration == 4
        assert epochs == [[1, 2, 3]]

    def test_iteration_without_a_step_counts(self, identity):
        """An iteration that terminate_epoch() ended before its step is counted in the saved state."""
        saved = []
        identity.add_event_handler(Events.ITERATION_STARTED(once=2), lambda e: e.terminate_epoch())
        identity.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda e: saved.append(e.state_dict()))
        identity.run([1, 2, 3], max_epochs=2)
        assert saved[0]["iteration"] == 2
        other = Engine(lambda engine, batch: batch)
        other.load_state_dict(saved[0])
        assert other.run([1, 2, 3]).iteration == identity.state.iteration == 5

    @pytest.mark.parametrize("where", ["before run()", "STARTED", "EPOCH_STARTED"])
    def test_loaded_state_keeps_its_position(self, where, identity, batches):
        """A loaded state that is saved before its data position is restored keeps that position."""
        saved = []
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda e: saved.append(e.state_dict()))
        identity.run([1, 2, 3], max_epochs=2)
        between = Engine(lambda engine, batch: batch)
        between.load_state_dict(saved[0])
        random.random()
        if where == "before run()":
            saved.append(between.state_dict())
        else:
            between.add_event_handler(Events[where], lambda e: saved.append(e.state_dict()))
            between.run([1, 2, 3])
        random_states = [state["resume"]["random"]["python"] for state in saved]
        assert random_states[0] == random_states[1]
        other = Engine(lambda engine, batch: batch)
        epochs = batches(other)
        other.load_state_dict(saved[1])
        assert other.run([1, 2, 3]).epoch == 2
        assert epochs == [[2, 3]]

    def test_saved_after_an_error(self, batches):
        """A state saved in the run after a failed step repeats the failed iteration."""
        saved, divisors = [], [1, 0, 1, 1, 1, 1, 1, 1, 1, 1]
        engine = Engine(lambda engine, batch: 1 / divisors.pop(0))
        with pytest.raises(ZeroDivisionError):
            engine.run([1, 2, 3], max_epochs=3)
        with engine.add_event_handler(Events.GET_BATCH_STARTED, lambda e: saved.append(e.state_dict())):
            engine.run([1, 2, 3])
        assert saved[0]["iteration"] == 1
        other = Engine(lambda engine, batch: batch)
        epochs = batches(other)
        other.load_state_dict(saved[0])
        other.run([1, 2, 3])
        assert epochs[0] == [2, 3]

    @pytest.mark.parametrize(
        "event", [Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED]
    )
    def test_saved_after_set_data(self, event, identity, batches):
        """A state saved after set_data() resumes in the new data without losing a batch."""
        saved = []
        identity.add_event_handler(
            event(event_filter=lambda e, _: e.state.batch == 1), lambda e: e.set_data([7, 8, 9])
        )
        for at in (1, 2):
            identity.add_event_handler(
                Events.ITERATION_COMPLETED(once=at), lambda e: saved.append(e.state_dict())
            )
        identity.run([1, 2, 3, 4])
        for state, rest in zip(saved, [[7, 8, 9], [8, 9]], strict=True):
            other = Engine(lambda engine, batch: batch)
            epochs = batches(other)
            other.load_state_dict(state)
            other.run([7, 8, 9])
            assert epochs == [rest]

    def test_saved_after_short_epochs(self, identity):
        """The epoch is restored as saved, not derived from the iteration and epoch_length."""
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda e: e.terminate_epoch())
        # The first epoch has four batches, the second one.
        identity.run(iter(range(5)), max_epochs=2)
        assert identity.state.epoch_length == 1
        other = Engine(lambda engine, batch: batch)
        other.load_state_dict(identity.state_dict())
        assert (other.state.epoch, other.state.iteration) == (2, 5)

    def test_saved_after_empty_data(self, identity, unsized):
        """A state saved after a run over empty data loads with an unknown epoch_length."""
        identity.run(unsized(), max_epochs=1)
        assert identity.state.epoch_length == 0
        other = Engine(lambda engine, batch: batch)
        other.load_state_dict(identity.state_dict())
        assert other.run(unsized(1, 2), max_epochs=2).iteration == 2

    def test_set_data_with_the_generator_in_use(self, identity):
        """After set_data() with the generator in use, the saved position counts the batches read since."""
        data, saved = iter([1, 2, 3]), []
        identity.add_event_handler(Events.GET_BATCH_COMPLETED(once=1), lambda e: e.set_data(data))
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: saved.append(e.state_dict()))
        identity.run(data, epoch_length=3)
        assert saved[0]["resume"]["data"]["used"] == 1

    def test_error_in_skipped_batches(self, identity, unsized):
        """An error of the data while batches are skipped is raised like any other error."""

        def broken():
            yield 1
            raise OSError("disk gone")

        class Broken:
            __iter__ = staticmethod(broken)

        identity.add_event_handler(Events.ITERATION_COMPLETED(once=2), identity.terminate)
        identity.run(unsized(1, 2, 3), max_epochs=1)
        other = Engine(lambda engine, batch: batch)
        other.load_state_dict(identity.state_dict())
        with pytest.raises(OSError, match="disk gone"):
            other.run(Broken())
        assert (other.state.outcome, other.state.iteration) == (RunOutcome.FAILED, 2)


class Slots:
    """A stateful handler to which no weak reference can be made."""

    __slots__ = ("count",)
    __call__, state_dict, load_state_dict = Counter.__call__, Counter.state_dict, Counter.load_state_dict

    def __init__(self):
        self.count = 0


def nested():
    """Return a trainer, an evaluator that runs in it, and a stateful handler of the evaluator."""
    trainer, evaluator = (Engine(lambda engine, batch: batch) for _ in range(2))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]))
    counter = Counter()
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, counter)
    return trainer, evaluator, counter


class TestAddedHandlers:
    """A stateful object at an event is part of the state without register_state."""

    def test_saved_and_loaded(self):
        """add_event_handler adds the state of an object, whether it is loaded before or after (H-003)."""
        first, second, third = (Engine(lambda engine, batch: batch) for _ in range(3))
        first.add_event_handler(Events.ITERATION_COMPLETED, Counter())
        first.run([1, 2, 3])
        before, after = Counter(), Counter()
        second.add_event_handler(Events.ITERATION_COMPLETED, before)
        second.load_state_dict(first.state_dict())
        third.load_state_dict(first.state_dict())
        third.add_event_handler(Events.ITERATION_COMPLETED, functools.partial(after))
        assert (before.count, after.count) == (3, 3)

    def test_added_several_times(self):
        """An object has one state, however often and in whatever way it is added (H-003)."""
        engine, counter = Engine(lambda engine, batch: batch), Counter()
        handles = [
            engine.add_event_handler(Events.STARTED | Events.COMPLETED, counter),
            counter.attach(engine),
            engine.register_state("Counter", counter),
        ]
        for handle in handles:
            assert list(engine.state_dict()["handlers"]) == ["Counter"]
            handle.remove()
        # Counter.attach returns the handle of its state only.
        engine.remove_event_handler(counter, Events.ITERATION_COMPLETED)
        assert "handlers" not in engine.state_dict()

    def test_two_of_one_class(self):
        """A second object of a class gets a number, or the key in its attribute state_key (H-003)."""
        engine = Engine(lambda engine, batch: batch)
        third = Counter()
        third.state_key = "Counter:third"
        for counter in (Counter(), Counter(), third):
            engine.add_event_handler(Events.STARTED, counter)
        assert list(engine.state_dict()["handlers"]) == ["Counter", "Counter#2", "Counter:third"]

    def test_own_key(self):
        """A key that the handler registers replaces the class name, and gets the state that waits there (H-003)."""
        engine, counter = Engine(lambda engine, batch: batch), Counter()
        engine.load_state_dict(
            {"epoch_length": 1, "iteration": 0, "max_epochs": 1, "handlers": {"mine": {"count": 4}}}
        )
        engine.add_event_handler(Events.STARTED, counter)
        handle = engine.register_state("mine", counter)
        assert (engine.state_dict()["handlers"], counter.count) == ({"mine": {"count": 4}}, 4)
        handle.remove()
        engine.remove_event_handler(counter, Events.STARTED)
        assert "handlers" not in engine.state_dict()

    def test_rejected_state(self):
        """An object that rejects its loaded state is not registered, and the state is kept (H-003)."""
        engine = Engine(lambda engine, batch: batch)
        handlers = {"Counter": {"other": 4}}
        engine.load_state_dict({"epoch_length": 1, "iteration": 0, "max_epochs": 1, "handlers": handlers})
        with pytest.raises(ValueError, match=r"'Counter' in .* does not fit Counter: KeyError: 'count'"):
            engine.add_event_handler(Events.STARTED, Counter())
        assert (engine.registrations(), engine.state_dict()["handlers"]) == ((), handlers)

    def test_what_has_no_state(self):
        """Mock objects, modules and bound methods add no state (H-003)."""
        torch = pytest.importorskip("torch")
        engine = Engine(lambda engine, batch: batch)
        for handler in (MagicMock(), torch.nn.Identity(), Counter().__call__):
            engine.add_event_handler(Events.STARTED, handler)
        assert "handlers" not in engine.state_dict()

    def test_fake_engine(self):
        """FakeEngine adds the state in the same way (H-003)."""
        fake, counter = FakeEngine(), Counter()
        fake.add_event_handler(Events.STARTED, counter)
        fake.fire(Events.STARTED)
        assert fake.state_dict()["handlers"] == {"Counter": {"count": 1}}


class TestNestedEngines:
    """The state of a trainer contains the handlers of the engines that it runs."""

    def test_resumed_run(self):
        """A trainer that is saved after any epoch and loaded into new engines ends as one that never stopped (H-003)."""
        whole, _, expected = nested()
        whole.run([1], max_epochs=5)
        for epochs in range(1, 5):
            first = nested()[0]
            first.run([1], max_epochs=epochs)
            trainer, _, counter = nested()
            trainer.load_state_dict({**first.state_dict(), "max_epochs": 5})
            trainer.run([1])
            assert counter.count == expected.count == 10

    def test_saved_before_the_evaluator_has_run_again(self):
        """A loaded state of an evaluator's handler is saved again before the evaluator runs (H-003)."""
        first, second = nested()[0], nested()[0]
        first.run([1])
        second.load_state_dict(first.state_dict())
        assert second.state_dict()["handlers"] == {"Counter": {"count": 2}}

    def test_three_levels(self):
        """The outermost of three nested engines has the state of the innermost (H-003)."""
        outer = Engine(lambda engine, batch: batch)
        trainer, _, _ = nested()
        outer.add_event_handler(Events.EPOCH_COMPLETED, lambda: trainer.run([1]))
        outer.run([1], max_epochs=2)
        assert outer.state_dict()["handlers"] == {"Counter": {"count": 4}}

    def test_added_while_the_evaluator_runs(self):
        """A handler that is added while the evaluator runs joins the trainer's state at once (H-003)."""
        trainer, evaluator, _ = nested()
        evaluator.add_event_handler(
            Events.STARTED(once=1) | Events.EPOCH_STARTED,
            lambda engine: engine.add_event_handler(Events.COMPLETED, Slots()),
        )
        trainer.run([1])
        assert trainer.state_dict()["handlers"] == {"Counter": {"count": 2}, "Slots": {"count": 1}}

    def test_two_evaluators(self):
        """Handlers of two evaluators with one class have a number each (H-003)."""
        trainer, _, _ = nested()
        other = Engine(lambda engine, batch: batch)
        other.add_event_handler(Events.COMPLETED, Counter())
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: other.run([1]))
        trainer.run([1])
        assert trainer.state_dict()["handlers"] == {"Counter": {"count": 2}, "Counter#2": {"count": 1}}

    def test_evaluator_is_not_kept(self):
        """The trainer does not keep the handlers of its evaluators alive (H-003)."""
        trainer = Engine(lambda engine, batch: batch)

        def validate():
            evaluator = Engine(lambda engine, batch: batch)
            evaluator.add_event_handler(Events.COMPLETED, Counter())
            evaluator.run([1])

        trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
        trainer.run([1], max_epochs=3)
        assert "handlers" not in trainer.state_dict()

    def test_copy(self):
        """A copy of the trainer keeps the states of its evaluators' handlers (H-003)."""
        trainer, _, _ = nested()
        trainer.run([1])
        assert copy.deepcopy(trainer).state_dict()["handlers"] == {"Counter": {"count": 2}}

    def test_standalone_run(self):
        """A run of the evaluator outside a trainer adds nothing to the trainer (H-003)."""
        trainer, evaluator, _ = nested()
        evaluator.run([1])
        assert "handlers" not in trainer.state_dict()
        assert evaluator.state_dict()["handlers"] == {"Counter": {"count": 1}}

    def test_failed_optional_handler(self):
        """The trainer keeps the last state of an optional handler that failed on the evaluator (P3)."""

        class Failing(Counter):
            def attach(self, engine):
                return engine.add_event_handler(Events.ITERATION_COMPLETED, self)

            def __call__(self):
                super().__call__()
                raise OSError

        trainer, evaluator, _ = nested()
        evaluator.attach(Failing(), on_error="disable")
        with pytest.warns(UserWarning, match="Failing"):
            trainer.run([1], max_epochs=2)
        assert trainer.state_dict()["handlers"] == {"Counter": {"count": 4}, "Failing": {"count": 1}}
