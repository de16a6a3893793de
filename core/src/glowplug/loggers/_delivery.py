"""Delivery queue between the threads that log and the logger's backend."""

from __future__ import annotations

# A backend's client may need this module during interpreter shutdown, when it is too late to import it.
import concurrent.futures.thread  # noqa: F401
import ctypes
import functools
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from glowplug.loggers._kept_files import release_files
from glowplug.loggers._queue import FULL, INTERVAL, MemoryQueue, Queue, Report
from glowplug.loggers._record import Record
from glowplug.loggers._waiting import BATCH, Bounds, Marker
from glowplug.loggers._writer import Writer, write

OnError: TypeAlias = Literal["warn", "raise"]
"""Whether a failing backend is reported in the log, or raises an exception at the next call of the logger."""

TEMPORARY = (ConnectionError, TimeoutError)
"""Exceptions of a write after which it is repeated; after any other exception, the record is dropped."""

log = logging.getLogger("glowplug.loggers")

stuck: list[Delivery] = []
"""Deliveries whose worker was still busy when ``close`` timed out."""


class Counts(NamedTuple):
    """Counts of the records of a logger.

    Attributes:
        sent: Number of records that the backend has accepted.
        dropped: Number of records that were lost.
        pending: Number of records that wait for the backend.

    Example:
        >>> from glowplug.loggers import Logger
        >>> class Quiet(Logger):
        ...     def write_scalars(self, scalars, step, timestamp): ...
        >>> with Quiet() as logger:
        ...     logger.log_scalars({"loss": 0.5}, step=1)
        >>> logger.counts
        Counts(sent=1, dropped=0, pending=0)
    """

    sent: int
    dropped: int
    pending: int


class Delivery:
    """Deliver records in order on a worker thread, without delaying the threads that log.

    If ``prepare`` or ``connect`` raises any exception, or if a write raises ``ConnectionError`` or ``TimeoutError``, the worker
    opens the backend again later. It repeats this with increasing delays as long as records are waiting. If a write of several
    records raises any other exception, the worker writes these records again in smaller groups. A record that is refused on its
    own is dropped and counted. The log reports each kind of failure immediately, and then at most once a minute.

    Args:
        writer: Object that writes the records.
        prepare: Function that runs once, before the backend is opened for the first time. Callers wait for it for up to 60
            seconds in addition to their own timeouts.
        connect: Function that opens or reopens the backend.
        disconnect: Function that closes the backend.
        without_sent: Function that returns records without the values that the backend already has from an earlier process. By
            default, no values are omitted.
        on_error: ``"warn"`` reports a failure in the log; ``"raise"`` raises the exception at the next call of :meth:`put`,
            :meth:`flush` or :meth:`close`.
        make_queue: Function that creates the queue. Its two arguments are functions: the first wakes the worker, and the second
            counts dropped records and reports a failure.
    """

    LONGEST_PREPARATION = 60.0
    REPORT_EVERY = 60.0
    LONGEST_PAUSE = 30.0

    def __init__(
        self,
        writer: Writer,
        *,
        prepare: Callable[[], None],
        connect: Callable[[], None],
        disconnect: Callable[[], None],
        on_error: OnError,
        make_queue: Callable[[Callable[[], None], Report], Queue],
        without_sent: Callable[[Sequence[Record]], Sequence[Record]] = list,
    ) -> None:
        self._writer = writer
        self._prepare = prepare
        self._connect = connect
        self._disconnect = disconnect
        self._without_sent = without_sent
        self._name = type(writer).__name__
        self._on_error = on_error
        self._wake = threading.Event()
        self.queue: Queue = make_queue(self._wake.set, self._drop)
        # Held only for rare events: starting the worker and dropping records.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # Why no more records are accepted; empty while the logger accepts records.
        self._ended = ""
        self._is_prepared = threading.Event()
        self._is_open = False
        self._was_open = False
        self._pause = 0.0
        self._retry_at = 0.0
        # Maximum number of records in one call.
        self._most = BATCH
        self._sent = 0
        self._dropped = 0
        self._sent_when_stuck: int | None = None
        # The seconds that callers have waited since the last delivery.
        self._waited = 0.0
        # When each kind of failure was reported.
        self._reported: dict[str, float] = {}
        # The exception to raise at the next call.
        self._error: BaseException | None = None
        self._last_failure: BaseException | None = None
        # Set by the worker when it stops at the end of the interpreter.
        self._leaving: threading.Event | None = None

    @property
    def counts(self) -> Counts:
        """Counts of the sent, dropped and pending records."""
        return Counts(self._sent, self._dropped, self.queue.pending)

    @property
    def is_stuck(self) -> bool:
        """Whether the last flush failed and nothing has been sent since; if so, the next flush will probably fail too."""
        return self._sent_when_stuck == self._sent

    def put(self, record: Record) -> None:
        """Queue a record without blocking."""
        if self._error is not None:
            self._raise()
        if not self._ended and self.queue.put(record):
            if self._thread is None:
                self.start()
        else:
            release_files([record])
            self._drop(1, f"log_{record.kind} was called {self._ended}" if self._ended else FULL)

    def flush(self, timeout: float) -> bool:
        """Wait until all queued records are delivered; return False on a failure or timeout."""
        if self._thread is None:
            return True
        self.refuse_worker("flush")
        marker = self._pass(Marker(last=False), timeout)
        self._raise()
        return marker.delivered

    def close(self, timeout: float) -> None:
        """Deliver the queued records, disconnect and stop the worker."""
        self._ended = "after close(); close the logger only after the last run"
        # The end of a run and close() have one time limit together.
        remaining = max(0.0, timeout - self._waited)
        if self._thread is not None:
            # The process may end while the records are being delivered.
            self.queue.save()
        if self._thread is not None and not self._pass(Marker(last=True), remaining).reached.is_set():
            log.warning(
                "%s: close() timed out after %s s; %s", self._name, timeout, self._describe_undelivered()
            )
            stuck.append(self)
            return
        self._raise()
        if self._dropped or self.counts.pending:
            log.warning("%s: closed; %s", self._name, self._describe_undelivered())

    @property
    def was_open(self) -> bool:
        """Whether the backend has been opened at least once."""
        return self._was_open

    def _describe_undelivered(self) -> str:
        sent, dropped, pending = self.counts
        text = f"records: {sent} sent, {dropped} lost"
        where = self.queue.waits_in
        if not pending:
            return text
        if where is None:
            return f"{text}, {pending} not delivered"
        return f"{text}, {pending} waiting in {where}; to deliver what waits, run `glowplug spool replay {where.stem}`"

    def _advice_to_end(self) -> str:
        where = self.queue.waits_in
        return "" if where is None else f"; end the run with `glowplug spool replay {where.stem}`"

    def open_now(self, timeout: float) -> None:
        """Open the backend on the worker thread and wait until it is open.

        Raises:
            RuntimeError: If the logger is closed or was created before this process was forked.
            ConnectionError: If opening the backend fails or takes longer than ``timeout`` seconds; ``__cause__`` is the
                original error, if there is one.
        """
        if self._is_open:
            return
        if self._ended:
            raise RuntimeError(f"{self._name}: cannot open the backend {self._ended}")
        self.start()
        self._pass(Marker(last=False), timeout)
        if not self._is_open:
            # The exception is raised here, so the next call must not raise it again.
            self._error = None
            raise ConnectionError(f"{self._name}: the backend could not be opened") from self._last_failure

    def abandon(self) -> None:
        """Discard the queue in a forked process, which has no worker thread."""
        self._ended = "in a forked process; log in the process that created the logger"
        self._thread = None
        self._lock = threading.Lock()
        # Closing a database that belongs to the parent process would damage it, so it is never closed here.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.queue))
        self.queue = MemoryQueue(Bounds(0, 0), self._wake.set)

    def refuse_worker(self, method: str) -> None:
        """Raise ``RuntimeError`` if the caller is the worker thread, which must not wait for itself."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                f"{self._name}: {method}() was called on the worker thread, which would wait for itself; use "
                f"{method}_backend()"
            )

    def _pass(self, marker: Marker, timeout: float) -> Marker:
        self.queue.put_marker(marker)
        self._is_prepared.wait(self.LONGEST_PREPARATION)
        began = time.monotonic()
        marker.reached.wait(timeout)
        self._waited = 0.0 if marker.delivered else self._waited + time.monotonic() - began
        self._sent_when_stuck = None if marker.delivered else self._sent
        return marker

    def _raise(self) -> None:
        """Raise the stored exception of an earlier failure, if any."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def save(self) -> None:
        """Save the logged records to disk; a logger without a spool flushes its backend for at most one second instead."""
        if self._thread is not None and not self.queue.save() and not self.is_stuck:
            self._pass(Marker(last=False), timeout=1.0)

    def secure(self, timeout: float) -> None:
        """Wait until the logged records are on disk: in the spool, or in the local file that the logger writes.

        A local file is opened at the first record with a step, because the state of an earlier run may be loaded until then.
        Records before that one are not yet on disk when this method returns.
        """
        if self._thread is None or self.queue.save():
            return
        if (
            self.queue.is_due
            and not self.is_stuck
            # A writer that logs must not wait for itself.
            and threading.current_thread() is not self._thread
        ):
            self.flush(timeout)

    def start(self) -> None:
        """Start the queue and the worker, once."""
        with self._lock:
            if self._thread is None:
                self.queue.start()
                # Use a daemon thread: a hanging backend must not keep the process alive. Loggers are closed at exit.
                self._thread = threading.Thread(target=self._work, name=f"glowplug {self._name}", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            self._wake.wait(INTERVAL if self._is_open else self._pause or INTERVAL)
            self._wake.clear()
            was_open = self._is_open
            # Records that arrive do not shorten the pause after a failure, but a caller that waits does.
            may_open = self.queue.has_marker or time.monotonic() >= self._retry_at
            is_needed = was_open or (may_open and self.queue.is_due and not self.queue.is_empty)
            if is_needed and not was_open:
                self._open()
            while self._is_open:
                item = self.queue.take(self._joins, self._most)
                if item is None:
                    break
                if not isinstance(item, Marker):
                    if rest := self._deliver(item):
                        self.queue.restore(rest)
                elif not self._reach(item):
                    return
            # A marker that arrived since then waits for the next attempt.
            if is_needed and not self._is_open and not self._release_waiting():
                return

    def _joins(self, first: Record, following: Record) -> bool:
        """Return whether one call of the writer can take both records."""
        return first.kind == following.kind == "scalars" and self._writer.implements("write_scalars_batch")

    def _deliver(self, records: Sequence[Record]) -> Sequence[Record]:
        """Write records, in smaller groups if they are refused together; return those that could not be delivered, in order."""
        error = self._attempt(functools.partial(self._write, records))
        if error is None:
            self._sent += len(records)
            self._pause = self._waited = 0.0
            self._most = min(BATCH, 2 * self._most)
            self._settle(records)
            return ()
        if isinstance(error, TEMPORARY):
            self._mark_lost("writing to the backend", error)
            return records
        if len(records) == 1:
            self._settle(records)
            self._drop(1, f"{records[0].label} was refused: {describe(error)}", error)
            return ()
        half = len(records) // 2
        if rest := self._deliver(records[:half]):
            return [*rest, *records[half:]]
        return self._deliver(records[half:])

    def _write(self, records: Sequence[Record]) -> None:
        if unsent := self._without_sent(records):
            write(self._writer, unsent)

    def _settle(self, records: Sequence[Record]) -> None:
        release_files(records)
        self.queue.settle(records)

    def _open(self) -> None:
        error = None if self._is_prepared.is_set() else self._attempt(self._prepare)
        # If the preparation failed, callers wait no longer than their own time limit.
        self._is_prepared.set()
        error = error or self._attempt(self._connect)
        if error is None:
            self._is_open = self._was_open = True
        else:
            self._mark_lost("opening the backend", error)

    def _mark_lost(self, what: str, error: BaseException) -> None:
        """Mark the backend as closed, and double the delay before the next attempt to open it."""
        self._is_open = False
        # A backend that recovers, or that cannot take as much at once, gets one record first.
        self._most = 1
        self._pause = min(self.LONGEST_PAUSE, 2 * self._pause or 1.0)
        self._retry_at = time.monotonic() + self._pause
        self._report(
            f"{what} failed: {describe(error)}; the logger retries as long as records are queued", error
        )

    def _reach(self, marker: Marker) -> bool:
        """Flush the backend at a marker; at the last marker, also disconnect and return False."""
        error = self._attempt(self._writer.flush_backend)
        if error is not None:
            self._report(f"flushing the backend failed: {describe(error)}", error)
        marker.delivered = error is None
        if marker.last:
            self._end()
        marker.reached.set()
        return not marker.last

    def _release_waiting(self) -> bool:
        """Wake the callers that wait although the backend could not be opened; return False if ``close`` is one of them."""
        markers = self.queue.take_markers()
        is_last = any(marker.last for marker in markers)
        if is_last:
            self._end()
        for marker in markers:
            marker.reached.set()
        return not is_last

    def _end(self) -> None:
        if self._was_open:
            error = self._attempt(self._disconnect)
            if error is not None:
                self._report(f"closing the backend failed: {describe(error)}{self._advice_to_end()}", error)
        # Why they are lost has been reported.
        self._dropped += self.queue.end()
        self._is_open = False
        self._thread = None

    def park(self) -> None:
        """Stop a worker that was still busy when ``close`` timed out, as soon as its current call returns to Python.

        A thread that still runs C++ code during interpreter shutdown would abort the process with a wrong exit code.
        """
        thread, self._leaving = self._thread, threading.Event()
        if thread is not None and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
            )
            self._leaving.wait(1.0)

    def _attempt(self, call: Callable[[], None]) -> BaseException | None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - the worker survives any exception
            if self._leaving is not None:
                self._leaving.set()
                # The interpreter ends while the thread waits here.
                threading.Event().wait()
            self._last_failure = error
            return error
        return None

    def _drop(self, records: int, why: str, error: BaseException | None = None) -> None:
        with self._lock:
            self._dropped += records
        self._report(why, error)

    def _report(self, why: str, error: BaseException | None = None) -> None:
        if self._on_error == "raise":
            self._error = error or RuntimeError(f"{self._name}: {why}")
            return
        # Messages of one kind differ in numbers, such as steps and times.
        kind, now = re.sub(r"\d+", "", why), time.monotonic()
        if now - self._reported.get(kind, -self.REPORT_EVERY) >= self.REPORT_EVERY:
            self._reported[kind] = now
            log.warning(
                "%s: %s (records lost so far: %d). Training continues; set on_error='raise' to raise an exception instead",
                self._name,
                # Names may contain characters that a log file cannot.
                why.encode(errors="backslashreplace").decode(),
                self._dropped,
            )


def describe(error: BaseException) -> str:
    """Return the type and message of an exception."""
    return f"{type(error).__name__}: {error}"
