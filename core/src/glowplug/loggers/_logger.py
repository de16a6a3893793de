"""Base class of loggers."""

from __future__ import annotations

import functools
import itertools
import os
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from glowplug import distributed
from glowplug.engine import check_function
from glowplug.events import AnyEvent
from glowplug.exceptions import PreemptionExit
from glowplug.handles import RemovableEventHandle
from glowplug.loggers._attachment import EngineLink, attach_log_handler
from glowplug.loggers._backend_calls import missing_attribute
from glowplug.loggers._delivery import Counts, Delivery, OnError, log
from glowplug.loggers._exit import open_loggers, unwatch, watch
from glowplug.loggers._kept_files import keep
from glowplug.loggers._log_methods import LogMethods
from glowplug.loggers._optimizer_handler import OptimizerParamsHandler
from glowplug.loggers._options import check_limit, check_timeout
from glowplug.loggers._output_handler import OutputHandler
from glowplug.loggers._pickling import attributes_of, can_be_pickled
from glowplug.loggers._queue import MemoryQueue, Queue, Report, SpoolQueue
from glowplug.loggers._record import Kind, Record
from glowplug.loggers._run_spool import RunSpool
from glowplug.loggers._signal_gate import gate
from glowplug.loggers._waiting import Bounds
from glowplug.loggers._writer import Writer
from glowplug.phase import Phase
from glowplug.stash import StashKey
from glowplug.state import RunOutcome
from glowplug.typing import EngineProtocol

OwnType = TypeVar("OwnType", bound="Logger")

# This is several times faster than Record(), and each call of a log_* method makes a record.
_new_record = functools.partial(tuple.__new__, Record)

_NO_RUN: dict[str, Any] = {"run": {}, "spool": "", "steps": {}}
"""Part of a saved state that says nothing about a run."""


class Logger(LogMethods):
    """Base class for loggers, which send values to a backend in the background.

    Users may call the ``log_*`` methods from any thread. Each ``log_*`` call checks, copies and queues its arguments and returns
    immediately, so a slow backend does not delay the run. The author of a logger implements methods of :class:`Writer`, at
    least ``write_scalars`` or ``write_scalars_batch``. One worker thread calls these methods in the order of the ``log_*`` calls.

    Args:
        on_error: ``"warn"`` reports a failing backend in the log, at most once a minute; ``"raise"`` raises the backend's
            exception at the next call of ``log_*``, :meth:`flush` or :meth:`close`. Defaults to ``"warn"``.
        capacity: Maximum number of records in memory; further records are dropped and counted. Defaults to 100,000.
        memory_limit: Maximum number of bytes that tensors, arrays and texts may occupy in memory; records that exceed this limit
            are dropped and counted. Defaults to 256 MiB.
        timeout: Maximum number of seconds that :meth:`flush` and :meth:`close` wait. Defaults to 10.
        all_ranks: Log on every rank of ``torch.distributed``, each to its own run, instead of rank 0 only. Defaults to
            ``False``. If all ranks resume from a state that rank 0 saved, as with ``ModelCheckpoint``, only rank 0 continues
            its run, and the other ranks start new runs.
        spool: Folder in which records wait on disk until they are delivered. ``True`` selects the user's state folder, and
            ``False`` lets records wait in memory only. Defaults to ``True``. Loggers of local files have no spool.
        durable: If ``True``, ``log_*`` returns after the record is on disk, so a killed process loses no records. If ``False``, a
            thread saves each record within about 0.2 seconds. Defaults to ``False``. A local file is opened at the first record
            with a step; earlier records wait in memory even if ``durable`` is ``True``.
        spool_limit: Maximum number of bytes that records may occupy on disk, and of the artifacts that wait; further ones are
            dropped and counted. A single artifact may be larger. Defaults to 1 GiB.

    Raises:
        TypeError: If the class implements neither ``write_scalars`` nor ``write_scalars_batch``, or if a backend method is an
            ``async`` function or a generator function. The same error is raised if a limit is not an integer, or if ``timeout``
            is not a number.
        ValueError: If ``on_error`` is neither ``"warn"`` nor ``"raise"``, if a limit is less than 1, or if ``timeout`` is
            negative.

    Example:
        >>> class Printer(Logger):
        ...     def write_scalars(self, scalars, step, timestamp):
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
        memory_limit: int = 1 << 28,
        timeout: float = 10.0,
        all_ranks: bool = False,
        spool: bool | str | os.PathLike[str] = True,
        durable: bool = False,
        spool_limit: int = 1 << 30,
    ) -> None:
        if not self.takes("log_scalars"):
            raise TypeError(
                f"{type(self).__name__} must implement write_scalars(scalars, step, timestamp) or "
                "write_scalars_batch(rows)"
            )
        for method in filter(self.implements, vars(Writer)):
            check_function(getattr(type(self), method), f"{type(self).__name__}.{method}")
        if on_error not in ("warn", "raise"):
            raise ValueError(f'on_error must be "warn" or "raise", got {on_error!r}')
        for option, limit in (
            ("capacity", capacity),
            ("memory_limit", memory_limit),
            ("spool_limit", spool_limit),
        ):
            check_limit(option, limit)
        check_timeout(timeout)
        self.on_error: OnError = on_error
        self.capacity = capacity
        self.memory_limit = memory_limit
        self.timeout = timeout
        self.all_ranks = all_ranks
        self.spool = spool if isinstance(spool, bool) else os.path.abspath(spool)  # noqa: PTH100 - before os.chdir()
        self.durable = durable
        self.spool_limit = spool_limit
        self.state_key = type(self).__name__
        self._last_number = 0
        self._connect({})

    def _connect(self, resumed: Mapping[str, Any]) -> None:
        self._numbers = itertools.count(self._last_number + 1)
        # The rank while there is no process group: torchrun's, or later that of the last process group.
        self._last_rank = int(os.environ.get("RANK") or 0)
        self._last_rank = self.rank
        self._before_open: dict[str, Any] = {}
        self._stash_key: StashKey[EngineLink] = StashKey()
        # The engines' links, which stay after the engines are gone.
        self._links: list[EngineLink] = []
        self._given_outcome: RunOutcome | None = None
        self._run_spool = RunSpool(self, resumed, lambda: self._outcome)
        self._delivery = Delivery(
            self,
            prepare=self.prepare_backend,
            connect=self._open,
            disconnect=self._disconnect,
            on_error=self.on_error,
            make_queue=self._make_queue,
            without_sent=self._run_spool.without_sent,
        )
        open_loggers.add(self)
        watch()
        # A logger that is never used need not be closed.
        weakref.finalize(self, unwatch).atexit = False

    def _make_queue(self, wake: Callable[[], None], report: Report) -> Queue:
        prepare = functools.partial(self._run_spool.finish, report)
        bounds = Bounds(self.capacity, self.memory_limit)
        if not (self.uses_spool and self.spool):
            return MemoryQueue(bounds, wake, prepare)
        return SpoolQueue(
            bounds,
            wake,
            prepare,
            open_spool=self._run_spool.open,
            close_spool=self._run_spool.close,
            report=report,
            name=type(self).__name__,
        )

    def attach(
        self,
        engine: EngineProtocol,
        event_name: AnyEvent,
        log_handler: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> RemovableEventHandle:
        """Attach a log handler, which is called as ``log_handler(engine, logger, event_name)`` at an event.

        Log handlers run in the phase ``LOGGING``, after metrics and user handlers of the same event.

        Args:
            engine: The engine.
            event_name: The event, plain or filtered, or a list of events.
            log_handler: A log handler of ``glowplug.loggers``, or any callable that accepts ``(engine, logger, event_name)``.
            *args: Further positional arguments that are passed to ``log_handler``.
            **kwargs: Keyword arguments that are passed to ``log_handler``.

        Returns:
            A handle that removes everything that this call attached.

        Raises:
            TypeError: If ``log_handler`` has an unsupported type, such as an event, a class, an ``async`` function or a generator
                function. The same error is raised if ``log_handler`` cannot be called with the given arguments, or if the logger
                does not support the records that ``log_handler`` logs.
            ValueError: If the engine does not know the event.
        """
        return attach_log_handler(self, engine, event_name, log_handler, args, kwargs)

    def attach_output_handler(
        self, engine: EngineProtocol, event_name: AnyEvent, *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Attach an :class:`OutputHandler`.

        Args:
            engine: The engine.
            event_name: The event.
            *args: Positional arguments of the :class:`OutputHandler`.
            **kwargs: Keyword arguments of the :class:`OutputHandler`.
        """
        return self.attach(engine, event_name, OutputHandler(*args, **kwargs))

    def attach_opt_params_handler(
        self, engine: EngineProtocol, event_name: AnyEvent, *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Attach an :class:`OptimizerParamsHandler`.

        Args:
            engine: The engine.
            event_name: The event.
            *args: Positional arguments of the :class:`OptimizerParamsHandler`.
            **kwargs: Keyword arguments of the :class:`OptimizerParamsHandler`.
        """
        return self.attach(engine, event_name, OptimizerParamsHandler(*args, **kwargs))

    @property
    def _outcome(self) -> RunOutcome | None:
        """The outcome that was passed to ``close``, or else the worst outcome of the runs of the attached engines."""
        outcomes = [link.outcome for link in self._links if link.outcome is not None]
        if self._given_outcome is not None:
            return self._given_outcome
        for worst in (RunOutcome.FAILED, RunOutcome.INTERRUPTED):
            if worst in outcomes:
                return worst
        return outcomes[-1] if outcomes else None

    @property
    def counts(self) -> Counts:
        """Counts of the sent, dropped and pending records."""
        return self._delivery.counts

    @property
    def rank(self) -> int:
        """Rank of this process.

        Without a process group, this is the rank in the last process group, or else the value of torchrun's environment
        variable ``RANK``, or else 0.
        """
        if distributed.is_initialized():
            self._last_rank = distributed.rank()
        return self._last_rank

    @property
    def is_logging_rank(self) -> bool:
        """Whether this logger logs on the current rank."""
        # Without self.rank, because each call of a log_* method asks.
        if distributed.is_initialized():
            self._last_rank = distributed.rank()
        return self.all_ranks or self._last_rank == 0

    @property
    def _run_rank(self) -> int:
        """Rank that logs to the run; with ``all_ranks``, each rank has its own run."""
        return self.rank if self.all_ranks else 0

    @property
    def run_key(self) -> str:
        """Identifier that all processes of the run share, even before the backend assigns an id."""
        return self._run_spool.run_key

    @property
    def is_resumed(self) -> bool:
        """Whether the logger continues the run of an earlier process."""
        return bool(self._run_spool.resumed)

    def ensure_open(self, timeout: float = 60.0) -> None:
        """Open the backend and wait until it is open.

        A logger calls this method before it uses the backend directly, for example to read the id of the run.

        Args:
            timeout: Maximum number of seconds to wait. Defaults to 60.

        Raises:
            ConnectionError: If opening the backend fails or takes longer than ``timeout`` seconds; ``__cause__`` is the
                original error, if there is one.
            RuntimeError: If the logger is closed, or if it does not log on this rank.
        """
        if not self.is_logging_rank:
            raise RuntimeError(
                f"{type(self).__name__} logs on rank 0 only, and this is rank {self.rank}; decorate the calling "
                "function with glowplug.distributed.rank_zero_only, or create the logger with all_ranks=True"
            )
        self._delivery.open_now(timeout)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything logged so far is delivered.

        Args:
            timeout: Maximum number of seconds to wait. Defaults to the logger's ``timeout``.

        Returns:
            ``True`` if everything was delivered in time, otherwise ``False``.
        """
        return self._delivery.flush(self.timeout if timeout is None else timeout)

    def close(self, outcome: RunOutcome | None = None) -> None:
        """Deliver waiting records and disconnect from the backend.

        Loggers that are still open are closed when the interpreter exits.

        Args:
            outcome: How the run ended. Defaults to the worst outcome of the attached engines: ``FAILED`` if the last run of any of
                them failed, else ``INTERRUPTED`` if any was interrupted, else the outcome of the engine attached last.
        """
        if self in open_loggers:
            self._delivery.refuse_worker("close")
            try:
                # SIGTERM waits for this close() instead of ending the process in the middle. Its handler closes only open loggers.
                with gate:
                    open_loggers.discard(self)
                    self._given_outcome = outcome
                    # The process may end before everything is delivered.
                    self._run_spool.note_outcome()
                    self._delivery.close(self.timeout)
            except KeyboardInterrupt:
                # The exit hook closes the logger again.
                open_loggers.add(self)
                raise
            finally:
                unwatch()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of the last record, the run's rank, the run's and the spool's identifiers, and the logged steps."""
        # A saved state must not be ahead of the records: the run that resumes from it does not log them again.
        self._delivery.save()
        return {"last_number": self._last_number, "rank": self._run_rank, **self._run_spool.state()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the run of a saved state.

        Records of the run that wait on disk are delivered first. Steps that the run already has are not logged again. A rank
        that does not log only stores the state. With ``all_ranks=True``, a rank that loads the state of another rank starts its
        own run, unless the logger was created for the run of the state.

        Args:
            state_dict: State returned by :meth:`state_dict`.
        """
        self._last_number = max(self._last_number, int(state_dict["last_number"]))
        self._numbers = itertools.count(self._last_number + 1)
        if not self.is_logging_rank:
            self._run_spool.resume(state_dict)
            return
        if state_dict.get("rank", 0) != self._run_rank:
            # With the same folder on all ranks, the run of the other rank is also that of this rank.
            run = state_dict.get("run", {})
            state_dict = {**state_dict, **_NO_RUN, "run": run if run == self.run_info() else {}}
        self._continue(state_dict)

    def _continue(self, state_dict: Mapping[str, Any]) -> None:
        run, resumed = dict(self.run_info()), state_dict.get("run", {})
        if run and resumed and run != resumed:
            if self._delivery.was_open:
                log.warning(
                    "%s: the loaded state of the run %s is ignored, because the backend is already open for the run %s; load the "
                    "state before the engine runs",
                    type(self).__name__,
                    _shown(resumed),
                    _shown(run),
                )
                return
            log.warning(
                "%s: the loaded state belongs to the run %s, but this logger was created for the run %s and continues to log "
                "there; to continue the run of the loaded state, create the logger for that run",
                type(self).__name__,
                _shown(resumed),
                _shown(run),
            )
            # The highest steps of the other run say nothing about this one, which may be a copy of it.
            state_dict = {**state_dict, **_NO_RUN}
            resumed = {}
        is_waiting = self._run_spool.resume(state_dict)
        if isinstance(self._delivery.queue, SpoolQueue):
            self._delivery.queue.reopen()
            if is_waiting:
                # Deliver what an earlier process has left even if nothing is logged.
                self._delivery.start()
        elif resumed:
            self.continue_run(resumed)

    def __enter__(self: OwnType) -> OwnType:  # noqa: PYI019 - Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, PreemptionExit):
            self.close(RunOutcome.INTERRUPTED)
            return
        # sys.exit() and sys.exit(0) report success.
        is_success = error is None or (isinstance(error, SystemExit) and error.code in (None, 0))
        self.close(None if is_success else RunOutcome.FAILED)

    def _put(
        self,
        kind: Kind,
        name: str | None,
        step: int | None,
        timestamp: float,
        payload: Any,
    ) -> None:
        if self.is_logging_rank:
            if kind == "artifact":
                payload = keep(payload, self._run_spool.folder / "files")
            number = self._last_number = next(self._numbers)
            self._delivery.put(_new_record((number, kind, name, step, timestamp, payload)))
            if self.durable:
                self._delivery.secure(self.timeout)

    def _open(self) -> None:
        before = attributes_of(self)
        try:
            self.open_backend()
        finally:
            changed = {
                name: before.get(name)
                for name, value in attributes_of(self).items()
                if before.get(name) is not value
            }
            # If an attribute cannot be pickled, the pickle contains its value from before the first call of open_backend.
            # Later calls must not replace these values.
            self._before_open = changed | self._before_open
        if self.uses_spool and self.is_resumed and not self._delivery.was_open:
            self._run_spool.note_sent(self.logged_steps())
        self._run_spool.note_open()
        watch()

    def _disconnect(self) -> None:
        self.close_backend(self._run_spool.outcome)
        self._run_spool.note_closed()

    def _run_ended(self, engine: EngineProtocol, outcome: RunOutcome | None = None) -> None:
        """Deliver waiting records when a run ends or is interrupted."""
        # The records of an evaluator that runs in a trainer's handler are delivered when the trainer's run ends.
        if engine.parent is not None:
            return
        link = engine.stash.get(self._stash_key)
        if link is not None:
            link.outcome = outcome or engine.state.outcome
        self._run_spool.has_ended_run = True
        if self.is_logging_rank and self in open_loggers and self._run_spool.has_earlier_run:
            # The run ends with the outcome of this process, even if an earlier one has logged everything.
            self._delivery.start()
        if not self._delivery.is_stuck:
            self._delivery.flush(self.timeout)

    def abandon(self) -> None:
        """Discard the queued records in a forked process; the parent process delivers them."""
        self._delivery.abandon()

    if not TYPE_CHECKING:
        # Hidden from type checkers, which would otherwise accept any attribute.
        def __getattr__(self, name: str) -> Any:
            raise missing_attribute(self, name)

    def __getstate__(self) -> dict[str, Any]:
        state = attributes_of(self)
        for name in (
            "_delivery",
            "_before_open",
            "_numbers",
            "_stash_key",
            "_links",
            "_given_outcome",
            "_run_spool",
            "_last_rank",
        ):
            del state[name]
        for name, before in self._before_open.items():
            if name in state and not can_be_pickled(state[name]):
                state[name] = before
        return {**state, "_resumed": self._run_spool.resumed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = dict(state)
        resumed = own.pop("_resumed")
        for name, value in own.items():
            setattr(self, name, value)
        self._connect(resumed)


def _shown(run: Mapping[str, str]) -> str:
    """Format the identifiers of a run for a message."""
    return ", ".join(f"{name}={value}" for name, value in run.items())
