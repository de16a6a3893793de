"""The way from the training thread to a backend: a bounded queue, and one worker thread that empties it."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import groupby
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
        """Reach the backend."""

    def send(self, records: list[Record]) -> None:
        """Deliver records of one and the same sink, in order."""

    def flush(self) -> None:
        """Make the backend write down what it holds back."""

    def close(self) -> None:
        """Leave the backend."""


class _Marker:
    """Stands in the queue behind everything that came before it."""

    def __init__(self, *, last: bool) -> None:
        self.last = last
        self.reached = threading.Event()


class Delivery:
    """Takes records without waiting, and delivers them in order on one thread.

    A backend that is not there yet is tried again with growing pauses while records wait; what it refuses is counted
    as dropped and reported at most once a minute.

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
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_open = False
        self._pause = 0.0
        self._sent = 0
        self._dropped = 0
        self._reported_at = -self.REPORT_EVERY
        self._error: BaseException | None = None  # to be raised at the caller's next call
        self._last_failure: BaseException | None = None

    @property
    def counts(self) -> Counts:
        """How many records were sent, were dropped, and are waiting."""
        return Counts(self._sent, self._dropped, len(self._queue))

    def put(self, record: Record) -> None:
        """Queue a record; never waits."""
        if self._error is not None:
            self._raise()
        waiting = len(self._queue)
        if waiting >= self._capacity:
            self.drop(1, f"{waiting} records are waiting already, more than its capacity")
            return
        self._queue.append(record)
        if self._thread is None:
            self._start()
        elif waiting >= self.BATCH and not self._wake.is_set():
            self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Wait until what was queued so far has been delivered; returns whether it was, in time."""
        return self._thread is None or self._pass(_Marker(last=False), timeout)

    def close(self, timeout: float) -> bool:
        """Deliver what is queued, leave the backend, and end the worker; returns whether it all went out in time."""
        if self._thread is None:
            return True
        done = self._pass(_Marker(last=True), timeout)
        if not done:
            log.warning(
                "%s: gave up after %s s with %d records not delivered", self._name, timeout, len(self._queue)
            )
        elif self._dropped:
            log.warning(
                "%s: closed; %d records were sent, %d were lost", self._name, self._sent, self._dropped
            )
        return done and not self._dropped

    def open_now(self) -> None:
        """Reach the backend now, on the worker's thread, and wait for it.

        Raises:
            ConnectionError: it could not be reached; the cause says why.
        """
        if self._thread is None:
            self._start()
        self._pass(_Marker(last=False), timeout=self.LONGEST_PAUSE)
        if not self._is_open:
            raise ConnectionError(f"{self._name} could not reach its backend") from self._last_failure

    def _pass(self, marker: _Marker, timeout: float) -> bool:
        self._queue.append(marker)
        self._wake.set()
        reached = marker.reached.wait(timeout)
        if self._error is not None:
            self._raise()
        return reached

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    # On the worker's thread

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                # A daemon: a backend that hangs must not keep the process from ending. Loggers are closed at exit.
                self._thread = threading.Thread(target=self._work, name=f"glowplug {self._name}", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            self._wake.wait(self._pause or self._interval)
            self._wake.clear()
            if self._queue and not self._is_open:
                self._open()
            if not self._is_open and not self._give_up_or_wait():
                return
            while self._is_open and self._queue:
                if not self._deliver(self._take()):
                    return

    def _take(self) -> list[Record | _Marker]:
        return [self._queue.popleft() for _ in range(min(len(self._queue), self.BATCH))]

    def _deliver(self, batch: list[Record | _Marker]) -> bool:
        """Send one batch, and return whether the worker goes on."""
        for _, group in groupby(batch, key=lambda item: item.sink if isinstance(item, Record) else item):
            items = list(group)
            if isinstance(items[0], _Marker):
                if not self._pass_marker(items[0]):
                    return False
            else:
                records = [item for item in items if isinstance(item, Record)]
                if self._attempt("writing", functools.partial(self._backend.send, records), len(records)):
                    self._sent += len(records)
        return True

    def _pass_marker(self, marker: _Marker) -> bool:
        self._attempt("flushing", self._backend.flush)
        if marker.last:
            self._attempt("closing", self._backend.close)
            self._is_open = False
            self._thread = None
        marker.reached.set()
        return not marker.last

    def _open(self) -> None:
        self._is_open = self._attempt("opening", self._backend.open)
        self._pause = 0.0 if self._is_open else min(self.LONGEST_PAUSE, 2 * self._pause or 1.0)

    def _give_up_or_wait(self) -> bool:
        """While the backend is not there: let nobody wait for it, and return whether the worker goes on."""
        for marker in [item for item in list(self._queue) if isinstance(item, _Marker)]:
            if marker.last:
                records = sum(isinstance(item, Record) for item in self._queue)
                self._queue.clear()
                self.drop(records, "its backend could not be reached")
                self._thread = None
                marker.reached.set()
                return False
            self._queue.remove(marker)
            marker.reached.set()
        return True

    def _attempt(self, what: str, call: Callable[[], None], records: int = 0) -> bool:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - a backend may fail in any way, and training goes on
            self._last_failure = error
            if self._on_error == "raise":
                self._error = error
            self.drop(records, f"{what} failed: {type(error).__name__}: {error}")
            return False
        return True

    def drop(self, records: int, why: str) -> None:
        """Count records that will not be delivered, and report it now and then."""
        self._dropped += records
        now = time.monotonic()
        if self._on_error == "warn" and now - self._reported_at >= self.REPORT_EVERY:
            self._reported_at = now
            log.warning(
                "%s: %s (%d records lost so far). Training goes on; on_error='raise' makes this an error",
                self._name,
                why,
                self._dropped,
            )
