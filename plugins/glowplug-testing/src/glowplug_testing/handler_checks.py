"""Checks of a handler on an engine: attached and removed, in runs that end in any way, leaving alone what is not its own."""

from __future__ import annotations

import copy
import gc
import inspect
import statistics
import sys
import time
import weakref
from collections.abc import Mapping
from typing import Any

from glowplug import Events, Phase, RemovableEventHandle
from glowplug.engine import Engine
from glowplug.testing import FakeEngine
from glowplug_testing.cases import HandlerCase
from glowplug_testing.checks import CheckFailed, CheckSkipped, require
from glowplug_testing.engine_play import equal, left_alone, play, registered

BATCHES = 3


class Publishes:
    """Puts the case's metrics where an attached metric would."""

    phase = Phase.METRICS

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        self._metrics = dict(metrics)

    def __call__(self, engine: Any) -> None:
        engine.state.metrics.update(copy.deepcopy(self._metrics))


def engine_for(case: HandlerCase) -> Engine:
    """Return an engine whose output and metrics are the case's."""
    engine = Engine(lambda *_: copy.deepcopy(case.output))
    engine.add_event_handler(Events.ITERATION_COMPLETED | Events.EPOCH_COMPLETED, Publishes(case.metrics))
    return engine


def run(engine: Engine) -> Engine:
    """Run it for two epochs."""
    engine.run(list(range(BATCHES)), max_epochs=2)
    return engine


def play_case(case: HandlerCase, fake: FakeEngine, metrics: Mapping[str, Any] | None = None) -> FakeEngine:
    """Play the same on a fake."""
    outputs = [copy.deepcopy(case.output) for _ in range(BATCHES)]
    return play(fake, outputs, case.metrics if metrics is None else metrics)


def can_be_attached_or_called(case: HandlerCase) -> None:
    """A handler has attach(engine), with its own event as the default; one that can be called fits into add_event_handler."""
    handler = case.make()
    attachable = callable(getattr(handler, "attach", None))
    require(
        attachable or callable(handler),
        f"{handler!r} has no attach(engine) and cannot be called; give it def attach(self, engine, event_name=Events.EPOCH_COMPLETED): "
        "return engine.add_event_handler(event_name, self), and def __call__(self, engine)",
    )
    if attachable:
        require(
            "event" not in inspect.signature(handler.attach).parameters,
            "attach() has a parameter 'event'; call it 'event_name', as in all handlers",
        )
        _attach(case, handler, FakeEngine())
    if callable(handler):
        event = _own_event(case) or Events.EPOCH_COMPLETED
        try:
            FakeEngine().add_event_handler(event, handler)
        except (TypeError, ValueError) as error:
            raise CheckFailed(
                f"it can be called, and add_event_handler({event}, handler) refuses it: {error}"
            ) from None


def _own_event(case: HandlerCase) -> Any:
    fake = FakeEngine()
    handler = case.make()
    _attach(case, handler, fake)
    return next((event for event in Events if handler in fake.handlers_at(event)), None)


def _attach(case: HandlerCase, handler: Any, engine: Any) -> Any:
    try:
        handle = case.attach(handler, engine)
    except AttributeError as error:
        if type(engine).__name__ in str(error):
            raise CheckFailed(
                f"attach failed on a {type(engine).__name__}: {error}. Use what glowplug.typing.EngineProtocol has, which Engine "
                "and FakeEngine both have"
            ) from error
        raise
    require(
        isinstance(handle, RemovableEventHandle),
        f"attach(engine) returned {handle!r}; it must return the handle that takes back all that it added: return "
        "engine.add_event_handler(...), or RemovableEventHandle.join(first, second)",
    )
    return handle


def works_on_fake_engine_and_engine(case: HandlerCase) -> None:
    """A run of a FakeEngine and one of an Engine get through: the handler uses what EngineProtocol has, and no more."""
    fake, engine = PublicOnly(), engine_for(case)
    for each in (fake, engine):
        _attach(case, case.make(), each)
        try:
            play_case(case, fake) if each is fake else run(engine)
        except AttributeError as error:
            raise CheckFailed(
                f"in a run of {type(each).__name__} it raised {error}. Use what glowplug.typing.EngineProtocol has; if it is the "
                "output or a metric that is missing, say what the handler works with: HandlerCase(output=..., metrics=...)"
            ) from error


class PublicOnly(FakeEngine):
    """A fake whose private attributes are the core's alone."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") and not name.startswith("__"):
            asking = str(sys._getframe(1).f_globals.get("__name__"))  # noqa: SLF001 - there is no public way to ask who asks
            if asking.partition(".")[0] != "glowplug":
                raise AttributeError(f"FakeEngine.{name} is private, and {asking} reads it")
        return super().__getattribute__(name)


def attach_fires_nothing(case: HandlerCase) -> None:
    """To attach a handler is no more than that: no event is fired, and nobody is asked to stop."""
    fake = FakeEngine()
    _attach(case, case.make(), fake)
    require(
        not fake.fired and not fake.terminated,
        f"attach fired {fake.fired}, or ended the run; do that in the handler of Events.STARTED",
    )


def handle_removes_all(case: HandlerCase) -> None:
    """After remove() of the handle nothing is registered, before a run and after one; a second remove() does nothing."""
    for used in (False, True):
        for engine in (FakeEngine(), engine_for(case)):
            before = registered(engine)
            handle = _attach(case, case.make(), engine)
            if used:
                play_case(case, engine) if isinstance(engine, FakeEngine) else run(engine)
            handle.remove()
            handle.remove()
            left = [each for each in registered(engine) if each not in before]
            require(
                not left,
                f"after remove(){', after a run,' if used else ''} there is still registered: {', '.join(left)}. Return one "
                "handle for all that is added: RemovableEventHandle.join(first, second, ...), states included",
            )


def removed_handler_releases_the_engine(case: HandlerCase) -> None:
    """A handler whose handle was removed keeps the engine no longer alive."""
    handler, engine = case.make(), engine_for(case)
    handle = _attach(case, handler, engine)
    run(engine)
    handle.remove()
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    require(
        gone() is None,
        "after remove() the handler still holds the engine, and with it model and data. Use the engine that each call is given, "
        "or forget it in the handle: RemovableEventHandle(self.forget)",
    )


def can_be_attached_again(case: HandlerCase) -> None:
    """After remove() a handler can be attached once more, and does as much as before."""
    handler, fake = case.make(), FakeEngine()
    handle = _attach(case, handler, fake)
    first = len(registered(fake))
    handle.remove()
    _attach(case, handler, fake)
    second = len(registered(fake))
    require(
        first == second, f"attached once more after remove(), it registers {second} things instead of {first}"
    )


def two_engines_are_independent(case: HandlerCase) -> None:
    """Removed from one engine, a handler is still attached to another."""
    handler, first, second = case.make(), FakeEngine(), FakeEngine()
    try:
        handle, _ = _attach(case, handler, first), _attach(case, handler, second)
    except (ValueError, RuntimeError) as error:
        _require_told(error, "attached to a second engine")
        return
    before = registered(second)
    handle.remove()
    require(
        registered(second) == before,
        "remove() of the handle for one engine took something from another; keep handles in what attach returns, not in self",
    )
    require(not registered(first), f"remove() left {registered(first)} at the first of two engines")


def second_attach_is_independent(case: HandlerCase) -> None:
    """A second attach, of it or of another of its kind, is refused and leaves nothing, or its handle takes back its own."""
    for other in (False, True):
        handler, fake = case.make(), FakeEngine()
        _attach(case, handler, fake)
        before = sorted(registered(fake))
        try:
            handle = _attach(case, case.make() if other else handler, fake)
        except (ValueError, RuntimeError) as error:
            _require_told(error, "attached twice")
        else:
            handle.remove()
        after = sorted(registered(fake))
        require(
            before == after,
            f"one was attached, then {'another' if other else 'the same'} once more and taken back; registered was {before}, and "
            f"is {after}. Where attach can fail, let it register nothing before",
        )


def _require_told(error: Exception, what: str) -> None:
    require(
        len(str(error).split()) > 3,
        f"{what}, it raised {error!r}; say in the message what is wrong and what to do",
    )


def exceptions_reach_the_caller(case: HandlerCase) -> None:
    """An exception in a run reaches the caller as it is, and so does Ctrl-C."""
    for error in (ZeroDivisionError("in the step"), KeyboardInterrupt("Ctrl-C")):

        def step(_: Any, batch: int, error: BaseException = error) -> Any:
            if batch == 1:
                raise error
            return copy.deepcopy(case.output)

        engine = Engine(step)
        engine.add_event_handler(Events.ITERATION_COMPLETED | Events.EPOCH_COMPLETED, Publishes(case.metrics))
        _attach(case, case.make(), engine)
        raised: BaseException | None = None
        reached: list[Any] = []
        engine.add_event_handler(Events.ITERATION_STARTED(once=2), reached.append)
        try:
            engine.run([0, 1, 2], max_epochs=2)
        except (ZeroDivisionError, KeyboardInterrupt) as caught:
            raised = caught
        require(
            raised is error or not reached,  # it may have ended the run before
            f"the step raised {error!r}, and run() {'returned' if raised is None else f'raised {raised!r}'}. A handler of "
            "EXCEPTION_RAISED must not return True unless it is there to end the run well",
        )


def run_state_is_unchanged(case: HandlerCase) -> None:
    """Output and batch stay as they are, and so do the metrics and counters that there are."""
    watched = Watched()
    _attach(case, case.make(), watched)
    play_case(case, watched)


class Watched(FakeEngine):
    """A fake that looks at its state before and after each firing."""

    def fire(self, event_name: Any, *, error: BaseException | None = None, **state: Any) -> FakeEngine:
        """Fire, and require that the state is left alone."""
        for name, value in state.items():
            setattr(self.state, name, value)
        metrics = copy.deepcopy(self.state.metrics)
        with left_alone(self, "output", "batch", "iteration", "epoch", "max_epochs", "epoch_length"):
            super().fire(event_name, error=error)
        for name, value in metrics.items():
            now = self.state.metrics.get(name)
            require(
                equal(now, value),
                f"engine.state.metrics[{name!r}] was {value!r} before {event_name}, and is {now!r}",
            )
        return self


def second_run_works(case: HandlerCase) -> None:
    """After a run, and after one that failed, the next run gets through."""
    engine = engine_for(case)
    _attach(case, case.make(), engine)

    def fail(_: Any) -> None:
        raise ZeroDivisionError

    with engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), fail):
        try:
            run(engine)
        except ZeroDivisionError:
            engine.state.max_epochs = None  # a new run, instead of going on with that one
    for _ in range(2):
        run(engine)
        engine.state.max_epochs = None


def phase_is_a_phase(case: HandlerCase) -> None:
    """Where a handler says its phase, it is a member of glowplug.Phase."""
    phase = getattr(case.make(), "phase", Phase.USER)
    require(
        isinstance(phase, Phase),
        f"phase is {phase!r}, which an engine does not know and takes for Phase.USER; write phase = Phase.LOGGING, or another "
        "member of glowplug.Phase",
    )


def events_are_fast(case: HandlerCase) -> None:
    """At no event does a handler take longer than the case says."""
    fake = Timed()
    _attach(case, case.make(), fake)
    play_case(case, fake)
    for event, times in fake.times.items():
        took = statistics.median(times)
        require(
            took <= case.seconds_per_event,
            f"at {event} it takes {took:.3f} s, and may take {case.seconds_per_event:g} s; everything waits for it. Do less, do it "
            "on a thread, or say HandlerCase(seconds_per_event=...) if it cannot be otherwise",
        )


class Timed(FakeEngine):
    """A fake that notes how long the handlers of each event take."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[Any, list[float]] = {}

    def fire(self, event_name: Any, *, error: BaseException | None = None, **state: Any) -> FakeEngine:
        """Fire, and note the time."""
        began = time.perf_counter()
        super().fire(event_name, error=error, **state)
        self.times.setdefault(event_name, []).append(time.perf_counter() - began)
        return self


def missing_metrics_are_reported(case: HandlerCase) -> None:
    """Without the metrics that it reads a handler goes on, or raises an error that says what is missing."""
    if not case.metrics:
        raise CheckSkipped("HandlerCase(metrics=...) is empty: the handler reads none")
    fake = FakeEngine()
    _attach(case, case.make(), fake)
    try:
        play_case(case, fake, metrics={})
    except Exception as error:  # noqa: BLE001 - it is looked at
        told = str(error).lower()
        named = "metric" in told or type(case.make()).__name__.lower() in told
        require(
            named and len(told.split()) > 3,
            f"without metrics it raised {error!r}, which does not tell a user what to do. Look before you read, and raise "
            "ValueError(f\"there is no metric {name!r}; there are {', '.join(engine.state.metrics)}. Attach it to this engine\")",
        )


ENGINE_CHECKS = (
    can_be_attached_or_called,
    works_on_fake_engine_and_engine,
    attach_fires_nothing,
    handle_removes_all,
    removed_handler_releases_the_engine,
    can_be_attached_again,
    two_engines_are_independent,
    second_attach_is_independent,
    exceptions_reach_the_caller,
    run_state_is_unchanged,
    second_run_works,
    phase_is_a_phase,
    events_are_fast,
    missing_metrics_are_reported,
)
