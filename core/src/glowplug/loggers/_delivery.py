"""The way from the training thread to a backend: a bounded queue, and one worker thread that empties it."""

from __future__ import annotations

# A script may end before the worker has imported its backend's library, and that may import this: too late, it says, once
# the end has begun.
import concurrent.futures.thread  # noqa: F401
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

OnError: TypeAlias = Literal["warn", "raise"]

log = logging.getLogger("glowplug.loggers")


class Counts(NamedTuple):
    """What became of the records of a logger."""

    sent: int
    dropped: int
    pending: int


class Record(NamedTuple):
    """One call of a sink method, to be made on the worker's thread."""

    sink: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Backend(Protocol):
    """What the worker calls: the side of a logger that faces its backend."""

    def open(self) -> None:
        """Reach the backend, for the first time or again."""

    def takes_batches(self, sink: str) -> bool:
        """Return whether many records of a sink are delivered at once."""

    def send(self, records: list[Record]) -> None:
        """Deliver one record, or many of a sink that takes batches, in order."""

    def flush(self) -> None:
        """Make the backend write down what it holds back."""

    def close(self) -> None:
        """Leave the backend."""


class _Marker:
    """Stands in the queue behind everything that came before it."""

    def __init__(self, *, last: bool) -> None:
        self.last = last
        self.reached = threading.Event()
        self.delivered = False


class Delivery:
    """Takes records without waiting, and delivers them in order on one thread.

    A backend that cannot be reached (whatever ``open`` raises; a ``ConnectionError`` or ``TimeoutError`` in a write) is
    tried again with growing pauses while records wait. What it refuses in another way is dropped, counted, and
    reported at most once a minute.

    Args:
        backend: who takes the records.
        name: who is named in reports.
        on_error: ``"warn"``: report and go on; ``"raise"``: raise at the caller's next call.
        capacity: how many records may wait; further ones are dropped.
        interval: seconds for which records are collected.
    """

    BATCH = 500
    REPORT_EVERY = 60.0
    LONGEST_PAUSE = 30.0

    def __init__(
        self,
        backend: Backend,
        *,
        name: str,
        on_error: OnError = "warn",
        capacity: int = 100_000,
        interval: float = 0.2,
    ) -> None:
        self._backend = backend
        self._name = name
        self._on_error = on_error
        self._capacity = capacity
        self._interval = interval
        self._queue: deque[Record | _Marker] = deque()
        self._wake = threading.Event()
        self._lock = threading.Lock()  # for what happens rarely: starting the worker, dropping records
        self._thread: threading.Thread | None = None
        self._ended = ""  # why no more records are taken
        self._is_open = False
        self._was_open = False
        self._pause = 0.0
        self._in_hand = 0  # records that the worker has taken from the queue
        self._sent = 0
        self._dropped = 0
        self._sent_when_stuck: int | None = None
        self._reported_at = -self.REPORT_EVERY
        self._error: BaseException | None = None  # to be raised at the caller's next call
        self._last_failure: BaseException | None = None

    # On the caller's thread

    @property
    def counts(self) -> Counts:
        """How many records were sent, were dropped, and are waiting."""
        waiting = sum(isinstance(item, Record) for item in self._queue.copy())
        return Counts(self._sent, self._dropped, waiting + self._in_hand)

    @property
    def is_stuck(self) -> bool:
        """Whether a flush failed, and nothing has come through since: the next one would wait in vain."""
        return self._sent_when_stuck == self._sent

    @property
    def is_worker(self) -> bool:
        """Whether the caller is the worker's thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def put(self, record: Record) -> None:
        """Queue a record; never waits."""
        if self._error is not None:
            self._raise()
        waiting = len(self._queue)
        if self._ended:
            self._drop(1, f"{record.sink} was called {self._ended}")
        elif waiting >= self._capacity:
            self._drop(1, f"{waiting} records are waiting already, which is its capacity")
        else:
            self._queue.append(record)
            if self._thread is None:
                self._start()
            elif waiting >= self.BATCH and self._is_open and not self._wake.is_set():
                self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Wait until what was queued so far has been delivered; returns whether it was, in time."""
        if self._thread is None:
            return True
        if self.is_worker:
            raise RuntimeError(
                f"{self._name} calls its own flush() while it writes, which would wait for itself; leave flushing to the end of "
                "the run, and define flush_backend() for it"
            )
        marker = self._pass(_Marker(last=False), timeout)
        self._sent_when_stuck = None if marker.delivered else self._sent
        if self._error is not None:
            self._raise()
        return marker.delivered

    def close(self, timeout: float) -> bool:
        """Deliver what is queued, leave the backend, and end the worker; returns whether it all went out in time."""
        self._ended = "after close(); close a logger after the last run"
        if self._thread is not None and not self._pass(_Marker(last=True), timeout).reached.is_set():
            log.warning(
                "%s: gave up after %s s with %d records not delivered",
                self._name,
                timeout,
                self.counts.pending,
            )
            return False
        if self._error is not None:
            self._raise()
        if self._dropped:
            log.warning(
                "%s: closed; %d records were sent, %d were lost", self._name, self._sent, self._dropped
            )
        return not self._dropped

    def open_now(self, timeout: float) -> None:
        """Reach the backend now, on the worker's thread, and wait for it.

        Raises:
            RuntimeError: it was left already.
            ConnectionError: it could not be reached; the cause says why.
        """
        if self._is_open:
            return
        if self._ended:
            raise RuntimeError(f"{self._name} was asked to reach its backend {self._ended}")
        if self._thread is None:
            self._start()
        self._pass(_Marker(last=False), timeout)
        if not self._is_open:
            self._error = None  # it is told right here
            raise ConnectionError(f"{self._name} could not reach its backend") from self._last_failure

    def abandon(self) -> None:
        """Take no further records and wait for nothing: for the copy in a forked process, which has no worker."""
        self._ended = "in a forked process; log in the process that made the logger"
        self._thread = None
        self._lock = threading.Lock()
        self._queue.clear()

    def _pass(self, marker: _Marker, timeout: float) -> _Marker:
        self._queue.append(marker)
        self._wake.set()
        marker.reached.wait(timeout)
        return marker

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                # A daemon: a backend that hangs must not keep the process from ending. Loggers are closed at exit.
                self._thread = threading.Thread(target=self._work, name=f"glowplug {self._name}", daemon=True)
                self._thread.start()

    # On the worker's thread

    def _work(self) -> None:
        while True:
            self._wake.wait(self._interval if self._is_open else self._pause or self._interval)
            self._wake.clear()
            if self._queue and not self._is_open:
                self._open()
            while self._is_open and self._queue:
                item = self._take()
                if isinstance(item, list):
                    self._deliver(item)
                elif not self._pass_by(item):
                    return
            if not self._is_open and not self._let_go():
                return

    def _take(self) -> list[Record] | _Marker:
        """Take what is delivered in one go: a marker, a record, or many of a sink that takes batches."""
        first = self._queue.popleft()
        if isinstance(first, _Marker):
            return first
        records = [first]
        if self._backend.takes_batches(first.sink):
            while self._queue and len(records) < self.BATCH:
                following = self._queue[0]
                if isinstance(following, _Marker) or following.sink != first.sink:
                    break
                records.append(following)
                self._queue.popleft()
        self._in_hand = len(records)
        return records

    def _deliver(self, records: list[Record]) -> None:
        error = self._attempt(functools.partial(self._backend.send, records))
        if error is None:
            self._sent += len(records)
            self._pause = 0.0
        elif isinstance(error, (ConnectionError, TimeoutError)):
            self._queue.extendleft(reversed(records))
            self._lose("writing", error)
        else:
            self._drop(len(records), f"writing failed: {_told(error)}", error)
        self._in_hand = 0

    def _open(self) -> None:
        error = self._attempt(self._backend.open)
        if error is None:
            self._is_open = self._was_open = True
        else:
            self._lose("opening", error)

    def _lose(self, what: str, error: BaseException) -> None:
        """Go on without the backend, and try again after a longer pause than last time."""
        self._is_open = False
        self._pause = min(self.LONGEST_PAUSE, 2 * self._pause or 1.0)
        self._report(f"{what} failed: {_told(error)}; it is tried again while records wait", error)

    def _pass_by(self, marker: _Marker) -> bool:
        """Do what a marker stands for, and return whether the worker goes on."""
        error = self._attempt(self._backend.flush)
        if error is not None:
            self._report(f"flushing failed: {_told(error)}", error)
        marker.delivered = error is None
        if marker.last:
            self._leave()
        marker.reached.set()
        return not marker.last

    def _let_go(self) -> bool:
        """While the backend is not there: let nobody wait for it, and return whether the worker goes on."""
        for marker in [item for item in self._queue.copy() if isinstance(item, _Marker)]:
            if marker.last:
                lost = self.counts.pending
                self._queue.clear()
                self._drop(lost, "its backend could not be reached")
                self._leave()
                marker.reached.set()
                return False
            self._queue.remove(marker)
            marker.reached.set()
        return True

    def _leave(self) -> None:
        if self._was_open:
            error = self._attempt(self._backend.close)
            if error is not None:
                self._report(f"closing failed: {_told(error)}", error)
        self._is_open = False
        self._thread = None

    def _attempt(self, call: Callable[[], None]) -> BaseException | None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - a backend may fail in any way, and the worker lives on
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
                "%s: %s (%d records lost so far). Training goes on; on_error='raise' makes this an error",
                self._name,
                why,
                self._dropped,
            )


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
