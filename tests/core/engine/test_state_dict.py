"""Saving and loading: counters, limits, own keys, and the state of handlers."""

from __future__ import annotations

import random

import pytest

from glowplug import Engine, Events, RunOutcome


@pytest.fixture
def loaded():
    """Return a function that loads a state into a new engine."""

    def load(**state):
        engine = Engine(lambda engine, batch: batch)
        engine.load_state_dict(state)
        return engine

    return load


class Counter:
    """A handler that counts, and whose count is its state."""

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


@pytest.mark.parametrize(("limit", "value"), [("max_epochs", 3), ("max_iters", 6)])
def test_E_180_keys(limit, value, identity):
    """The state has length, iteration and the limit, then the user's keys; neither epoch nor metrics nor seed."""
    identity.state_dict_user_keys.append("alpha")
    identity.state.alpha = 0.1
    identity.run([1, 2], **{limit: value})
    state = identity.state_dict()
    assert list(state)[:4] == ["epoch_length", "iteration", limit, "alpha"]
    assert [state[key] for key in ("epoch_length", "iteration", limit, "alpha")] == [2, 6, value, 0.1]
    assert not {"epoch", "metrics", "seed"} & set(state)


def test_E_180_new_engine(identity):
    """An engine that never ran has a state that can be loaded."""
    other = Engine(lambda engine, batch: batch)
    other.load_state_dict(identity.state_dict())
    assert other.run([1, 2]).iteration == 2


def test_E_180_missing_user_key(identity):
    """A key that the state does not have is an AttributeError that names it."""
    identity.state_dict_user_keys.append("alpha")
    with pytest.raises(AttributeError, match="alpha"):
        identity.state_dict()


@pytest.mark.parametrize("state", [None, [("epoch_length", 1)], 5])
def test_E_181_needs_a_mapping(state, identity):
    """Only a mapping can be loaded."""
    with pytest.raises(TypeError, match="an engine's state is a mapping, got"):
        identity.load_state_dict(state)


@pytest.mark.parametrize(
    ("state", "group"),
    [
        ({"iteration": 0, "max_epochs": 1}, "epoch_length"),
        ({"epoch_length": 1, "max_epochs": 1}, "iteration and epoch"),
        ({"epoch_length": 1, "iteration": 0, "epoch": 0, "max_epochs": 1}, "iteration and epoch"),
        ({"epoch_length": 1, "iteration": 0}, "max_epochs and max_iters"),
        ({"epoch_length": 1, "iteration": 0, "max_epochs": 1, "max_iters": 1}, "max_epochs and max_iters"),
    ],
)
def test_E_181_exactly_one_of_each_group(state, group, identity):
    """A length, one counter and one limit are needed; the message names what of, and what came."""
    with pytest.raises(ValueError, match=rf"exactly one of {group}; got the keys \["):
        identity.load_state_dict(state)


def test_E_182_epoch_or_iteration(loaded):
    """One counter gives the other."""
    state = loaded(epoch_length=5, epoch=2, max_epochs=4).state
    assert (state.iteration, state.epoch, state.max_epochs, state.max_iters) == (10, 2, 4, None)
    state = loaded(epoch_length=5, iteration=13, max_iters=20).state
    assert (state.iteration, state.epoch, state.max_epochs, state.max_iters) == (13, 2, None, 20)


def test_E_182_unknown_length(loaded):
    """Without a length only the very start can be loaded."""
    assert loaded(epoch_length=None, iteration=0, max_epochs=2).run([1, 2, 3]).iteration == 6
    with pytest.raises(ValueError, match="epoch_length=None can only be at epoch 0, got epoch=1"):
        loaded(epoch_length=None, epoch=1, max_epochs=2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epoch": 3}, "state at epoch 3 cannot have max_epochs=2"),
        ({"epoch": -1}, "epoch of an engine's state must be an integer of at least 0, got -1"),
        ({"epoch": None}, "epoch of .* at least 0, got None"),
        ({"epoch_length": 0}, "epoch_length of .* at least 1, got 0"),
        ({"epoch_length": "5"}, "epoch_length of .* at least 1, got '5'"),
        ({"max_epochs": 0}, "max_epochs of .* at least 1, got 0"),
    ],
)
def test_E_183_impossible_numbers(wrong, message, loaded):
    """Numbers that cannot be are refused when loaded, not when run."""
    with pytest.raises(ValueError, match=message):
        loaded(**{"epoch_length": 5, "epoch": 1, "max_epochs": 2, **wrong})


def test_E_183_max_iters_below_iteration(loaded):
    """The same holds for iterations."""
    with pytest.raises(ValueError, match="state at iteration 4 cannot have max_iters=3"):
        loaded(epoch_length=5, iteration=4, max_iters=3)


def test_E_183_user_keys(identity):
    """The user's keys are loaded into the state, and must be there; others are ignored."""
    identity.state_dict_user_keys.append("alpha")
    state = {"epoch_length": 1, "iteration": 0, "max_epochs": 1}
    with pytest.raises(
        ValueError, match="state_dict_user_keys asks for alpha, which the state does not have"
    ):
        identity.load_state_dict(state)
    identity.load_state_dict({**state, "alpha": 0.1, "other": 1})
    assert identity.state.alpha == 0.1
    assert not hasattr(identity.state, "other")


@pytest.mark.parametrize(
    "wrong",
    [{"epoch": 9}, {"max_epochs": 0}, {"epoch_length": 0}, {"iteration": 1}],
    ids=lambda w: next(iter(w)),
)
def test_a_refused_state_changes_nothing(wrong, identity):
    """After a refused load the engine goes on where it was."""
    identity.run([1, 2], max_epochs=2)
    with pytest.raises(ValueError, match="engine's state"):
        identity.load_state_dict({"epoch_length": 5, "epoch": 1, "max_epochs": 2, **wrong})
    state = identity.state
    assert (state.epoch, state.iteration, state.epoch_length, state.max_epochs) == (2, 4, 2, 2)
    assert identity.run([1, 2], max_epochs=3).iteration == 6


def test_E_182_going_on_at_an_epoch(loaded, batches):
    """A loaded epoch is gone on with at the next one."""
    engine = loaded(epoch_length=3, epoch=1, max_epochs=3)
    epochs = batches(engine)
    started = []
    engine.add_event_handler(Events.EPOCH_STARTED, lambda e: started.append(e.state.epoch))
    engine.run([1, 2, 3])
    assert (epochs, started) == ([[1, 2, 3]] * 2, [2, 3])


def test_E_184_hand_made_state_within_an_epoch(loaded, batches):
    """A state without a position in the data does the iterations left of the epoch, from the first batch on."""
    engine = loaded(epoch_length=5, iteration=7, max_epochs=3)
    epochs = batches(engine)
    engine.run(range(5))
    assert epochs == [[0, 1, 2], [3, 4, 0, 1, 2]]


def test_saved_and_loaded_within_an_epoch_goes_on(identity, batches):
    """A saved state goes on with the very next batch, and both runs together are the whole run."""
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


@pytest.mark.parametrize(
    ("position", "limit"), [({"epoch": 2}, {"max_epochs": 2}), ({"iteration": 5}, {"max_iters": 5})]
)
def test_E_185_finished_state(position, limit, loaded, fired):
    """A finished run that is loaded has nothing left to do: STARTED, COMPLETED and TEARDOWN fire, and no iteration."""
    engine = loaded(epoch_length=3, **position, **limit)
    names = fired(engine)
    before = engine.state.iteration
    engine.run([1, 2, 3], **limit)
    assert names == ["STARTED", "COMPLETED", "TEARDOWN"]
    assert engine.state.iteration == before
    engine.run([1, 2, 3], **limit)
    assert engine.state.iteration in {6, 5}
    assert names.count("ITERATION_COMPLETED") == engine.state.iteration


def test_E_185_more_than_the_finished_state(loaded):
    """With a higher limit a finished state goes on."""
    assert loaded(epoch_length=3, epoch=2, max_epochs=2).run([1, 2, 3], max_epochs=3).iteration == 9


def test_loading_replaces_a_finished_run(identity):
    """Loading into an engine that has run gives the loaded run's place up to nothing of the old one."""
    identity.run([1, 2], max_epochs=4)
    identity.load_state_dict({"epoch_length": 3, "epoch": 1, "max_epochs": 2})
    assert identity.state.outcome is None
    state = identity.run([1, 2, 3])
    assert (state.epoch, state.iteration, state.max_epochs) == (2, 6, 2)


def test_handlers_state_travels(identity):
    """A stateful handler goes on with its own state in another engine, attached before or after the load."""
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


def test_handlers_state_is_saved_on(identity):
    """The state of a handler that is not attached is kept through a run and a second save."""
    identity.attach(Counter())
    identity.run([1])
    engine = Engine(lambda engine, batch: batch)
    engine.load_state_dict(identity.state_dict())
    engine.run([1], max_epochs=2)
    assert engine.state_dict()["handlers"] == {"Counter": {"count": 1}}


def test_a_second_load_replaces_what_was_waiting(identity):
    """State that waits from a first load does not survive a second."""
    base = {"epoch_length": None, "iteration": 0, "max_epochs": None}
    identity.load_state_dict({**base, "handlers": {"Counter": {"count": 1}}})
    identity.load_state_dict(base)
    assert "handlers" not in identity.state_dict()


def test_a_handler_that_refuses_its_state(identity):
    """A handler whose waiting state cannot be loaded is not registered, and its state goes on waiting."""
    identity.load_state_dict(
        {"epoch_length": None, "iteration": 0, "max_epochs": None, "handlers": {"Counter": {"wrong": 1}}}
    )
    with pytest.raises(KeyError, match="count"):
        identity.register_state("Counter", Counter())
    assert identity.state_dict()["handlers"] == {"Counter": {"wrong": 1}}


def test_a_state_saved_after_terminate_epoch_begins_the_next_epoch_with_the_first_batch(identity, batches):
    """What was left of an epoch that was ended early is not gone on with after a load either (E-135)."""
    saved = []
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate_epoch())
    identity.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda e: saved.append(e.state_dict()))
    identity.run([1, 2, 3], max_epochs=2)
    other = Engine(lambda engine, batch: batch)
    epochs = batches(other)
    other.load_state_dict(saved[0])
    assert other.run([1, 2, 3]).iteration == identity.state.iteration == 4
    assert epochs == [[1, 2, 3]]


def test_an_iteration_without_a_step_counts_once_its_epoch_has_ended(identity):
    """terminate_epoch() at ITERATION_STARTED: a state saved later has the iteration's number, as the run goes on with it."""
    saved = []
    identity.add_event_handler(Events.ITERATION_STARTED(once=2), lambda e: e.terminate_epoch())
    identity.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda e: saved.append(e.state_dict()))
    identity.run([1, 2, 3], max_epochs=2)
    assert saved[0]["iteration"] == 2
    other = Engine(lambda engine, batch: batch)
    other.load_state_dict(saved[0])
    assert other.run([1, 2, 3]).iteration == identity.state.iteration == 5


@pytest.mark.parametrize("where", ["before run()", "STARTED", "EPOCH_STARTED"])
def test_a_loaded_state_that_is_saved_again_keeps_its_place(where, identity, batches):
    """A state saved before the run has got back to its place in the data still has that place."""
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


def test_a_hand_made_state_that_is_saved_again_keeps_its_place(loaded, batches):
    """The iterations that a state made by hand has done of its epoch are saved on."""
    engine = loaded(epoch_length=5, iteration=7, max_epochs=2)
    engine.load_state_dict(engine.state_dict())
    epochs = batches(engine)
    engine.run(range(5))
    assert epochs == [[0, 1, 2]]


def test_a_state_saved_when_going_on_after_an_error_can_be_loaded(batches):
    """The iteration whose step failed counts in the next run, and so it does in a state saved there."""
    saved = []
    engine = Engine(lambda engine, batch: 1 / (engine.state.iteration != 2))
    with pytest.raises(ZeroDivisionError):
        engine.run([1, 2, 3], max_epochs=3)
    with engine.add_event_handler(Events.GET_BATCH_STARTED, lambda e: saved.append(e.state_dict())):
        engine.run([1, 2, 3])
    assert saved[0]["iteration"] == 2
    other = Engine(lambda engine, batch: batch)
    epochs = batches(other)
    other.load_state_dict(saved[0])
    other.run([1, 2, 3])
    assert epochs[0] == [1]


@pytest.mark.parametrize(
    "event", [Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED]
)
def test_a_state_saved_after_set_data_goes_on_in_the_new_data(event, identity, batches):
    """Wherever in an iteration the data was replaced, none of its batches is lost over a save and a load."""
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


def test_the_state_of_a_run_with_short_epochs_can_be_loaded(identity):
    """The number of the epoch is what was saved, not what its length and the iteration would give."""
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda e: e.terminate_epoch())
    identity.run(iter(range(5)), max_epochs=3)  # an epoch of four, and one of the last batch
    assert identity.state.epoch_length == 1
    other = Engine(lambda engine, batch: batch)
    other.load_state_dict(identity.state_dict())
    assert (other.state.epoch, other.state.iteration) == (2, 5)


def test_the_state_of_a_run_over_empty_data_can_be_loaded(identity, unsized):
    """Data without a batch leaves the length of an epoch as unknown as it was."""
    identity.run(unsized(), max_epochs=1)
    assert identity.state.epoch_length == 0
    other = Engine(lambda engine, batch: batch)
    other.load_state_dict(identity.state_dict())
    assert other.run(unsized(1, 2), max_epochs=2).iteration == 2


def test_E_185_finished_within_an_epoch(identity, fired):
    """A run that max_iters ended within an epoch is as finished as any other."""
    identity.run([1, 2, 3], max_iters=4)
    other = Engine(lambda engine, batch: batch)
    other.load_state_dict(identity.state_dict())
    names = fired(other)
    other.run([1, 2, 3], max_iters=4)
    assert names == ["STARTED", "COMPLETED", "TEARDOWN"]


def test_a_generator_that_was_set_again_cannot_be_gone_on_with(identity):
    """set_data() with the generator that is being read does not hide that some of it is gone."""
    data, saved = iter([1, 2, 3]), []
    identity.add_event_handler(Events.GET_BATCH_COMPLETED(once=1), lambda e: e.set_data(data))
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: saved.append(e.state_dict()))
    identity.run(data, epoch_length=3)
    assert saved[0]["resume"]["data"]["used"] == 1


@pytest.mark.parametrize("event", [Events.STARTED, Events.ITERATION_COMPLETED, Events.TEARDOWN])
def test_load_while_running_is_refused(event, identity):
    """A state cannot be loaded from a handler of the same engine; run() raises what says so, and nothing is changed."""
    saved = {"epoch_length": 2, "iteration": 4, "max_epochs": 3}
    identity.add_event_handler(event, lambda: identity.load_state_dict(saved))
    with pytest.raises(RuntimeError, match=r"load_state_dict\(\) was called while this engine is running"):
        identity.run([1, 2])
    assert identity.state.max_epochs == 1
    Engine(lambda engine, batch: batch).load_state_dict(saved)


def test_load_into_an_interrupted_engine(identity, batches):
    """Between interrupt() and the next run() a state can be loaded, and replaces the run that was interrupted."""
    seen = batches(identity)
    identity.add_event_handler(Events.ITERATION_COMPLETED(once=1), identity.interrupt)
    identity.run([1, 2, 3], max_epochs=3)
    identity.load_state_dict({"epoch_length": 3, "iteration": 6, "max_epochs": 3})
    identity.run([1, 2, 3])
    assert seen == [[1], [1, 2, 3]]
    assert (identity.state.epoch, identity.state.iteration) == (3, 9)


def test_data_that_fails_where_it_is_skipped(identity, unsized):
    """An error of the data on the way to where a loaded state stands is raised like any other."""

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
