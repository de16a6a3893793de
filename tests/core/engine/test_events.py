"""The built-in events, custom events, and their equality."""

from __future__ import annotations

import copy
import pickle

import pytest

from glowplug import CallableEventWithFilter, Engine, EventEnum, Events, EventsList
from glowplug.testing import FakeEngine


class Mine(EventEnum):
    STARTED = "started"
    OTHER = "other"


class TestEquality:
    def test_same_name_in_two_enums(self):
        """Equally named members of two enums differ, and no event equals a string (E-013)."""
        assert Mine.STARTED != Events.STARTED
        assert Events.STARTED != "STARTED"
        assert Events.STARTED != "started"
        assert len({Mine.STARTED, Events.STARTED, "STARTED"}) == 3

    def test_filtered_event_equals_its_event(self):
        """A filtered event equals the plain event on both sides and as a key (E-013)."""
        filtered = Events.STARTED(every=2)
        assert filtered == Events.STARTED
        assert Events.STARTED == filtered  # noqa: SIM300 - both sides are the point
        assert filtered == Events.STARTED(once=1)
        assert filtered != Events.COMPLETED
        assert filtered != Mine.STARTED
        assert {Events.STARTED: "found"}[filtered] == "found"

    def test_handlers_of_equally_named_events(self, identity):
        """Handlers at a custom STARTED do not run at Events.STARTED (E-013)."""
        got = []
        identity.register_events(Mine.STARTED)
        identity.add_event_handler(Mine.STARTED, lambda: got.append("mine"))
        identity.run([1])
        assert got == []

    def test_event_by_name(self, identity):
        """Registration methods accept a built-in event by its name, but not by its value (E-013)."""
        got = []
        identity.add_event_handler("EPOCH_COMPLETED", lambda e: got.append(e))
        identity.run([1])
        assert got == [identity]
        assert identity.has_registered_events("EPOCH_COMPLETED")
        assert not identity.has_registered_events("epoch_completed")


class TestMembers:
    def test_built_in_events(self):
        """Events has ignite's thirteen members and TEARDOWN (E-010)."""
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

    def test_custom_events(self):
        """Members of an EventEnum can be filtered and joined (E-011)."""
        assert isinstance(Mine.OTHER, CallableEventWithFilter)
        assert Mine.OTHER(every=2).event is Mine.OTHER
        assert list(Mine.OTHER | Events.STARTED) == [Mine.OTHER, Events.STARTED]

    def test_counters(self, identity):
        """Iteration events count iterations, epoch events epochs, and the others have no counter (E-012)."""
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

    def test_repr_is_the_expression(self):
        """The repr of an event, a filtered event and a list is the expression that creates it."""
        assert repr(Events.STARTED) == str(Events.STARTED) == "Events.STARTED"
        assert repr(Mine.OTHER(once=[1, 2])) == "Mine.OTHER(once=[1, 2])"
        assert repr(Events.STARTED(once=3)) == "Events.STARTED(once=3)"
        assert repr(Events.STARTED(every=3, before=9)) == "Events.STARTED(every=3, before=9)"
        assert repr(Events.STARTED(after=2)) == "Events.STARTED(after=2)"
        assert repr(Events.STARTED | Events.COMPLETED) == "EventsList(Events.STARTED, Events.COMPLETED)"
        assert "event_filter=<function" in repr(Events.STARTED(event_filter=lambda e, n: True))

    def test_pickle_and_copy(self):
        """Pickling and copying preserve an event's identity and a filter's equality."""
        for twin in (pickle.loads(pickle.dumps(Events.STARTED)), copy.deepcopy(Events.STARTED)):
            assert twin is Events.STARTED
        filtered = pickle.loads(pickle.dumps(Events.STARTED(every=2, before=9)))
        assert (filtered.event, filtered.filter) == (Events.STARTED, Events.STARTED(every=2, before=9).filter)
        assert (filtered.name, filtered.value) == ("STARTED", "started")


class TestEventsList:
    def test_sequence(self):
        """An EventsList supports len(), iteration, indexing and slicing (E-070)."""
        events = Events.STARTED | Events.EPOCH_COMPLETED(every=2) | Events.COMPLETED
        assert len(events) == 3
        assert list(events) == [Events.STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED]
        assert events[1].filter == Events.EPOCH_COMPLETED(every=2).filter
        assert events[1:] == (Events.EPOCH_COMPLETED, Events.COMPLETED)

    @pytest.mark.parametrize("join", [lambda: Events.STARTED | "custom", lambda: "custom" | Events.STARTED, lambda: (
        Events.STARTED | Events.COMPLETED) | None, lambda: EventsList("custom")])  # fmt: skip
    def test_only_events_are_joined(self, join):
        """Joining an event with anything else raises a TypeError (E-070)."""
        with pytest.raises(TypeError):
            join()

    def test_joining_a_string_names_the_remedy(self):
        """The error about a joined string shows how to register it (E-070)."""
        with pytest.raises(
            TypeError,
            match=r"got 'custom'\. For a string event, call add_event_handler separately",
        ):
            _ = Events.STARTED | "custom"

    def test_joining_returns_a_new_list(self):
        """`|` and `|=` leave their operands unchanged (E-071)."""
        first = Events.STARTED | Events.COMPLETED
        second = first
        joined = first | Events.TERMINATE
        second |= Events.INTERRUPT
        assert (len(first), len(joined), len(second)) == (2, 3, 3)

    def test_order_of_joined_lists(self):
        """Events and lists are joined in the order of their operands (E-072)."""
        pair = Events.STARTED | Events.COMPLETED
        assert list(Events.TERMINATE | pair) == [Events.TERMINATE, *pair]
        assert list(pair | pair) == [*pair, *pair]


class TestRegisterEvents:
    def test_registering_twice_keeps_handlers(self):
        """Registering an event again keeps its handlers (E-083)."""
        engine, got = Engine(lambda engine, batch: batch), []
        engine.register_events(Mine.OTHER)
        engine.add_event_handler(Mine.OTHER, lambda e: got.append(e))
        engine.register_events(Mine.OTHER, "more")
        engine.fire_event(Mine.OTHER)
        assert got == [engine]
        assert engine.has_registered_events(Mine.OTHER | Events.STARTED)
        assert not engine.has_registered_events(Mine.OTHER | Mine.STARTED)


class TestMisspelt:
    @pytest.mark.parametrize(
        ("name", "closest"),
        [
            ("EPOCH_COMPLETE", "EPOCH_COMPLETED"),
            ("epoch_completed", "EPOCH_COMPLETED"),
            ("STARTD", "STARTED"),
        ],
    )
    def test_attribute(self, name, closest):
        """The error for a misspelt event of an enum suggests the closest event."""
        with pytest.raises(AttributeError) as caught:
            getattr(Events, name)
        assert str(caught.value) == f"Events has no event {name!r}. Did you mean Events.{closest}?"

    def test_custom_events(self):
        """A custom enum suggests its own events, and nothing if no event is close."""
        with pytest.raises(AttributeError, match=r"Mine has no event 'OTHR'. Did you mean Mine.OTHER\?"):
            Mine.OTHR  # noqa: B018
        with pytest.raises(AttributeError, match=r"^Mine has no event 'zebra'$"):
            Mine.zebra  # noqa: B018
        assert not hasattr(Mine, "__wrapped__")

    @pytest.mark.parametrize(
        ("name", "closest"),
        [
            ("EPOCH_COMPLETE", "Events.EPOCH_COMPLETED"),
            ("epoch_completed", "Events.EPOCH_COMPLETED"),
            ("Events.STARTED", "Events.STARTED"),
            ("half_tim", "half_time"),
        ],
    )
    def test_string(self, name, closest):
        """The error for a misspelt event given as a string suggests the closest event of the engine."""
        engine = FakeEngine()
        engine.register_events("half_time")
        with pytest.raises(ValueError, match=rf"Did you mean {closest}\? Register custom"):
            engine.add_event_handler(name, print)
        with pytest.raises(ValueError, match=r"half_time\. Register custom events first"):
            engine.fire_event("zebra")
