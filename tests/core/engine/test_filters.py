"""Event filters: their options, and the counter they see."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
import time

import numpy as np
import pytest

from glowplug import Events


@pytest.fixture
def ran(identity):
    """Return a function that runs three epochs of four and returns iterations and epochs of a handler's calls."""

    def run(event, max_epochs=3, data=range(4)):
        got = []
        identity.add_event_handler(event, lambda e: got.append((e.state.epoch, e.state.iteration)))
        identity.run(data, max_epochs=max_epochs)
        return got

    return run


class TestValidation:
    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"event_filter": lambda e, n: True, "every": 2},
            {"event_filter": lambda e, n: True, "once": 2},
            {"once": 1, "every": 2},
            {"once": 1, "before": 2},
            {"once": 1, "after": 2},
            {"event_filter": lambda e, n: True, "after": 2},
        ],
    )
    def test_exactly_one_kind_of_filter(self, arguments):
        """Zero or several kinds of filter are refused, and the message shows them (E-060)."""
        with pytest.raises(
            ValueError,
            match=f"Events.STARTED: pass event_filter= alone.*got {', '.join(arguments) or 'nothing'}",
        ):
            Events.STARTED(**arguments)

    def test_event_filter_must_be_callable(self):
        """An event_filter that is not callable raises a TypeError (E-061)."""
        with pytest.raises(
            TypeError, match=r"event_filter= must be a function \(engine, counter\) -> bool, got 'odd'"
        ):
            Events.STARTED(event_filter="odd")

    @pytest.mark.parametrize(
        "function", [lambda: True, lambda engine: True, lambda engine, counter, third: True]
    )
    def test_event_filter_takes_two_arguments(self, function):
        """An event_filter that does not accept two arguments raises a ValueError (E-061)."""
        with pytest.raises(
            ValueError, match=r"must accept the arguments \(engine, counter\), but .* does not"
        ):
            Events.STARTED(event_filter=function)

    @pytest.mark.parametrize("number", [np.int64(2), True])
    def test_integers_of_any_type(self, number, ran):
        """Integers of numpy and booleans are accepted as integers (E-062)."""
        assert len(ran(Events.EPOCH_COMPLETED(every=number), max_epochs=2)) == 2 // int(number)

    @pytest.mark.parametrize("name", ["every", "once", "before", "after"])
    @pytest.mark.parametrize("value", [2.0, "2", -1, [1.5]])
    def test_invalid_numbers(self, name, value):
        """An invalid number is refused, and the message names argument and value (E-062, E-063, E-064)."""
        with pytest.raises(
            ValueError, match=f"Events.STARTED: {name}= must be an integer of at least [01], got"
        ):
            Events.STARTED(**{name: value})

    @pytest.mark.parametrize("arguments", [{"every": 0}, {"once": 0}, {"once": [1, 0]}])
    def test_zero(self, arguments):
        """Zero is refused for `every` and `once` (E-062, E-063)."""
        with pytest.raises(ValueError, match="at least 1, got 0"):
            Events.STARTED(**arguments)

    def test_once_is_empty(self):
        """An empty `once` is refused (E-063)."""
        with pytest.raises(ValueError, match="once= is empty"):
            Events.STARTED(once=[])


class TestNumbers:
    def test_every_counts_over_epochs(self, ran):
        """`every=` counts the iterations of the run, not of the epoch (E-062)."""
        assert [n for _, n in ran(Events.ITERATION_COMPLETED(every=3))] == [3, 6, 9, 12]

    def test_every_one_is_the_plain_event(self):
        """`every=1` returns the plain event (E-062)."""
        assert Events.STARTED(every=1) is Events.STARTED

    @pytest.mark.parametrize("numbers", [[1, 3], (3, 1), [np.int64(1), np.int32(3)]])
    def test_once_at_several_numbers(self, numbers, ran):
        """`once` accepts a list or tuple of any integers (E-063)."""
        assert ran(Events.EPOCH_COMPLETED(once=numbers)) == [(1, 4), (3, 12)]

    def test_before_and_after_are_exclusive(self, ran):
        """`before=5, after=2` runs at 3 and 4 (E-064)."""
        assert [n for _, n in ran(Events.ITERATION_COMPLETED(before=5, after=2))] == [3, 4]

    def test_zero_for_before_and_after(self, ran):
        """`after=0` always runs and `before=0` never (E-064)."""
        assert len(ran(Events.EPOCH_COMPLETED(after=0))) == 3
        assert ran(Events.EPOCH_COMPLETED(before=0)) == []

    def test_every_counts_from_after(self, ran):
        """`every=2, before=10, after=3` runs at 4, 6 and 8; without `after` at multiples of two (E-065)."""
        assert [n for _, n in ran(Events.ITERATION_COMPLETED(every=2, before=10, after=3))] == [4, 6, 8]
        assert [n for _, n in ran(Events.ITERATION_STARTED(every=5, before=11))] == [5, 10]

    def test_last_filter_applies(self, ran):
        """Filtering a filtered event replaces its filter (E-066)."""
        event = Events.ITERATION_COMPLETED(once=1)(every=6)
        assert [n for _, n in ran(event)] == [6, 12]
        assert Events.ITERATION_COMPLETED(once=1)(every=1) is Events.ITERATION_COMPLETED


class TestFiringCounter:
    def test_counts_firings_within_a_run(self, identity):
        """Filters on an event without a counter count its firings, starting at one in each run (E-067)."""
        got = []
        identity.add_event_handler(
            Events.DATALOADER_STOP_ITERATION(once=2), lambda e: got.append((e.state.epoch, e.state.iteration))
        )
        identity.run([1, 2], max_epochs=4)
        identity.run([1, 2], max_epochs=4)
        assert got == [(3, 4), (3, 4)]

    def test_custom_events(self, identity):
        """Filters on a custom event without a counter count its firings (E-067)."""
        got = []
        identity.register_events("custom")
        identity.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.fire_event("custom"))
        identity.add_event_handler("custom", lambda: got.append("each"))
        identity.add_event_handler(Events.TEARDOWN(once=1), lambda: got.append("teardown"))
        identity.run([1, 2])
        assert got == ["each", "each", "teardown"]

    @pytest.mark.parametrize(
        "event", [Events.TERMINATE, Events.INTERRUPT, Events.TERMINATE_SINGLE_EPOCH, Events.EXCEPTION_RAISED]
    )
    def test_all_events_without_a_counter(self, event, identity):
        """Filters work on each built-in event without a counter in the state (E-067)."""
        got = []
        act = {
            Events.TERMINATE: lambda e: e.terminate(),
            Events.INTERRUPT: lambda e: e.interrupt(),
            Events.TERMINATE_SINGLE_EPOCH: lambda e: e.terminate_epoch(),
            Events.EXCEPTION_RAISED: lambda e: 1 / 0,
        }[event]
        identity.add_event_handler(event(once=1), lambda *_: got.append("once") or True)
        identity.add_event_handler(event(after=1), lambda *_: got.append("after") or True)
        identity.add_event_handler(Events.ITERATION_COMPLETED, act)
        identity.run([1])
        assert got == ["once"]


class TestCounterSeen:
    def test_filter_receives_its_engine(self, identity):
        """An event_filter receives the engine that fires the event (E-068)."""
        asked = []
        identity.add_event_handler(
            Events.EPOCH_COMPLETED(event_filter=lambda e, n: asked.append((e, n))), lambda: 1 / 0
        )
        identity.run([1], max_epochs=2)
        assert asked == [(identity, 1), (identity, 2)]

    @pytest.mark.parametrize(
        "filters",
        [
            [{"every": 3}, {"every": 5}],
            [{"every": 5}, {"every": 3}, {"every": 1}],
            [{"every": 4}, {"once": 7}, {"before": 3}],
            [{"every": 7}, {"after": 17}, {"event_filter": lambda e, n: n == 11}],
        ],
    )
    def test_several_filters_at_one_event(self, filters, identity):
        """Handlers with different filters at one event run at their own numbers, also in a second run."""
        got = [[] for _ in filters]
        for numbers, arguments in zip(got, filters, strict=True):
            event = Events.ITERATION_COMPLETED(**arguments)
            identity.add_event_handler(event, lambda e, n: n.append(e.state.iteration), numbers)

        def due(n, every=1, once=None, before=100, after=0, event_filter=None):
            wanted = once in {None, n} and (event_filter is None or event_filter(identity, n))
            return n % every == 0 and after < n < before and wanted

        for length in (20, 9):
            identity.run(range(length))
            assert got == [[n for n in range(1, length + 1) if due(n, **arguments)] for arguments in filters]
            for numbers in got:
                numbers.clear()

    def test_filters_see_modified_counters(self, identity):
        """Filters see counters that were set by a handler or loaded."""
        got = []
        identity.add_event_handler(
            Events.ITERATION_COMPLETED(every=10), lambda e: got.append(e.state.iteration)
        )
        identity.add_event_handler(
            Events.ITERATION_STARTED,
            lambda e: setattr(e.state, "iteration", 30) if e.state.iteration == 3 else None,
        )
        identity.run(range(50))
        assert got == [30, 40, 50]
        identity.load_state_dict({"epoch_length": 20, "iteration": 9, "max_epochs": 1})
        identity.run(range(20))
        assert got[3:] == [10, 20]

    def test_get_batch_sees_the_previous_iteration(self, ran):
        """Filters on GET_BATCH events see the iteration before the fetch (E-017)."""
        assert [n for _, n in ran(Events.GET_BATCH_STARTED(every=2), max_epochs=1)] == [0, 2]
        assert [n for _, n in ran(Events.GET_BATCH_COMPLETED(once=1), max_epochs=1)] == [1]
        assert [n for _, n in ran(Events.ITERATION_STARTED(once=1), max_epochs=1)] == [1]

    def test_started_sees_epoch_zero(self, ran):
        """STARTED of a new run has counter 0, so `every` always runs and `once=1` never (E-019)."""
        assert ran(Events.STARTED(every=7)) == [(0, 0)]
        assert ran(Events.STARTED(once=1)) == []

    def test_filtered_handlers_added_during_the_run(self, identity):
        """A filtered handler added during the run follows its own numbers and leaves those of others unchanged."""
        seldom, often = [], []
        identity.add_event_handler(
            Events.ITERATION_COMPLETED(every=10), lambda e: seldom.append(e.state.iteration)
        )

        @identity.on(Events.ITERATION_STARTED(once=4))
        def come(engine):
            handle = engine.add_event_handler(
                Events.ITERATION_COMPLETED(every=2), lambda e: often.append(e.state.iteration)
            )
            engine.add_event_handler(Events.ITERATION_STARTED(once=9), handle.remove)

        identity.run(range(20))
        assert often == [4, 6, 8]
        assert seldom == [10, 20]


class TestOnce:
    def test_counter_value_that_is_seen_again(self, identity):
        """once= fires once per counter value, though each epoch begins at the same iteration (E-063)."""
        got = []

        def end_epoch(engine):
            got.append((engine.state.epoch, engine.state.iteration))
            engine.terminate_epoch()

        identity.add_event_handler(Events.GET_BATCH_STARTED(once=3), end_epoch)
        identity.add_event_handler(Events.GET_BATCH_STARTED(once=[3, 5]), lambda: got.append("second"))
        identity.run([1, 2, 3, 4, 5], max_epochs=3)
        assert got == [(1, 3), "second", "second"]
        assert identity.state.iteration == 3 + 5 + 5

    def test_each_run_counts_again(self, identity):
        """A new run, or another registration of the same event, fires again (E-063)."""
        got = []
        event = Events.EPOCH_COMPLETED(once=2)
        identity.add_event_handler(event, lambda: got.append("a"))
        identity.add_event_handler(event, lambda: got.append("b"))
        identity.run([1], max_epochs=3)
        identity.run([1], max_epochs=3)
        assert got == ["a", "b", "a", "b"]

    def test_continued_run(self, identity):
        """A run that continues, also as a copy of the engine, does not fire again (E-063)."""
        got = []
        identity.add_event_handler(Events.STARTED(once=1), lambda: got.append(1))
        identity.run([1], max_epochs=1)
        identity.run([1], max_epochs=2)
        identity.run([1], max_epochs=3)
        copy.deepcopy(identity).run([1], max_epochs=4)
        assert got == [1]


class TestTime:
    @pytest.fixture
    def clock(self, monkeypatch):
        """A clock that advances by 10 seconds at each reading, and the number of its readings."""
        readings = itertools.count()
        monkeypatch.setattr(time, "monotonic", lambda: next(readings) * 10.0)
        return readings

    @pytest.mark.parametrize("interval", [{"every_seconds": 30}, {"every_minutes": 0.5}])
    def test_interval(self, clock, ran, interval):
        """The handler runs at the first event after each interval, and the first interval begins with the first event (E-062)."""
        event = Events.ITERATION_COMPLETED(**interval)
        assert ran(event) == [(1, 4), (2, 7), (3, 10)]

    @pytest.mark.parametrize("event", [Events.EPOCH_COMPLETED, Events.DATALOADER_STOP_ITERATION])
    def test_other_events(self, clock, identity, event):
        """Events without a counter, and events of an epoch, have intervals too (E-062)."""
        got = []
        identity.add_event_handler(event(every_seconds=20), lambda e: got.append(e.state.epoch))
        identity.run(range(2), max_epochs=9, epoch_length=2)
        assert got == ([3, 5, 7, 9] if event is Events.EPOCH_COMPLETED else [4, 6, 8])

    def test_shared_event(self, clock, identity):
        """Handlers that share a filtered event have their own intervals (E-062)."""
        got, event = [], Events.ITERATION_COMPLETED(every_seconds=20)
        identity.add_event_handler(event, lambda e: got.append(("a", e.state.iteration)))
        identity.add_event_handler(event, lambda e: got.append(("b", e.state.iteration)))
        identity.run(range(4))
        assert got == [("a", 2), ("b", 2), ("a", 3), ("b", 3), ("a", 4), ("b", 4)]

    def test_new_run(self, identity, monkeypatch):
        """In a new run, the interval begins again, so that a pause between runs does not count (E-062)."""
        now = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        got = []
        identity.add_event_handler(Events.ITERATION_COMPLETED(every_seconds=60), lambda e: got.append(1))
        for _ in range(2):
            identity.run(range(3))
            now[0] += 3600
        assert got == []

    @pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "10", None])
    def test_duration(self, value):
        """An interval must be a positive number (E-061)."""
        expected = (
            "got nothing" if value is None else f"every_minutes= must be a positive number, got {value!r}"
        )
        with pytest.raises(ValueError, match=re.escape(expected)):
            Events.STARTED(every_minutes=value)

    @pytest.mark.parametrize(
        "arguments", [{"every": 2}, {"once": 2}, {"after": 2}, {"every_minutes": 1}, {"event_filter": max}]
    )
    def test_alone(self, arguments):
        """An interval of time cannot be combined with another filter (E-060)."""
        with pytest.raises(ValueError, match="every_seconds= or every_minutes= alone"):
            Events.STARTED(every_seconds=1, **arguments)

    def test_description(self, identity):
        """The table of handlers, and the event itself, show the interval in seconds (E-062)."""
        event = Events.STARTED(every_minutes=1.5)
        assert str(event) == "Events.STARTED(every_seconds=90)"
        assert event == Events.STARTED
        identity.add_event_handler(event, lambda: None)
        assert "every_seconds=90" in identity.describe()

    def test_copies(self, identity):
        """An engine with such a filter can be copied and pickled (E-141)."""
        identity.add_event_handler(Events.ITERATION_COMPLETED(every_seconds=1e-9), print)
        pickle.loads(pickle.dumps(identity.registrations()[0]))
        assert copy.deepcopy(identity).registrations()[0].filter == identity.registrations()[0].filter

    def test_no_clock_without_an_interval(self, identity, monkeypatch):
        """Events without an interval of time never read the clock."""

        def fail():
            raise AssertionError("the clock was read")

        monkeypatch.setattr(time, "monotonic", fail)
        identity.add_event_handler(Events.ITERATION_COMPLETED(every=2), lambda: None)
        identity.run(range(4))

    @pytest.mark.parametrize(("pace", "checks"), [(2e-3, 100), (1e-6, 3)])
    def test_omitted_checks(self, identity, monkeypatch, pace, checks):
        """The clock is read at each slow iteration, and at one of 65 fast ones, also if every= handlers listen (E-062)."""
        now, read = [0.0], []
        monkeypatch.setattr(time, "monotonic", lambda: read.append(1) or now[0])
        identity.add_event_handler(Events.ITERATION_STARTED, lambda: now.__setitem__(0, now[0] + pace))
        identity.add_event_handler(Events.ITERATION_COMPLETED(every=1000), lambda: None)
        identity.add_event_handler(Events.ITERATION_COMPLETED(every_seconds=60), lambda: None)
        identity.run(range(100))
        assert len(read) == checks

    def test_time_of_the_first_run(self, identity, monkeypatch):
        """Fast iterations do not make a handler late by more than a millisecond, while their pace is the same (E-062)."""
        now, ran = [0.0], []
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        identity.add_event_handler(Events.ITERATION_STARTED, lambda: now.__setitem__(0, now[0] + 1e-4))
        identity.add_event_handler(Events.ITERATION_COMPLETED(every_seconds=0.5), lambda: ran.append(now[0]))
        identity.run(range(20_001))
        assert len(ran) == 3
        previous = [1e-4, *ran]
        assert all(0.5 <= end - start < 0.501 for start, end in zip(previous, ran, strict=False))


class Rare:
    """Filter that lets every tenth call through, and says so."""

    idle_calls = 9

    def __init__(self):
        self.calls = []

    def __call__(self, engine, counter):
        self.calls.append(counter)
        return True


def test_idle_calls(identity):
    """A filter with idle_calls is called again after that many firings, in each run; beside other filters at each firing."""
    rare, ran = Rare(), []
    identity.add_event_handler(
        Events.ITERATION_COMPLETED(event_filter=rare), lambda e: ran.append(e.state.iteration)
    )
    for _ in range(2):
        identity.run(range(25))
        assert rare.calls == ran == [1, 11, 21]
        rare.calls.clear()
        ran.clear()
    with identity.add_event_handler(Events.ITERATION_COMPLETED, lambda: None):
        identity.run(range(25))
        assert rare.calls == [*range(1, 26)]
    identity.add_event_handler(Events.ITERATION_COMPLETED(event_filter=lambda engine, counter: False), print)
    rare.calls.clear()
    identity.run(range(25))
    assert rare.calls == [*range(1, 26)]
