"""Delivery queue between the threads that log and the logger's backend."""

from __future__ import annotations

# A backend's client may need this module during interpreter shutdown, when it is too late to import it.
import concurrent.futures.thread  # noqa: F401
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from glowplug.loggers._record import Record
from glowplug.loggers._writer import Writer, write

OnError: TypeAlias = Literal["warn", "raise"]

log = logging.getLogger("glowplug.loggers")


class Counts(NamedTuple):
    """Counts of the sent, dropped and pending records of a logger."""

    sent: int
    dropped: int
    pending: int


class _Marker:
    """Marker in the queue; ``flush()`` or ``close()`` waits until the worker reaches it."""

    def __init__(self, *, last: bool) -> None:
        self.last = last
        self.reached = threading.Event()
        self.delivered = False


class Delivery:
    """Queue records without blocking and deliver them in order on a worker thread.

    If the backend cannot be opened, or if a write raises ``ConnectionError`` or ``TimeoutError``, the worker retries with
    increasing delays as long as records are waiting. If a write raises any other exception, the records of that write are
    dropped and counted. Failures are reported in the log at most once a minute.

    Args:
        writer: Object that writes the records.
        connect: Function that opens or reopens the backend.
        disconnect: Function that closes the backend.
        on_error: ``"warn"`` reports a failure in the log; ``"raise"`` raises the exception at the next call of :meth:`put`,
            :meth:`flush` or :meth:`close`.
        capacity: Maximum number of waiting records; further records are dropped.
    """

    BATCH = 500
    INTERVAL = 0.2
    """Seconds that the worker waits between deliveries."""
    REPORT_EVERY = 60.0
    LONGEST_PAUSE = 30.0

    def __init__(
        self,
        writer: Writer,
        *,
        connect: Callable[[], None],
        disconnect: Callable[[], None],
        on_error: OnError,
        capacity: int,
    ) -> None:
        self._writer = writer
        self._connect = connect
        self._disconnect = disconnect
        self._name = type(writer).__name__
        self._on_error = on_error
        self._capacity = capacity
        self._queue: deque[Record | _Marker] = deque()
        self._wake = threading.Event()
        # Held only for rare operations: starting the worker and dropping records.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # Why no more records are accepted; empty while the logger accepts records.
        self._ended = ""
        self._is_open = False
        self._was_open = False
        self._pause = 0.0
        # Number of records that the worker has taken from the queue and is sending.
        self._in_hand = 0
        self._sent = 0
        self._dropped = 0
        self._sent_when_stuck: int | None = None
        self._reported_at = -self.REPORT_EVERY
        # The exception to raise at the next call.
        self._error: BaseException | None = None
        self._last_failure: BaseException | None = None

    @property
    def counts(self) -> Counts:
        """Counts of the sent, dropped and pending records."""
        waiting = sum(isinstance(item, Record) for item in self._queue.copy())
        return Counts(self._sent, self._dropped, waiting + self._in_hand)

    @property
    def is_stuck(self) -> bool:
        """Whether the last flush failed and nothing has been sent since; if so, the next flush will probably fail too."""
        return self._sent_when_stuck == self._sent

    def put(self, record: Record) -> None:
        """Queue a record without blocking."""
        if self._error is not None:
            self._raise()
        waiting = len(self._queue)
        if self._ended:
            self._drop(1, f"log_{record.kind} was called {self._ended}")
        elif waiting >= self._capacity:
            self._drop(
                1, f"the queue is full: {waiting} records are waiting; log less often, or increase capacity"
            )
        else:
            self._queue.append(record)
            if self._thread is None:
                self._start()
            elif waiting >= self.BATCH and self._is_open and not self._wake.is_set():
                self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Wait until all queued records are delivered; return False on a failure or timeout."""
        if self._thread is None:
            return True
        self.refuse_worker("flush")
        marker = self._pass(_Marker(last=False), timeout)
        self._sent_when_stuck = None if marker.delivered else self._sent
        self._raise()
        return marker.delivered

    def close(self, timeout: float) -> None:
        """Deliver the queued records, disconnect and stop the worker."""
        self._ended = "after close(); close the logger only after the last run"
        if self._thread is not None and not self._pass(_Marker(last=True), timeout).reached.is_set():
            log.warning(
                "%s: close() timed out after %s s; %d records were not delivered",
                self._name,
                timeout,
                self.counts.pending,
            )
            return
        self._raise()
        if self._dropped:
            log.warning("%s: closed; %d records sent, %d lost", self._name, self._sent, self._dropped)

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
        self._start()
        self._pass(_Marker(last=False), timeout)
        if not self._is_open:
            # The exception is raised here, so the next call must not raise it again.
            self._error = None
            raise ConnectionError(f"{self._name}: the backend could not be opened") from self._last_failure

    def abandon(self) -> None:
        """Discard the queue in a forked process, which has no worker thread."""
        self._ended = "in a forked process; log in the process that created the logger"
        self._thread = None
        self._lock = threading.Lock()
        self._queue.clear()

    def refuse_worker(self, method: str) -> None:
        """Raise ``RuntimeError`` if the caller is the worker thread, which must not wait for itself."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                f"{self._name}: {method}() was called on the worker thread, which would wait for itself; use "
                f"{method}_backend()"
            )

    def _pass(self, marker: _Marker, timeout: float) -> _Marker:
        self._queue.append(marker)
        self._wake.set()
        marker.reached.wait(timeout)
        return marker

    def _raise(self) -> None:
        """Raise the stored exception of an earlier failure, if any."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _start(self) -> None:
        """Start the worker, once."""
        with self._lock:
            if self._thread is None:
                # Use a daemon thread: a hanging backend must not keep the process alive. Loggers are closed at exit.
                self._thread = threading.Thread(target=self._work, name=f"glowplug {self._name}", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            self._wake.wait(self.INTERVAL if self._is_open else self._pause or self.INTERVAL)
            self._wake.clear()
            if self._queue and not self._is_open:
                self._open()
            while self._is_open and self._queue:
                item = self._queue.popleft()
                if isinstance(item, Record):
                    self._deliver(self._batch_from(item))
                elif not self._reach(item):
                    return
            if not self._is_open and not self._release_waiting():
                return

    def _batch_from(self, first: Record) -> list[Record]:
        """Return the batch that starts with ``first``, and remove the other records of the batch from the queue."""
        records = [first]
        if first.kind == "scalars" and self._writer.implements("write_scalars_batch"):
            while self._queue and len(records) < self.BATCH:
                following = self._queue[0]
                if isinstance(following, _Marker) or following.kind != first.kind:
                    break
                records.append(following)
                self._queue.popleft()
        return records

    def _deliver(self, records: list[Record]) -> None:
        self._in_hand = len(records)
        error = self._attempt(functools.partial(write, self._writer, records))
        if error is None:
            self._sent += len(records)
            self._pause = 0.0
        elif isinstance(error, (ConnectionError, TimeoutError)):
            self._queue.extendleft(reversed(records))
            self._mark_lost("writing to the backend", error)
        else:
            self._drop(len(records), f"writing to the backend failed: {_describe(error)}", error)
        self._in_hand = 0

    def _open(self) -> None:
        error = self._attempt(self._connect)
        if error is None:
            self._is_open = self._was_open = True
        else:
            self._mark_lost("opening the backend", error)

    def _mark_lost(self, what: str, error: BaseException) -> None:
        """Mark the backend as closed, and double the delay before the next attempt to open it."""
        self._is_open = False
        self._pause = min(self.LONGEST_PAUSE, 2 * self._pause or 1.0)
        self._report(
            f"{what} failed: {_describe(error)}; the logger retries as long as records are queued", error
        )

    def _reach(self, marker: _Marker) -> bool:
        """Flush the backend at a marker; at the last marker, also disconnect and return False."""
        error = self._attempt(self._writer.flush_backend)
        if error is not None:
            self._report(f"flushing the backend failed: {_describe(error)}", error)
        marker.delivered = error is None
        if marker.last:
            self._end()
        marker.reached.set()
        return not marker.last

    def _release_waiting(self) -> bool:
        """Wake the waiting callers, because the backend is closed; return False if one of them called ``close()``."""
        for marker in [item for item in self._queue.copy() if isinstance(item, _Marker)]:
            if marker.last:
                lost = self.counts.pending
                self._queue.clear()
                self._drop(lost, "the backend could not be opened")
                self._end()
                marker.reached.set()
                return False
            self._queue.remove(marker)
            marker.reached.set()
        return True

    def _end(self) -> None:
        if self._was_open:
            error = self._attempt(self._disconnect)
            if error is not None:
                self._report(f"closing the backend failed: {_describe(error)}", error)
        self._is_open = False
        self._thread = None

    def _attempt(self, call: Callable[[], None]) -> BaseException | None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - the worker survives any exception
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
        now = time.monotonic()
        if now - self._reported_at >= self.REPORT_EVERY:
            self._reported_at = now
            log.warning(
                "%s: %s (%d records lost so far). Training continues; set on_error='raise' to raise an exception instead",
                self._name,
                why,
                self._dropped,
            )


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
