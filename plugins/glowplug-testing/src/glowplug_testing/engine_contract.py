"""Contract of an engine: firing, filters, events, handlers, state, stop requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from glowplug import EventEnum, Events
from glowplug.exceptions import GlowplugWarning
from glowplug_testing.engine_checks import (
    CustomEvents,
    Failing,
    MakeEngine,
    OneEvent,
    Recorder,
    Stateful,
    fail_with,
    nothing,
)
from glowplug_testing.registration_contract import RegistrationContract


class EngineContract(RegistrationContract):
    """Checks of an engine. Subclass this contract and return an engine factory from the fixture ``make_engine``.

    ``FakeEngine`` and ``Engine`` both pass these checks, so a handler tested with one of these engines works with the other.

    Example:
        >>> import pytest
        >>> from glowplug import Engine
        >>> class TestMyEngine(EngineContract):
        ...     @pytest.fixture
        ...     def make_engine(self):
        ...         return lambda: Engine(lambda engine, batch: batch)
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        checks = [name for name in dir(EngineContract) if name.startswith("test_")]
        replaced = [name for name in checks if getattr(cls, name) is not getattr(EngineContract, name)]
        if replaced:
            raise TypeError(
                f"{cls.__name__} must not replace {', '.join(replaced)}, because an engine must pass all tests of the contract. "
                "Give your own tests other names"
            )

    # Firing

    def test_changes_take_effect_at_the_next_firing(self, make_engine: MakeEngine) -> None:
        """If a handler is added or removed while an event fires, the change takes effect at the next firing (E-037)."""
        engine = make_engine()
        got: list[Any] = []

        def change() -> None:
            got.append("change")
            late.remove()
            engine.add_event_handler(Events.STARTED, lambda: got.append("new"))

        engine.add_event_handler(Events.STARTED, change)
        late = engine.add_event_handler(Events.STARTED, lambda: got.append("late"))
        self.fire(engine, Events.STARTED)
        assert got == ["change", "late"]
        self.fire(engine, Events.STARTED)
        assert got == ["change", "late", "change", "new"]

    def test_handlers_are_wrapped(self, make_engine: MakeEngine) -> None:
        """A wrapper wraps the calls of all handlers, added before or after it, until its handle is removed."""
        engine = make_engine()
        got: list[Any] = []

        def wrapper(registration: Any, call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any) -> Any:
                got.append(registration.event)
                return call(*arguments)

            return wrapped

        engine.add_event_handler(Events.STARTED, lambda: got.append("early"))
        handle = engine.wrap_handlers(wrapper)
        engine.add_event_handler(Events.STARTED, lambda: got.append("late"))
        self.fire(engine, Events.STARTED)
        assert got == [Events.STARTED, "early", Events.STARTED, "late"]
        got.clear()
        handle.remove()
        self.fire(engine, Events.STARTED)
        assert got == ["early", "late"]

    def test_return_values_are_ignored(self, make_engine: MakeEngine) -> None:
        """The return value of a handler has no effect on later handlers (E-038)."""
        engine = make_engine()
        got: list[Any] = []

        def handler(_: Any, value: Any) -> Any:
            got.append(value)
            return value

        for value in (True, False, StopIteration):
            engine.add_event_handler(Events.STARTED, handler, value)
        self.fire(engine, Events.STARTED)
        assert got == [True, False, StopIteration]

    def test_exception_handlers(self, make_engine: MakeEngine) -> None:
        """Handlers of EXCEPTION_RAISED get the exception, the engine, or both, depending on their parameters (E-039)."""
        engine, error = make_engine(), KeyError("broken")
        got: list[Any] = []
        engine.add_event_handler(Events.EXCEPTION_RAISED, Recorder(got).record)
        engine.add_event_handler(Events.EXCEPTION_RAISED, lambda e, x: got.append((e, x)))
        engine.add_event_handler(Events.EXCEPTION_RAISED, lambda e, x, y, z: got.append((e, x, y, z)), 1, z=2)
        engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine: got.append([engine]))
        self.fire(engine, Events.EXCEPTION_RAISED, error=error)
        assert got == [error, (engine, error), (engine, error, 1, 2), [engine]]
        with pytest.raises(ValueError, match=r"EXCEPTION_RAISED cannot be called with \(engine, exception\)"):
            engine.add_event_handler(Events.EXCEPTION_RAISED, lambda: None)

    def test_terminate_single_epoch_handlers(self, make_engine: MakeEngine) -> None:
        """Handlers of TERMINATE_SINGLE_EPOCH get the iteration if they have a parameter ``iter_counter`` (E-039)."""
        engine = make_engine()
        got: list[Any] = []
        event = Events.TERMINATE_SINGLE_EPOCH
        engine.add_event_handler(event, lambda: got.append("bare"))
        engine.add_event_handler(event, Recorder(got).record)
        engine.add_event_handler(event, lambda iter_counter: got.append((iter_counter,)))
        engine.add_event_handler(event, lambda e, iter_counter: got.append((e, iter_counter)))
        engine.add_event_handler(event, lambda e, x, *, iter_counter: got.append((e, x, iter_counter)), "x")
        self.fire(engine, event, iteration=1)
        assert got == ["bare", engine, (1,), (engine, 1), (engine, "x", 1)]

    def test_arguments_do_not_leak(self, make_engine: MakeEngine) -> None:
        """A handler that changes its keyword arguments affects neither later firings nor the caller's dict (E-040)."""
        engine, options = make_engine(), {"mine": 1}
        got: list[Any] = []

        def handler(_: Any, **kwargs: Any) -> None:
            got.append(dict(kwargs))
            kwargs["left_behind"] = True

        engine.add_event_handler(Events.TERMINATE_SINGLE_EPOCH | Events.TERMINATE, handler, **options)
        for _ in range(2):
            self.fire(engine, Events.TERMINATE_SINGLE_EPOCH, iteration=1)
        self.fire(engine, Events.TERMINATE)
        assert options == {"mine": 1}
        assert got == [{"mine": 1, "iter_counter": 1}, {"mine": 1, "iter_counter": 1}, {"mine": 1}]

    def test_handlers_fire_events(self, make_engine: MakeEngine) -> None:
        """A handler can fire another event, and continues after the handlers of that event have run (E-041)."""
        engine = make_engine()
        got: list[Any] = []
        engine.register_events("inner")
        engine.add_event_handler("inner", lambda e: got.append(e.last_event_name))

        def outer() -> None:
            engine.fire_event("inner")
            got.append("outer")

        engine.add_event_handler(Events.EPOCH_COMPLETED, outer)
        self.fire(engine, Events.EPOCH_COMPLETED)
        assert got == ["inner", "outer"]
        with pytest.raises(TypeError):
            engine.fire_event("inner", "payload")

    def test_fire_event_refuses_events_with_an_argument(self, make_engine: MakeEngine) -> None:
        """``fire_event`` rejects events that pass an argument to handlers; only the engine can fire such events (E-041)."""
        engine = make_engine()
        for event in (Events.EXCEPTION_RAISED, Events.TERMINATE_SINGLE_EPOCH):
            with pytest.raises(ValueError, match=rf"only the engine can fire {event}"):
                engine.fire_event(event)

    def test_handlers_see_the_event_and_the_state(self, make_engine: MakeEngine) -> None:
        """While handlers run, ``last_event_name`` is the event without its filter, and ``state`` is up to date."""
        engine = make_engine()
        got: list[Any] = []
        engine.add_event_handler(
            Events.EPOCH_COMPLETED(every=3),
            lambda e: got.append((e.last_event_name, e.state.epoch, e.state.metrics["acc"])),
        )
        self.fire(engine, Events.EPOCH_COMPLETED, epoch=3, metrics={"acc": 0.5})
        assert got == [(Events.EPOCH_COMPLETED, 3, 0.5)]
        assert isinstance(got[0][0], EventEnum)

    def test_errors_of_handlers_reach_the_caller(self, make_engine: MakeEngine) -> None:
        """An exception raised by a handler reaches the caller, and later handlers do not run."""
        engine = make_engine()
        got: list[Any] = []
        engine.add_event_handler(Events.STARTED, fail_with, ZeroDivisionError("mine"))
        engine.add_event_handler(Events.STARTED, lambda: got.append("later"))
        with pytest.raises(ZeroDivisionError, match="mine"):
            self.fire(engine, Events.STARTED)
        assert got == []

    # Filters

    def test_event_filter(self, make_engine: MakeEngine) -> None:
        """A filter function gets the engine and the event's counter, and decides whether the handler runs (E-061, E-068)."""
        engine = make_engine()
        asked: list[Any] = []

        def odd(e: Any, counter: int) -> bool:
            asked.append((e, counter))
            return counter % 2 == 1

        ran = self.counters(engine, Events.ITERATION_COMPLETED(event_filter=odd), range(1, 5))
        assert ran == [1, 3]
        assert asked == [(engine, counter) for counter in range(1, 5)]

    def test_every(self, make_engine: MakeEngine) -> None:
        """With ``every=n``, a handler runs at each n-th firing, counted from the start of the run (E-062)."""
        assert self.counters(make_engine(), Events.ITERATION_COMPLETED(every=3), range(2, 8)) == [3, 6]

    def test_once(self, make_engine: MakeEngine) -> None:
        """With ``once=n``, a handler runs at count n; with a list, the handler runs at each count in the list (E-063)."""
        assert self.counters(make_engine(), Events.ITERATION_COMPLETED(once=2), range(1, 5)) == [2]
        assert self.counters(make_engine(), Events.ITERATION_COMPLETED(once=[4, 1]), range(1, 6)) == [1, 4]

    def test_before_and_after(self, make_engine: MakeEngine) -> None:
        """The bounds ``before`` and ``after`` are exclusive: a handler does not run at the bounds themselves (E-064)."""
        event = Events.ITERATION_COMPLETED
        assert self.counters(make_engine(), event(before=3), range(6)) == [0, 1, 2]
        assert self.counters(make_engine(), event(after=3), range(1, 6)) == [4, 5]
        assert self.counters(make_engine(), event(before=5, after=2), range(1, 9)) == [3, 4]

    def test_every_after(self, make_engine: MakeEngine) -> None:
        """With ``every=n`` and ``after=m``, a handler runs at count m + 1 and at each n-th count after that (E-065)."""
        event = Events.ITERATION_COMPLETED
        assert self.counters(make_engine(), event(every=2, before=10, after=3), range(1, 13)) == [4, 6, 8]
        assert self.counters(make_engine(), event(every=3, after=1), range(1, 10)) == [2, 5, 8]

    def test_second_filter_replaces_the_first(self, make_engine: MakeEngine) -> None:
        """Calling a filtered event with another filter replaces the first filter (E-066)."""
        event = Events.ITERATION_COMPLETED(every=2)(every=3)
        assert self.counters(make_engine(), event, range(1, 8)) == [3, 6]

    def test_events_without_counter_count_firings(self, make_engine: MakeEngine) -> None:
        """A filter on an event without a counter counts the firings of the event (E-067)."""
        engine = make_engine()
        got: list[Any] = []
        engine.register_events("custom")
        for event in ("custom", Events.TERMINATE):
            engine.add_event_handler(event, lambda: got.append("all"))
        engine.add_event_handler(Events.TERMINATE(every=2), lambda: got.append("second"))
        for _ in range(4):
            self.fire(engine, Events.TERMINATE)
            self.fire(engine, "custom")
        assert got == ["all", "all", "all", "second", "all"] * 2

    # Lists of events and custom events

    def test_event_lists(self, make_engine: MakeEngine) -> None:
        """``|`` joins events and lists of events, in any order, into a new list (E-070, E-071, E-072)."""
        engine = make_engine()
        got: list[Any] = []
        pair = Events.STARTED | Events.COMPLETED
        three = Events.EPOCH_STARTED | pair
        assert (len(pair), list(three | pair)[2:]) == (
            2,
            [Events.COMPLETED, Events.STARTED, Events.COMPLETED],
        )
        engine.add_event_handler(three, lambda e: got.append(e.last_event_name))
        for event in three:
            self.fire(engine, event)
        assert got == [Events.EPOCH_STARTED, Events.STARTED, Events.COMPLETED]

    def test_custom_events(self, make_engine: MakeEngine) -> None:
        """Strings and members of an EventEnum can be registered as events, even more than once (E-080)."""
        engine = make_engine()
        got: list[Any] = []
        engine.register_events("begin", CustomEvents.STARTED)
        engine.add_event_handler("begin", lambda: got.append("begin"))
        engine.add_event_handler(CustomEvents.STARTED, lambda: got.append("own"))
        engine.add_event_handler(Events.STARTED, lambda: got.append("started"))
        engine.register_events("begin", CustomEvents.STARTED)
        for event in (CustomEvents.STARTED, "begin", Events.STARTED):
            self.fire(engine, event)
        assert got == ["own", "begin", "started"]
        with pytest.raises(TypeError, match="an event must be a member of an EventEnum or a string, got 5"):
            engine.register_events(5)
        with pytest.raises(ValueError, match="event_to_attr must be a dict"):
            engine.register_events("other", event_to_attr=["attribute"])

    def test_custom_counters_belong_to_one_engine(self, make_engine: MakeEngine) -> None:
        """A custom event's counter belongs to one engine and starts at 0 unless its state attribute already exists (E-081)."""
        engine, other = make_engine(), make_engine()
        engine.state.kept = 4
        engine.register_events(
            CustomEvents.STARTED, "b", event_to_attr={CustomEvents.STARTED: "owned", "b": "kept"}
        )
        assert (engine.state.owned, engine.state.kept) == (0, 4)
        assert engine.state.get_event_attrib_value(CustomEvents.STARTED(every=2)) == 0
        assert not hasattr(other.state, "owned")
        assert not other.has_registered_events(CustomEvents.STARTED)
        with pytest.raises(RuntimeError, match="STARTED has no counter"):
            other.state.get_event_attrib_value(CustomEvents.STARTED)

    def test_custom_counters_belong_to_the_user(self, make_engine: MakeEngine) -> None:
        """Firing a custom event does not change its counter; filters use the value set by the user (E-082)."""
        engine = make_engine()
        got: list[Any] = []
        engine.register_events(CustomEvents.STARTED, event_to_attr={CustomEvents.STARTED: "owned"})
        engine.add_event_handler(CustomEvents.STARTED(once=3), lambda e: got.append(e.state.owned))
        self.fire(engine, CustomEvents.STARTED)
        assert engine.state.owned == 0
        self.fire(engine, CustomEvents.STARTED, owned=3)
        assert got == [3]

    # Handler objects

    def test_attach_returns_one_handle(self, make_engine: MakeEngine) -> None:
        """``attach`` attaches several handlers to their default events and returns one handle for all of them."""
        engine = make_engine()
        got: list[Any] = []
        with engine.attach(OneEvent(got, "a"), OneEvent(got, "b")):
            self.fire(engine, Events.STARTED)
        self.fire(engine, Events.STARTED)
        assert got == ["a", "b"]

    def test_attach_is_all_or_nothing(self, make_engine: MakeEngine) -> None:
        """If ``attach`` cannot attach one of several handlers, it attaches none of them."""
        engine = make_engine()
        got: list[Any] = []
        with pytest.raises(RuntimeError, match="cannot be attached"):
            engine.attach(OneEvent(got, "a"), OneEvent(got, "fails"))
        for wrong in (nothing, OneEvent):
            with pytest.raises(TypeError, match=r"a method attach\(engine\)"):
                engine.attach(OneEvent(got, "a"), wrong)
        self.fire(engine, Events.STARTED)
        assert got == []

    def test_failing_optional_handler_is_detached(self, make_engine: MakeEngine) -> None:
        """With ``on_error="disable"``, a handler that fails is detached and reported; other handlers still run (P3)."""
        engine = make_engine()
        got: list[Any] = []
        failing, healthy = Failing(), OneEvent(got, "healthy")
        engine.attach(failing, healthy, on_error="disable")
        with pytest.warns(
            GlowplugWarning,
            match=r"Failing .* failed at Events.STARTED.*: LookupError: 1\. The handler was detached",
        ):
            self.fire(engine, Events.STARTED)
        self.fire(engine, Events.STARTED)
        assert got == ["healthy", "healthy"]
        assert failing.calls == 1
        assert not engine.has_event_handler(failing.look)
        assert [(fault.handler, fault.event) for fault in engine.faults] == [("Failing", Events.STARTED)]

    def test_other_errors_are_raised(self, make_engine: MakeEngine) -> None:
        """An error in a handler reaches the caller unless the handler was attached with ``on_error="disable"`` (P3)."""
        engine = make_engine()
        with pytest.raises(LookupError), engine.attach(Failing()):
            self.fire(engine, Events.STARTED)
        engine.attach(OneEvent([], "healthy"), on_error="disable")
        engine.add_event_handler(Events.STARTED, Failing().look)
        with pytest.raises(LookupError):
            self.fire(engine, Events.STARTED)
        with pytest.raises(ValueError, match="on_error must be 'raise' or 'disable', got 'ignore'"):
            engine.attach(on_error="ignore")
        assert engine.faults == ()

    def test_state_of_handlers_is_saved(self, make_engine: MakeEngine) -> None:
        """The engine's state contains each handler's state; loading restores this state in the handler with the same key."""
        engine, other, handler = make_engine(), make_engine(), Stateful(0)
        engine.register_state("mine", Stateful(5))
        other.register_state("mine", handler)
        other.load_state_dict(engine.state_dict())
        assert handler.number == 5

    def test_state_waits_for_a_later_handler(self, make_engine: MakeEngine) -> None:
        """Loaded state that has no handler is saved again; a handler that later registers the same key gets this state."""
        engine, other = make_engine(), make_engine()
        engine.register_state("mine", Stateful(5))
        other.load_state_dict(engine.state_dict())
        assert other.state_dict()["handlers"] == {"mine": {"number": 5}}
        late = Stateful(0)
        other.register_state("mine", late)
        assert late.number == 5

    def test_state_keys_are_unique(self, make_engine: MakeEngine) -> None:
        """If a state key is in use, the next handler gets the key with ``#2`` appended; removing a handler frees its key."""
        engine = make_engine()
        handle = engine.register_state("mine", Stateful(1))
        second = engine.register_state("mine", Stateful(2))
        assert engine.state_dict()["handlers"] == {"mine": {"number": 1}, "mine#2": {"number": 2}}
        second.remove()
        handle.remove()
        engine.register_state("mine", Stateful(3))
        assert engine.state_dict()["handlers"] == {"mine": {"number": 3}}
        with pytest.raises(ValueError, match="non-empty string"):
            engine.register_state("", Stateful(4))

    # Stop requests

    def test_stop_requests_are_recorded(self, make_engine: MakeEngine) -> None:
        """A stop request sets a ``should_*`` attribute of the engine, and later handlers still run (E-130)."""
        engine = make_engine()
        got: list[Any] = []
        assert (engine.should_terminate, engine.should_terminate_single_epoch, engine.should_interrupt) == (
            False,
            False,
            False,
        )
        for handler in (
            lambda e: e.terminate(),
            lambda e: got.append(e.should_terminate),
            lambda e: e.terminate(skip_completed=True),
            lambda e: got.append(e.should_terminate),
            lambda e: e.terminate_epoch(),
            lambda e: got.append(e.should_terminate_single_epoch),
            lambda e: e.terminate_epoch(skip_epoch_completed=True),
            lambda e: got.append(e.should_terminate_single_epoch),
            lambda e: e.interrupt(),
            lambda e: got.append(e.should_interrupt),
        ):
            engine.add_event_handler(Events.ITERATION_COMPLETED, handler)
        self.fire(engine, Events.ITERATION_COMPLETED)
        assert got == [True, "skip_completed", True, "skip_epoch_completed", True]

    def test_parent_defaults_to_none(self, make_engine: MakeEngine) -> None:
        """An engine has no parent unless it runs inside a handler of another engine."""
        assert make_engine().parent is None
