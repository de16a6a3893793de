"""Checks of a handler on an engine: attaching, removing, running, failing."""

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

from glowplug import EventEnum, Events, Phase, RemovableEventHandle
from glowplug.engine import Engine
from glowplug.testing import FakeEngine
from glowplug_testing.cases import HandlerCase
from glowplug_testing.checks import CheckFailed, CheckSkipped, require
from glowplug_testing.engine_play import equal, play, registered, unchanged_state

BATCHES = 3


class PublishMetrics:
    """A handler that writes the metrics of the case to ``engine.state.metrics``."""

    phase = Phase.METRICS

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        self._metrics = dict(metrics)

    def __call__(self, engine: Any) -> None:
        engine.state.metrics.update(copy.deepcopy(self._metrics))


def engine_for(case: HandlerCase) -> Engine:
    """Return an ``Engine`` that produces the output and the metrics of the case."""
    engine = Engine(lambda *_: copy.deepcopy(case.output))
    engine.add_event_handler(
        Events.ITERATION_COMPLETED | Events.EPOCH_COMPLETED, PublishMetrics(case.metrics)
    )
    return engine


def run(engine: Engine) -> Engine:
    """Run an engine for two epochs."""
    engine.run(list(range(BATCHES)), max_epochs=2)
    return engine


def play_case(case: HandlerCase, fake: FakeEngine, metrics: Mapping[str, Any] | None = None) -> FakeEngine:
    """Simulate two epochs on a ``FakeEngine``, with the output and the metrics of the case."""
    outputs = [copy.deepcopy(case.output) for _ in range(BATCHES)]
    return play(fake, outputs, case.metrics if metrics is None else metrics)


def can_be_attached_or_called(case: HandlerCase) -> None:
    """The handler can be attached with attach(engine), or registered with add_event_handler, or both."""
    handler = case.make()
    attachable = callable(getattr(handler, "attach", None))
    require(
        attachable or callable(handler),
        f"{handler!r} has no attach(engine) and cannot be called; define attach(self, engine, event_name=Events.EPOCH_COMPLETED) "
        "and __call__(self, engine)",
    )
    if attachable:
        _attach(case, handler, FakeEngine())
    if callable(handler):
        event = _default_event(case) or Events.EPOCH_COMPLETED
        try:
            FakeEngine().add_event_handler(event, handler)
        except (TypeError, ValueError) as error:
            raise CheckFailed(
                f"the handler is callable, but add_event_handler({event}, handler) raised an error: {error}"
            ) from None


def attach_accepts_event_name(case: HandlerCase) -> None:
    """attach(engine, event_name=...) attaches the handler at the given event."""
    handler, fake = case.make(), FakeEngine()
    if not callable(getattr(handler, "attach", None)):
        raise CheckSkipped("the handler has no attach()")
    parameters = inspect.signature(handler.attach).parameters
    if "event_name" not in parameters:
        misnamed = [name for name in parameters if "event" in name]
        require(
            not misnamed,
            f"attach() has the parameter {', '.join(misnamed)}; rename the parameter to event_name, as in all other handlers",
        )
        raise CheckSkipped(
            "attach() has no parameter event_name, so the handler always uses the same events and this check does not apply"
        )
    event = _attach_by_keyword(case, handler, fake)
    require(
        event is None or any(_is_at(each, event) for each in fake.registrations()),
        f"attach(engine, event_name={event}) registered nothing at that event; pass event_name to add_event_handler",
    )


def _attach_by_keyword(case: HandlerCase, handler: Any, engine: Any) -> Any:
    """Attach the handler as the case does, but pass the event and all options by keyword; return the event."""
    attach, used = handler.attach, []
    parameters = inspect.signature(attach).parameters

    def by_keyword(engine: Any, *args: Any, **options: Any) -> Any:
        options.update(zip(list(parameters)[1:], args, strict=False))
        event = options.get("event_name", parameters["event_name"].default)
        # The handler's default event has no such filter, so the filter shows which event the handler uses.
        options["event_name"] = (event if isinstance(event, EventEnum) else Events.EPOCH_COMPLETED)(every=2)
        used.append(options["event_name"])
        return attach(engine, **options)

    handler.attach = by_keyword
    _attach(case, handler, engine)
    return used[0] if used else None


def _is_at(registration: Any, event: Any) -> bool:
    return bool(registration.event == event) and registration.filter is not None


def _default_event(case: HandlerCase) -> Any:
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
                f"attach() failed on an engine of type {type(engine).__name__}: {error}; use only members of "
                "glowplug.typing.EngineProtocol"
            ) from error
        raise
    require(
        isinstance(handle, RemovableEventHandle),
        f"attach(engine) must return a RemovableEventHandle, got {handle!r}; return engine.add_event_handler(...) or "
        "RemovableEventHandle.join(first, second)",
    )
    return handle


def works_on_fake_engine_and_engine(case: HandlerCase) -> None:
    """The handler works on a FakeEngine and on an Engine, and uses only members of EngineProtocol."""
    fake, engine = PublicOnly(), engine_for(case)
    for each in (fake, engine):
        _attach(case, case.make(), each)
        try:
            play_case(case, fake) if each is fake else run(engine)
        except AttributeError as error:
            raise CheckFailed(
                f"the handler raised AttributeError in a run of {'a FakeEngine' if each is fake else 'an Engine'}: {error}. "
                "In the handler, use only members of glowplug.typing.EngineProtocol. If the handler needs another output or "
                "other metrics, pass HandlerCase(output=..., metrics=...)"
            ) from error


class PublicOnly(FakeEngine):
    """A fake engine that lets only the package ``glowplug`` read its private attributes."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") and not name.startswith("__"):
            caller = str(sys._getframe(1).f_globals.get("__name__"))  # noqa: SLF001 - no public function is as cheap
            if caller.partition(".")[0] != "glowplug":
                raise AttributeError(f"FakeEngine.{name} is private, but {caller} reads it")
        return super().__getattribute__(name)


def attach_fires_nothing(case: HandlerCase) -> None:
    """Attaching a handler fires no event and does not stop the run."""
    fake = FakeEngine()
    _attach(case, case.make(), fake)
    require(
        not fake.fired and not fake.terminated,
        f"attach() fired {fake.fired} or called terminate(); do this in a handler of Events.STARTED",
    )


def handle_removes_all(case: HandlerCase) -> None:
    """remove() removes all registrations of the handler, whether before or after a run; a second remove() does nothing."""
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
                f"after remove(){' following a run' if used else ''}, {', '.join(left)} is still registered; return one handle for "
                "all registrations and states: RemovableEventHandle.join(first, second, ...)",
            )


def removed_handler_releases_the_engine(case: HandlerCase) -> None:
    """After remove(), the handler does not keep the engine alive."""
    handler, engine = case.make(), engine_for(case)
    handle = _attach(case, handler, engine)
    run(engine)
    handle.remove()
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    require(
        gone() is None,
        "after remove() the handler still references the engine, and with it the model and data; use the engine passed to each "
        "call, or clear the reference when the handle is removed",
    )


def can_be_attached_again(case: HandlerCase) -> None:
    """After remove(), the handler can be attached again."""
    handler, fake = case.make(), FakeEngine()
    handle = _attach(case, handler, fake)
    first = len(registered(fake))
    handle.remove()
    _attach(case, handler, fake)
    second = len(registered(fake))
    require(
        first == second,
        f"the handler has {second} registrations instead of {first} when attached again after remove()",
    )


def two_engines_are_independent(case: HandlerCase) -> None:
    """Removing the handler from one engine does not affect another engine."""
    handler, first, second = case.make(), FakeEngine(), FakeEngine()
    try:
        handle, _ = _attach(case, handler, first), _attach(case, handler, second)
    except (ValueError, RuntimeError) as error:
        _require_explained(error, "attached to a second engine")
        return
    before = registered(second)
    handle.remove()
    require(
        registered(second) == before,
        "remove() of the handle for one engine also removed registrations from another engine; do not store handles in self: "
        "join them and return the joined handle",
    )
    require(not registered(first), f"remove() left {registered(first)} on the first of two engines")


def second_attach_is_independent(case: HandlerCase) -> None:
    """A second attach() of this or another handler can be undone separately, or it raises an error and changes nothing."""
    for other in (False, True):
        handler, fake = case.make(), FakeEngine()
        _attach(case, handler, fake)
        before = sorted(registered(fake))
        try:
            handle = _attach(case, case.make() if other else handler, fake)
        except (ValueError, RuntimeError) as error:
            _require_explained(error, "attached twice")
        else:
            handle.remove()
        after = sorted(registered(fake))
        require(
            before == after,
            f"a second attach() of {'another' if other else 'the same'} handler failed or was undone with remove(), but the "
            f"registrations changed from {before} to {after}. In attach(), raise errors before you register anything, and "
            "return one handle for all registrations",
        )


def _require_explained(error: Exception, when: str) -> None:
    require(
        len(str(error).split()) > 3,
        f"the handler raised {error!r} when {when}; the message must state the problem and the remedy, in at least four words",
    )


def exceptions_reach_the_caller(case: HandlerCase) -> None:
    """Exceptions in a run, including KeyboardInterrupt, reach the caller unchanged."""
    for error in (ZeroDivisionError("in the step"), KeyboardInterrupt("Ctrl-C")):

        def step(_: Any, batch: int, error: BaseException = error) -> Any:
            if batch == 1:
                raise error
            return copy.deepcopy(case.output)

        engine = Engine(step)
        engine.add_event_handler(
            Events.ITERATION_COMPLETED | Events.EPOCH_COMPLETED, PublishMetrics(case.metrics)
        )
        _attach(case, case.make(), engine)
        raised: BaseException | None = None
        reached: list[Any] = []
        engine.add_event_handler(Events.ITERATION_STARTED(once=2), reached.append, True)
        try:
            engine.run([0, 1, 2], max_epochs=2)
        except (ZeroDivisionError, KeyboardInterrupt) as caught:
            raised = caught
        require(
            # A handler may end the run before the step raises.
            raised is error or not reached,
            f"the step raised {error!r} but run() {'returned' if raised is None else f'raised {raised!r}'}; a handler of "
            "EXCEPTION_RAISED must not return True unless its purpose is to suppress the exception",
        )


def run_state_is_unchanged(case: HandlerCase) -> None:
    """The handler does not change the engine's output, batch, counters or the metrics of others."""
    watched = Watched()
    _attach(case, case.make(), watched)
    play_case(case, watched)


class Watched(FakeEngine):
    """A fake engine that compares its state before and after each firing."""

    # Metrics that the handlers have added; they may change them later.
    _added: frozenset[str] = frozenset()

    def fire(self, event_name: Any, *, error: BaseException | None = None, **state: Any) -> FakeEngine:
        """Fire an event and require that the handlers of the event do not change the state."""
        for name, value in state.items():
            setattr(self.state, name, value)
        metrics = copy.deepcopy(self.state.metrics)
        with unchanged_state(self, "output", "batch", "iteration", "epoch", "max_epochs", "epoch_length"):
            super().fire(event_name, error=error)
        self._added |= self.state.metrics.keys() - metrics.keys()
        for name in metrics.keys() - self._added:
            value = metrics[name]
            now = self.state.metrics.get(name)
            require(
                equal(now, value),
                f"engine.state.metrics[{name!r}] changed from {value!r} to {now!r} at {event_name}; add a new metric instead",
            )
        return self


def second_run_works(case: HandlerCase) -> None:
    """A run with the handler completes, whether the previous run completed or failed."""
    engine = engine_for(case)
    _attach(case, case.make(), engine)

    def fail(_: Any) -> None:
        raise ZeroDivisionError

    with engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), fail):
        try:
            run(engine)
        except ZeroDivisionError:
            # Start a new run instead of resuming the failed one.
            engine.state.max_epochs = None
    for _ in range(2):
        run(engine)
        engine.state.max_epochs = None


def phase_is_a_phase(case: HandlerCase) -> None:
    """If the handler has a phase, the phase is a member of glowplug.Phase."""
    phase = getattr(case.make(), "phase", Phase.USER)
    require(
        isinstance(phase, Phase),
        f"phase must be a member of glowplug.Phase such as Phase.LOGGING, got {phase!r}, which an engine treats as Phase.USER",
    )


def events_are_fast(case: HandlerCase) -> None:
    """The handler takes at most HandlerCase.seconds_per_event at each event."""
    fake = Timed()
    _attach(case, case.make(), fake)
    play_case(case, fake)
    for event, times in fake.times.items():
        took = statistics.median(times)
        require(
            took <= case.seconds_per_event,
            f"the handler takes {took:.3f} s at {event}, more than {case.seconds_per_event:g} s; do less, use a thread, or set "
            "HandlerCase(seconds_per_event=...)",
        )


class Timed(FakeEngine):
    """A fake engine that measures how long the handlers of each event take."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[Any, list[float]] = {}

    def fire(self, event_name: Any, *, error: BaseException | None = None, **state: Any) -> FakeEngine:
        """Fire an event and record how long the handlers of the event take."""
        began = time.perf_counter()
        super().fire(event_name, error=error, **state)
        self.times.setdefault(event_name, []).append(time.perf_counter() - began)
        return self


def missing_metrics_are_reported(case: HandlerCase) -> None:
    """If a metric that the handler reads is missing, the handler still works or raises an error that names the metric."""
    if not case.metrics:
        raise CheckSkipped("HandlerCase(metrics=...) is empty")
    fake = FakeEngine()
    _attach(case, case.make(), fake)
    try:
        play_case(case, fake, metrics={})
    except Exception as error:  # noqa: BLE001 - the error itself is checked
        message = str(error).lower()
        named = "metric" in message or type(case.make()).__name__.lower() in message
        require(
            named and len(message.split()) > 3,
            f"without metrics, the handler raised {error!r}; use a message of at least four words that names the missing metric "
            "and contains the word 'metric' or the name of the handler's class, such as "
            "ValueError(f\"metric {name!r} is missing; engine.state.metrics has {', '.join(engine.state.metrics)}\")",
        )


ENGINE_CHECKS = (
    can_be_attached_or_called,
    attach_accepts_event_name,
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
