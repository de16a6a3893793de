"""Measurement of the handlers, the step and the data of an engine, on which the profilers are built."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from typing import Any, Protocol

from glowplug import Events, Phase, RemovableEventHandle, RunStart
from glowplug.engine import Delegate, EngineReference
from glowplug.typing import EngineProtocol, RegistrationProtocol

_ITERATION = (
    Events.GET_BATCH_STARTED
    | Events.GET_BATCH_COMPLETED
    | Events.ITERATION_STARTED
    | Events.ITERATION_COMPLETED
)


class Recorder(Protocol):
    """Object that keeps the measured times, in seconds."""

    def begin_run(self, engine: EngineProtocol) -> None:
        """Prepare for a run; a new run discards earlier times."""

    def add_handler(self, engine: EngineProtocol, registration: RegistrationProtocol, seconds: float) -> None:
        """Add the time of one call of a handler."""

    def add_processing(self, engine: EngineProtocol, seconds: float) -> None:
        """Add the time of the step in the current iteration."""

    def add_dataflow(self, engine: EngineProtocol, seconds: float) -> None:
        """Add the time in which the batch of the next iteration was fetched."""


class RunMeter(Delegate):
    """Measures the runs of one engine and passes the times to a recorder.

    The step is measured from the end of the handlers of ``ITERATION_STARTED`` to the first handler of ``ITERATION_COMPLETED``, and
    the data from the end of the handlers of ``GET_BATCH_STARTED`` to the first handler of ``GET_BATCH_COMPLETED``. Handlers
    that do nothing mark these moments; they are registered only while a run is in progress.

    Args:
        recorder: The profiler that keeps the times.

    Example:
        >>> from glowplug.testing import FakeEngine
        >>> class Print:
        ...     def begin_run(self, engine): ...
        ...     def add_handler(self, engine, registration, seconds):
        ...         print(registration.event, seconds >= 0)
        >>> engine = FakeEngine()
        >>> handle = engine.add_event_handler(Events.COMPLETED, lambda: None)
        >>> with RunMeter(Print()).attach(engine):
        ...     _ = engine.fire(Events.COMPLETED)
        Events.COMPLETED True
    """

    phase = Phase.METRICS
    # While a copy of an engine is created, its handlers are inspected before they have their attributes.
    label = ""

    def __init__(self, recorder: Recorder) -> None:
        self.owner = recorder
        self.label = type(recorder).__name__
        self._recorder = recorder
        self._engine = EngineReference(None)
        self._marks = RemovableEventHandle()
        self._is_running = False
        self._fetch_began: float | None = None
        self._step_began: float | None = None

    def attach(self, engine: EngineProtocol) -> RemovableEventHandle:
        """Measure the runs of an engine.

        Raises:
            ValueError: If an engine is being measured already.
            TypeError: If ``engine`` is not an engine.
        """
        if not hasattr(engine, "wrap_handlers"):
            raise TypeError(f"{self.label}.attach needs a glowplug engine, got {engine!r}")
        if self._engine() is not None:
            raise ValueError(
                f"this {self.label} is already attached to an engine, whose times it keeps; create another {self.label}, or remove "
                "the handle of the first attach()"
            )
        with ExitStack() as undo:
            undo.callback(self._detach)
            undo.enter_context(engine.wrap_handlers(self._wrap))
            undo.enter_context(engine.add_event_handler(Events.STARTED, self._mark_iterations))
            undo.enter_context(engine.add_event_handler(Events.TEARDOWN, self._end_run))
            self._engine = EngineReference(engine)
            return RemovableEventHandle(undo.pop_all().close)

    def _detach(self) -> None:
        self._engine = EngineReference(None)
        self._end_run()

    def _mark_iterations(self, engine: EngineProtocol) -> None:
        self._marks.remove()
        self._marks = engine.add_event_handler(_ITERATION, self._mark)

    def _mark(self) -> None:
        """Do nothing; the wrapper of this handler reads the clock."""

    def _end_run(self) -> None:
        self._marks.remove()
        self._is_running = False
        self._fetch_began = self._step_began = None

    def _wrap(self, registration: RegistrationProtocol, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a call that is measured."""
        event, is_own = registration.event, is_of_profiler(registration)

        def measured(engine: EngineProtocol, *payload: Any) -> Any:
            began = perf_counter()
            self._begin(event, engine, began)
            try:
                return call(engine, *payload)
            finally:
                ended = perf_counter()
                if event is Events.GET_BATCH_STARTED:
                    self._fetch_began = ended
                elif event is Events.ITERATION_STARTED:
                    self._step_began = ended
                if not is_own:
                    self._recorder.add_handler(engine, registration, ended - began)

        return measured

    def _begin(self, event: object, engine: EngineProtocol, now: float) -> None:
        """Notice the beginning of a run, and the end of a step or of fetching a batch."""
        if event is Events.GET_BATCH_COMPLETED:
            if self._fetch_began is not None:
                self._recorder.add_dataflow(engine, now - self._fetch_began)
            self._fetch_began = None
        elif event is Events.ITERATION_COMPLETED:
            if self._step_began is not None:
                self._recorder.add_processing(engine, now - self._step_began)
            self._step_began = None
        elif event is Events.STARTED and not self._is_running:
            self._is_running = True
            self._recorder.begin_run(engine)


def is_of_profiler(registration: RegistrationProtocol) -> bool:
    """Return whether a handler belongs to a profiler, whose own time is not of interest."""
    return isinstance(getattr(registration.handler, "__self__", None), RunMeter)


def is_new_run(engine: EngineProtocol) -> bool:
    """Return whether the run does not continue an earlier one."""
    return engine.state.run_start is RunStart.NEW
