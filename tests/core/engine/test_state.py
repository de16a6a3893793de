"""The state: its attributes, counters, times and text."""

from __future__ import annotations

import time

import pytest

from glowplug import EventEnum, Events, RunOutcome, State


def test_E_170_attributes():
    """A new state has these attributes, in ignite's order, then outcome and run_start."""
    assert [name for name in vars(State()) if name != "event_to_attr"] == [
        "iteration",
        "epoch",
        "epoch_length",
        "max_epochs",
        "max_iters",
        "output",
        "batch",
        "metrics",
        "dataloader",
        "seed",
        "times",
        "outcome",
        "run_start",
    ]
    assert State().times == {"EPOCH_COMPLETED": None, "COMPLETED": None}
    assert State().metrics is not State().metrics


def test_E_171_any_attribute():
    """Attributes can be given, and set, as one likes."""
    state = State(best=0.5, epoch=3)
    state.mine = "value"
    assert (state.best, state.epoch, state.iteration, state.mine) == (0.5, 3, 0, "value")


def test_E_081_counters_of_one_state_are_unknown_to_another():
    """The map of counters belongs to a state, not to the class."""
    first, second = State(), State()
    first.event_to_attr["custom"] = "calls"
    assert "custom" not in second.event_to_attr
    assert "custom" not in State().event_to_attr


def test_E_172_counter_of_an_event():
    """The counter of an event is found for the plain and the filtered one; what has none says so."""
    state = State(epoch=2, iteration=9)
    assert state.get_event_attrib_value(Events.EPOCH_COMPLETED) == 2
    assert state.get_event_attrib_value(Events.ITERATION_COMPLETED(every=3)) == 9
    for unknown in (Events.TERMINATE, "custom", Events.STARTED | Events.COMPLETED):
        with pytest.raises(
            RuntimeError, match=r"has no counter in the state; events with a counter: .*STARTED"
        ):
            state.get_event_attrib_value(unknown)


def test_E_082_a_counter_of_ones_own(identity):
    """A custom event's counter is counted by the user, and filters see it."""

    class Backprop(EventEnum):
        DONE = "done"

    seen = []

    def count(engine):
        engine.state.backprops += 10
        engine.fire_event(Backprop.DONE)

    identity.register_events(Backprop.DONE, event_to_attr={Backprop.DONE: "backprops"})
    identity.add_event_handler(Events.ITERATION_COMPLETED, count)
    identity.add_event_handler(Backprop.DONE(every=20), lambda e: seen.append(e.state.backprops))
    identity.run([1, 2, 3, 4])
    assert seen == [20, 40]


def test_E_094_E_173_times(identity):
    """The time of an epoch includes EPOCH_STARTED handlers for those at its end, and these as well afterwards."""
    seen = {}
    identity.add_event_handler(Events.STARTED, lambda e: seen.update(e.state.times))
    identity.add_event_handler(Events.EPOCH_STARTED, lambda: time.sleep(0.02))

    def at_the_end(engine):
        seen["epoch"] = engine.state.times["EPOCH_COMPLETED"]
        time.sleep(0.02)

    def at_the_very_end(engine):
        seen["run"] = engine.state.times["COMPLETED"]
        time.sleep(0.02)

    identity.add_event_handler(Events.EPOCH_COMPLETED, at_the_end)
    identity.add_event_handler(Events.COMPLETED, at_the_very_end)
    times = identity.run([1]).times
    assert (seen["EPOCH_COMPLETED"], seen["COMPLETED"]) == (0.0, 0.0)
    assert 0.02 <= seen["epoch"] <= times["EPOCH_COMPLETED"] - 0.02
    assert 0.04 <= seen["run"] <= times["COMPLETED"] - 0.02


def test_E_094_times_of_the_run_before_are_gone(identity):
    """Each run begins with zero times, in the same two keys."""
    identity.run([1])
    seen = []
    identity.add_event_handler(Events.STARTED, lambda e: seen.append(dict(e.state.times)))
    identity.run([1])
    assert seen == [{"EPOCH_COMPLETED": 0.0, "COMPLETED": 0.0}]


def test_E_174_text():
    """Numbers and strings are shown by value, everything else by type."""
    text = repr(State(name="mine", data=[1, 2], epoch=3))
    assert text.startswith("State:\n")
    assert "\tepoch: 3" in text
    assert "\tname: mine" in text
    assert "\tdata: list" in text
    assert "\tmetrics: dict" in text
    assert "event_to_attr" not in text


def test_outcome_is_shown(identity):
    """The text of the state tells how the run ended."""
    assert "outcome: RunOutcome.COMPLETED" in repr(identity.run([1]))
    assert [outcome.value for outcome in RunOutcome] == ["completed", "terminated", "interrupted", "failed"]


@pytest.mark.parametrize(
    ("event", "steps"),
    [
        (Events.STARTED, [(2, 3), (2, 4), (3, 5), (3, 6), (4, 7), (4, 8)]),
        (Events.EPOCH_STARTED(once=2), [(1, 1), (1, 2), (3, 5), (3, 6), (4, 7), (4, 8)]),
        (Events.EPOCH_COMPLETED(once=1), [(1, 1), (1, 2), (3, 5), (3, 6), (4, 7), (4, 8)]),
    ],
)
def test_E_175_counters_set_by_hand(event, steps, identity):
    """A handler that sets the counters, as scripts do to resume by hand, leaves each later epoch its whole length."""
    seen = []
    identity.add_event_handler(
        Events.ITERATION_STARTED, lambda e: seen.append((e.state.epoch, e.state.iteration))
    )

    @identity.on(event)
    def skip_an_epoch(engine):
        engine.state.iteration += 2
        engine.state.epoch += 1

    identity.run([1, 2], max_epochs=4)
    assert seen == steps
