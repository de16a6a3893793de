"""The base class of loggers."""

from __future__ import annotations

import atexit
import functools
import inspect
import os
import pickle
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TypeVar

from glowplug import distributed
from glowplug.engine._call import describe_handler
from glowplug.events import AnyEvent, CallableEventWithFilter, Events, EventsList
from glowplug.handles import RemovableEventHandle
from glowplug.loggers._delivery import Counts, Delivery, OnError, Record, log
from glowplug.loggers._optimizer_handler import OptimizerParamsHandler
from glowplug.loggers._output_handler import OutputHandler
from glowplug.loggers._snapshot import PLAIN, resolve, snapshot
from glowplug.phase import Phase
from glowplug.state import RunOutcome
from glowplug.typing import EngineProtocol

# What a logger may define, and how many arguments each takes when its last one, the timestamp, is given.
SINKS: Mapping[str, int | None] = {
    "log_scalars": 3,
    "log_histogram": 4,
    "log_text": 4,
    "log_image": 4,
    "log_figure": 4,
    "log_params": None,
    "log_artifact": None,
}

OwnType = TypeVar("OwnType", bound="Logger")

_open_loggers: weakref.WeakSet[Logger] = weakref.WeakSet()


class Logger(ABC):
    """Takes what engines report to a backend, without ever holding up or ending a run.

    A logger of your own defines :meth:`log_scalars`, and what else its backend can take: ``log_params(params)``,
    ``log_histogram(name, values, step, timestamp)``, ``log_text(name, text, step, timestamp)``,
    ``log_image(name, image, step, timestamp)``, ``log_figure(name, figure, step, timestamp)``,
    ``log_artifact(path, name)``; ``open()``, ``flush_backend()`` and ``close(outcome)`` where there is something to do. All of
    these run on one worker thread, in order. Tensors, and images and matplotlib figures (as ``(height, width, 4)``), arrive as
    numpy arrays, as they were when they were logged. ``log_scalars_batch(rows)`` takes many ``(scalars, step, timestamp)`` at
    once, for a backend where one request is cheaper than many.

    On a logger *object* the same names can be called from any thread: the call is copied, queued and returns at once.

    Args:
        on_error: ``"warn"``: a backend that fails is reported in the log, at most once a minute; ``"raise"``: its
            exception is raised at the next call.
        capacity: how many records may wait for a slow backend before further ones are dropped (and counted).
        timeout: seconds that :meth:`flush` and :meth:`close` wait at most.
        all_ranks: log on every rank of ``torch.distributed`` instead of rank 0 only.

    Example:
        >>> class Printer(Logger):
        ...     def log_scalars(self, scalars, step, timestamp):
        ...         print(step, scalars)
        >>> from glowplug import Engine, Events
        >>> engine = Engine(lambda engine, batch: 2.0 * batch)
        >>> with Printer() as printer:
        ...     _ = printer.attach_output_handler(
        ...         engine,
        ...         Events.ITERATION_COMPLETED,
        ...         tag="training",
        ...         output_transform=lambda loss: {"loss": loss},
        ...     )
        ...     _ = engine.run([1, 2])
        1 {'training/loss': 2.0}
        2 {'training/loss': 4.0}
    """

    phase = Phase.LOGGING

    def __init__(
        self,
        *,
        on_error: OnError = "warn",
        capacity: int = 100_000,
        timeout: float = 10.0,
        all_ranks: bool = False,
    ) -> None:
        if on_error not in ("warn", "raise"):
            raise ValueError(f'on_error must be "warn" or "raise", got {on_error!r}')
        self.timeout = timeout
        self.all_ranks = all_ranks
        self._on_error: OnError = on_error
        self._capacity = capacity
        self._outcome: RunOutcome | None = None
        self._connect()

    def _connect(self) -> None:
        self._before_open: dict[str, Any] = {}
        self._delivery = Delivery(
            _Backend(self), name=type(self).__name__, on_error=self._on_error, capacity=self._capacity
        )
        # Whoever calls logger.log_scalars(...) stands on the training thread, so on the object these names queue the
        # call; the worker calls what the class defines.
        for sink in SINKS:
            if self.takes(sink):
                setattr(self, sink, functools.partial(self._put, sink))
        setattr(self, "close", self._close)  # noqa: B010 - a method is replaced on purpose
        _open_loggers.add(self)

    # What a logger defines

    @abstractmethod
    def log_scalars(self, scalars: Mapping[str, float], step: int, timestamp: float) -> None:
        """Write numbers.

        Args:
            scalars: name to value; names are nested with ``/``; values may be NaN or infinite.
            step: the iteration or epoch to which they belong.
            timestamp: when they were logged, in seconds since the epoch.
        """

    def open(self) -> None:  # noqa: B027 - many loggers have nothing to do here
        """Reach the backend. Nothing to do by default.

        Called before the first record, and once more after a sink raised a ``ConnectionError`` or ``TimeoutError``: its
        record waits until this succeeds, and is then written again. A pickled copy of the logger opens for itself: attributes
        that this sets and that cannot be pickled, such as a file, are in the copy what they were before.
        """

    def flush_backend(self) -> None:  # noqa: B027 - the same
        """Make the backend write down what it holds back: called at the end of each run. Nothing to do by default."""

    # What its users call

    def attach(
        self,
        engine: EngineProtocol,
        event_name: AnyEvent,
        log_handler: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> RemovableEventHandle:
        """Call ``log_handler(engine, logger, event_name)`` at an event, after all other handlers of that event.

        Args:
            engine: whose events.
            event_name: the event, plain or filtered, or a list of them.
            log_handler: one from ``glowplug.loggers``, or any callable with these arguments.
            *args: further arguments for it.
            **kwargs: further keyword arguments for it.

        Returns:
            A handle that removes all that was attached.

        Raises:
            TypeError: the arguments are swapped, the handler does not take what it is called with, or it makes records
                that this logger does not take.
            ValueError: the engine does not know the event.
        """
        self._check_handler(event_name, log_handler)
        events = event_name if isinstance(event_name, EventsList) else (event_name,)
        for event in events:
            _check_arguments(log_handler, (engine, self, event, *args), kwargs)
        registrations: list[tuple[AnyEvent, Callable[..., Any]]] = [
            *((event, _Writer(self, log_handler, event, args, kwargs)) for event in events),
            (Events.TEARDOWN, self._run_ended),
            (Events.INTERRUPT, self._run_interrupted),
        ]
        with ExitStack() as undo:  # a list with an unknown event leaves nothing attached
            handles = [undo.enter_context(engine.add_event_handler(*each)) for each in registrations]
            undo.pop_all()
        return RemovableEventHandle.join(*handles)

    def attach_output_handler(
        self, engine: EngineProtocol, event_name: AnyEvent, *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Attach an :class:`OutputHandler` made of the further arguments (L-005)."""
        return self.attach(engine, event_name, OutputHandler(*args, **kwargs))

    def attach_opt_params_handler(
        self, engine: EngineProtocol, event_name: AnyEvent, *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Attach an :class:`OptimizerParamsHandler` made of the further arguments (L-005)."""
        return self.attach(engine, event_name, OptimizerParamsHandler(*args, **kwargs))

    @property
    def counts(self) -> Counts:
        """How many records were sent, were dropped, and are waiting."""
        return self._delivery.counts

    def takes(self, sink: str) -> bool:
        """Return whether this logger defines a sink method such as ``log_histogram``."""
        return hasattr(type(self), sink)

    def ensure_open(self, timeout: float = 60.0) -> None:
        """Reach the backend now, and wait for it; for what a logger offers beyond its sinks, such as a run's id.

        Args:
            timeout: seconds to wait at most.

        Raises:
            ConnectionError: it could not be reached; the cause says why.
            RuntimeError: the logger is closed, or does not log on this rank.
        """
        if not self._writes_here():
            raise RuntimeError(
                f"{type(self).__name__} logs on rank 0 only, and this is rank {distributed.rank()}; decorate what asks "
                "for its backend with glowplug.distributed.rank_zero_only, or give the logger all_ranks=True"
            )
        self._delivery.open_now(timeout)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything logged so far has been delivered.

        Args:
            timeout: seconds to wait at most; the logger's own by default.

        Returns:
            Whether it was, in time.
        """
        return self._delivery.flush(self.timeout if timeout is None else timeout)

    def close(self, outcome: RunOutcome | None = None) -> None:  # noqa: B027 - the same
        """Deliver what is waiting, and leave the backend; called at exit for loggers that are still open.

        A subclass defines ``close(outcome)`` to leave its backend; it is called once, on the worker's thread.

        Args:
            outcome: how the run ended; that of the last attached engine by default.
        """

    def __enter__(self: OwnType) -> OwnType:  # noqa: PYI019 - Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(RunOutcome.FAILED if error is not None else None)

    # How it works

    def _check_handler(self, event_name: AnyEvent, log_handler: Callable[..., Any]) -> None:
        name = type(self).__name__
        if isinstance(log_handler, (str, CallableEventWithFilter, EventsList)):
            raise TypeError(
                f"{name}.attach takes (engine, event_name, log_handler) in this order; got {log_handler!r} as the "
                f"log_handler and {event_name!r} as the event. Swap the two"
            )
        if not callable(log_handler):
            raise TypeError(
                f"{name}.attach needs a log_handler that can be called as f(engine, logger, event_name), such as "
                f"OutputHandler(...); got {log_handler!r}"
            )
        sink = getattr(log_handler, "sink", None)
        if sink is not None and not self.takes(sink):
            raise TypeError(
                f"{name} has no {sink}, which {type(log_handler).__name__} needs; it takes "
                f"{', '.join(filter(self.takes, SINKS))}. Use another log handler, or define {sink} in a subclass"
            )

    def _put(self, sink: str, *args: Any, **kwargs: Any) -> None:
        if not self._writes_here():
            return
        record = Record(sink, snapshot(args), snapshot(kwargs) if kwargs else kwargs)
        arity = SINKS[sink]
        if arity is not None and len(args) < arity and "timestamp" not in kwargs:
            record.kwargs["timestamp"] = time.time()
        self._delivery.put(record)

    def _writes_here(self) -> bool:
        return self.all_ranks or distributed.rank() == 0

    def _run_ended(self, engine: EngineProtocol) -> None:
        self._pause(engine, engine.state.outcome)

    def _run_interrupted(self, engine: EngineProtocol) -> None:
        self._pause(engine, RunOutcome.INTERRUPTED)  # if the run is never gone on with, there is no TEARDOWN

    def _pause(self, engine: EngineProtocol, outcome: RunOutcome | None) -> None:
        """Deliver what there is, where an engine's run ends or stops for a while."""
        if engine.parent is not None:  # an evaluator inside a trainer's handler: the trainer's own end comes
            return
        self._outcome = outcome
        # With three handlers attached this is called three times, and nobody should wait three times for a backend
        # that hangs.
        if not self._delivery.is_stuck:
            self._delivery.flush(self.timeout)

    def _close(self, outcome: RunOutcome | None = None) -> None:
        if self._delivery.is_worker:  # such as an open() that leaves what is broken before it makes another
            type(self).close(self, outcome)
        elif self in _open_loggers:
            _open_loggers.discard(self)
            self._outcome = outcome or self._outcome
            self._delivery.close(self.timeout)

    def __getstate__(self) -> dict[str, Any]:
        own = {"_delivery", "_before_open", "close", *SINKS}
        state = {name: value for name, value in vars(self).items() if name not in own}
        for name, before in self._before_open.items():
            if name in state and not _can_be_pickled(state[name]):
                state[name] = before
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._connect()


class _Backend:
    """The side of a logger that the worker calls: what its class defines."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._class: Any = type(logger)

    def open(self) -> None:
        attributes = vars(self._logger)
        before = attributes.copy()
        try:
            self._logger.open()
        finally:
            changed = {
                name: before.get(name) for name, value in attributes.items() if before.get(name) is not value
            }
            # What it was before the first time counts, if it is opened again.
            self._logger._before_open = changed | self._logger._before_open  # noqa: SLF001 - the two are one
        # A library that was just opened may go away at exit; what is registered after it runs before that.
        atexit.unregister(_close_open_loggers)
        atexit.register(_close_open_loggers)

    def takes_batches(self, sink: str) -> bool:
        return sink == "log_scalars" and hasattr(self._class, "log_scalars_batch")

    def send(self, records: list[Record]) -> None:
        sink = records[0].sink
        calls = [(resolve(record.args), resolve(record.kwargs)) for record in records]
        if sink == "log_scalars":
            calls = [(_row(*args, **kwargs), {}) for args, kwargs in calls]
        if self.takes_batches(sink):
            self._class.log_scalars_batch(self._logger, [row for row, _ in calls])
            return
        for args, kwargs in calls:
            getattr(self._class, sink)(self._logger, *args, **kwargs)

    def flush(self) -> None:
        self._logger.flush_backend()

    def close(self) -> None:
        self._class.close(self._logger, self._logger._outcome)  # noqa: SLF001 - the two are one, seen from two threads


def _row(scalars: Mapping[str, float], step: int, timestamp: float) -> tuple[Mapping[str, float], int, float]:
    """Return what log_scalars is given: Python's own numbers, whatever the caller had."""
    if not PLAIN.issuperset(map(type, scalars.values())):
        scalars = {name: _number(value) for name, value in scalars.items()}
    return scalars, int(step), timestamp


def _number(value: Any) -> Any:
    try:
        return value if type(value) in PLAIN else float(value)
    except (TypeError, ValueError):
        # The sink says what it thinks of it; the other records of its batch can be written.
        return value


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - each type refuses in its own way
        return False
    return True


class _Writer:
    """What is registered at an engine: calls a log handler on the ranks that log."""

    phase = Phase.LOGGING

    def __init__(
        self,
        logger: Logger,
        log_handler: Callable[..., Any],
        event: CallableEventWithFilter | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._logger = logger
        self._log_handler = log_handler
        self._event = event
        self._args = args
        self._kwargs = kwargs
        # What describe() shows: the logger's name, and that it comes from where the logger does.
        self.__qualname__ = f"{type(logger).__name__} <- {describe_handler(log_handler)}"
        self.__module__ = type(logger).__module__

    def __call__(self, engine: EngineProtocol) -> None:
        if self._logger._writes_here():  # noqa: SLF001 - part of the logger
            self._log_handler(engine, self._logger, self._event, *self._args, **self._kwargs)


def _check_arguments(
    log_handler: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    try:
        signature = inspect.signature(log_handler)
    except ValueError:  # some builtins do not tell
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"{describe_handler(log_handler)}{signature} cannot be called as f(engine, logger, event_name), followed by "
            f"the further arguments of attach: {error}"
        ) from None


def _close_open_loggers() -> None:
    for logger in list(_open_loggers):
        try:
            logger.close()
        except Exception:  # noqa: BLE001 - the other loggers are closed too
            log.exception("%s could not be closed", type(logger).__name__)


atexit.register(_close_open_loggers)


def _abandon_open_loggers() -> None:
    for logger in list(_open_loggers):
        logger._delivery.abandon()  # noqa: SLF001 - part of the logger
    _open_loggers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_open_loggers)
