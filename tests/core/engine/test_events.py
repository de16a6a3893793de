"""Which events there are, and when two of them are the same."""

from __future__ import annotations

import copy
import pickle

import pytest

from glowplug import CallableEventWithFilter, Engine, EventEnum, Events, EventsList


class Mine(EventEnum):
    STARTED = "started"
    OTHER = "other"


def test_E_010_members():
    """There are ignite's thirteen events, and TEARDOWN."""
    assert [event.name for event in Events] == [
        "STARTED",
        "EPOCH_STARTED",
        "GET_BATCH_STARTED",
        "GET_BATCH_COMPLETED",
        "ITERATION_STARTED",
        "ITERATION_COMPLETED",
        "EPOCH_COMPLETED",
        "COMPLETED",
        "EXCEPTION_RAISED",
        "DATALOADER_STOP_ITERATION",
        "TERMINATE",
        "TERMINATE_SINGLE_EPOCH",
        "INTERRUPT",
        "TEARDOWN",
    ]
    assert [event.value for event in Events] == [event.name.lower() for event in Events]


def test_E_011_own_events_are_event_enums():
    """A subclass of EventEnum has members that can be filtered and joined."""
    assert isinstance(Mine.OTHER, CallableEventWithFilter)
    assert Mine.OTHER(every=2).event is Mine.OTHER
    assert list(Mine.OTHER | Events.STARTED) == [Mine.OTHER, Events.STARTED]


def test_E_012_counters(identity):
    """Iteration events count iterations, epoch events count epochs, and the others count nothing in the state."""
    state = identity.state
    state.iteration, state.epoch = 7, 3
    for event in Events:
        if event.name.startswith(("GET_BATCH", "ITERATION")):
            assert state.get_event_attrib_value(event) == 7
        elif event.name in {"STARTED", "EPOCH_STARTED", "EPOCH_COMPLETED", "COMPLETED"}:
            assert state.get_event_attrib_value(event) == 3
        else:
            with pytest.raises(RuntimeError, match=rf"{event} has no counter.*Events.EPOCH_COMPLETED"):
                state.get_event_attrib_value(event)


def test_E_013_identity_is_that_of_the_member():
    """Events of two enums differ though name and value are equal, and no event is a string."""
    assert Mine.STARTED != Events.STARTED
    assert Events.STARTED != "STARTED"
    assert Events.STARTED != "started"
    assert len({Mine.STARTED, Events.STARTED, "STARTED"}) == 3


def test_E_013_filtered_event_equals_its_event():
    """A filtered event equals the plain one, on both sides and as a key."""
    filtered = Events.STARTED(every=2)
    assert filtered == Events.STARTED
    assert Events.STARTED == filtered  # noqa: SIM300 - both sides are the point
    assert filtered == Events.STARTED(once=1)
    assert filtered != Events.COMPLETED
    assert filtered != Mine.STARTED
    assert {Events.STARTED: "found"}[filtered] == "found"


def test_E_013_handlers_of_both_events_are_apart(identity):
    """Handlers at a user's STARTED do not run at the engine's."""
    got = []
    identity.register_events(Mine.STARTED)
    identity.add_event_handler(Mine.STARTED, lambda: got.append("mine"))
    identity.run([1])
    assert got == []


def test_E_013_name_of_a_built_in_event(identity):
    """The registration methods take a built-in event by its name, the name only."""
    got = []
    identity.add_event_handler("EPOCH_COMPLETED", got.append)
    identity.run([1])
    assert got == [identity]
    assert identity.has_registered_events("EPOCH_COMPLETED")
    assert not identity.has_registered_events("epoch_completed")


def test_events_show_how_to_write_them():
    """The representation of an event, filtered or not, and of a list is the code that makes it."""
    assert repr(Events.STARTED) == str(Events.STARTED) == "Events.STARTED"
    assert repr(Mine.OTHER(once=[1, 2])) == "Mine.OTHER(once=[1, 2])"
    assert repr(Events.STARTED(once=3)) == "Events.STARTED(once=3)"
    assert repr(Events.STARTED(every=3, before=9)) == "Events.STARTED(every=3, before=9)"
    assert repr(Events.STARTED(after=2)) == "Events.STARTED(after=2)"
    assert repr(Events.STARTED | Events.COMPLETED) == "EventsList(Events.STARTED, Events.COMPLETED)"
    assert "event_filter=<function" in repr(Events.STARTED(event_filter=lambda e, n: True))


def test_events_can_be_pickled_and_copied():
    """An event stays itself, and a filter equal, through pickle and deepcopy."""
    for twin in (pickle.loads(pickle.dumps(Events.STARTED)), copy.deepcopy(Events.STARTED)):
        assert twin is Events.STARTED
    filtered = pickle.loads(pickle.dumps(Events.STARTED(every=2, before=9)))
    assert (filtered.event, filtered.filter) == (Events.STARTED, Events.STARTED(every=2, before=9).filter)
    assert (filtered.name, filtered.value) == ("STARTED", "started")


def test_E_070_lists():
    """A list has a length, is iterable, and can be indexed and sliced."""
    events = Events.STARTED | Events.EPOCH_COMPLETED(every=2) | Events.COMPLETED
    assert len(events) == 3
    assert list(events) == [Events.STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED]
    assert events[1].filter == Events.EPOCH_COMPLETED(every=2).filter
    assert events[1:] == (Events.EPOCH_COMPLETED, Events.COMPLETED)


@pytest.mark.parametrize("join", [lambda: Events.STARTED | "custom", lambda: "custom" | Events.STARTED, lambda: (
    Events.STARTED | Events.COMPLETED) | None, lambda: EventsList("custom")])  # fmt: skip
def test_E_070_only_events_are_joined(join):
    """Strings and other things cannot be joined to an event."""
    with pytest.raises(TypeError):
        join()


def test_E_070_a_string_is_told_what_to_do():
    """The message about a string says how to register for it."""
    with pytest.raises(
        TypeError, match="not 'custom'; give an event named by a string to add_event_handler on its own"
    ):
        _ = Events.STARTED | "custom"


def test_E_071_joining_makes_a_new_list():
    """``|`` leaves its operands as they are, and ``|=`` binds the name to a new list."""
    first = Events.STARTED | Events.COMPLETED
    second = first
    joined = first | Events.TERMINATE
    second |= Events.INTERRUPT
    assert (len(first), len(joined), len(second)) == (2, 3, 3)


def test_E_072_lists_on_either_side():
    """An event and a list, and two lists, are joined in the order written."""
    pair = Events.STARTED | Events.COMPLETED
    assert list(Events.TERMINATE | pair) == [Events.TERMINATE, *pair]
    assert list(pair | pair) == [*pair, *pair]


def test_E_083_registering_twice_keeps_the_handlers():
    """Events that are registered again keep their handlers."""
    engine, got = Engine(lambda engine, batch: batch), []
    engine.register_events(Mine.OTHER)
    engine.add_event_handler(Mine.OTHER, got.append)
    engine.register_events(Mine.OTHER, "more")
    engine.fire_event(Mine.OTHER)
    assert got == [engine]
    assert engine.has_registered_events(Mine.OTHER | Events.STARTED)
    assert not engine.has_registered_events(Mine.OTHER | Mine.STARTED)
