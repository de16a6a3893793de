"""Queues of log records: the logging threads add records, and a worker thread writes them to the backend."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeAlias, cast

from glowplug.loggers._kept_files import release_files
from glowplug.loggers._record import Record
from glowplug.loggers._signal_gate import gate
from glowplug.loggers._spool import Damaged, Spool, SpoolFullError
from glowplug.loggers._waiting import BATCH, Bounds, Marker, Waiting, size_of

FULL = "the queue is full; log less often, or increase capacity= or memory_limit="
INTERVAL = 0.1
"""Interval in seconds at which records are saved or written, so that each record is on disk within 0.2 s."""

Joins: TypeAlias = Callable[[Record, Record], bool]
Prepare: TypeAlias = Callable[[Sequence[Record]], list[Record]]
Report: TypeAlias = Callable[[int, str, BaseException | None], None]


class Queue(Protocol):
    """Queue of a logger.

    Only the worker thread calls ``take``, ``settle`` and ``restore``.

    Attributes:
        put: Function that adds a record without blocking, and returns whether there was room for the record.
    """

    put: Callable[[Record], bool]

    def start(self) -> None:
        """Start the thread that saves records, if the queue has such a thread."""

    def put_marker(self, marker: Marker) -> None:
        """Add a marker after all queued records."""

    def take(self, joins: Joins, most: int) -> list[Record] | Marker | None:
        """Take the next marker or the next records; return ``None`` if the queue has neither.

        Args:
            joins: Function ``joins(first, following)`` that returns whether a following record can be written in the same call
                as the first one.
            most: Maximum number of records to take.
        """

    def save(self) -> bool:
        """Save the waiting records in the spool before returning; return ``False`` if the queue does not use a spool."""

    def settle(self, records: Sequence[Record]) -> None:
        """Remove records that the worker took and then wrote or dropped."""

    def restore(self, records: Sequence[Record]) -> None:
        """Return taken records to the queue; the worker takes them again later."""

    @property
    def has_marker(self) -> bool:
        """Whether a caller waits for a marker."""

    def take_markers(self) -> list[Marker]:
        """Remove the waiting markers and return them; the records stay in the queue."""

    @property
    def pending(self) -> int:
        """Number of records that the worker has neither written nor dropped yet."""

    @property
    def is_empty(self) -> bool:
        """Whether the queue has no record and no marker for the worker to take."""

    @property
    def is_due(self) -> bool:
        """Whether the worker must open the backend.

        The backend must be opened when the queue has received a marker, a record with a step, or a record of an earlier process.
        Other records, such as parameters, do not open the backend, because the state of an earlier run may still be loaded.
        """

    @property
    def waits_in(self) -> Path | None:
        """Path of the spool if records or the end of the run must still be delivered; otherwise ``None``."""

    def end(self) -> int:
        """Close the queue and return the number of lost records."""


class MemoryQueue:
    """Queue in memory, for backends that are local files.

    Args:
        bounds: Limits of the queue.
        wake: Function that wakes the worker.
        prepare: Function that converts records before they are written, and may omit some. By default, records are not converted.
    """

    def __init__(self, bounds: Bounds, wake: Callable[[], None], prepare: Prepare = list) -> None:
        self._wake = wake
        self._prepare = prepare
        self._waiting = Waiting(bounds, wake)
        self.put: Callable[[Record], bool] = self._waiting.put
        # Records that were prepared and then returned.
        self._returned: deque[Record] = deque()
        self._in_hand = 0

    def start(self) -> None:
        pass

    def add(self, record: Record) -> None:
        """Add a prepared record even if there is no room for it."""
        self._waiting.add(record)

    def put_marker(self, marker: Marker) -> None:
        self._waiting.put_marker(marker)
        self._wake()

    def take(self, joins: Joins, most: int) -> list[Record] | Marker | None:
        records = _take_joined(self._returned, self._returned.popleft, joins, most)
        while not records:
            if not self._waiting:
                return None
            if isinstance(self._waiting.items[0], Marker):
                return cast("Marker", self._waiting.pop())
            records = self._prepare(_take_joined(self._waiting.items, self._waiting.pop, joins, most))
        self._in_hand = len(records)
        return records

    def save(self) -> bool:
        return False

    def settle(self, records: Sequence[Record]) -> None:
        self._in_hand -= len(records)

    def restore(self, records: Sequence[Record]) -> None:
        self._returned.extendleft(reversed(records))
        self._in_hand -= len(records)

    @property
    def has_marker(self) -> bool:
        return self._waiting.markers > 0

    def take_markers(self) -> list[Marker]:
        return self._waiting.take_markers()

    @property
    def pending(self) -> int:
        return self._waiting.count() + len(self._returned) + self._in_hand

    @property
    def size(self) -> int:
        """Total size of the waiting tensors, arrays and texts, in bytes."""
        return self._waiting.size

    @property
    def is_empty(self) -> bool:
        return not self._waiting and not self._returned

    @property
    def is_due(self) -> bool:
        return self._waiting.has_step

    @property
    def waits_in(self) -> Path | None:
        return None

    def clear(self) -> list[Record]:
        """Remove and return all records; the markers stay in the queue."""
        markers = self._waiting.take_markers()
        records = list(self._returned)
        while self._waiting:
            records.append(cast("Record", self._waiting.pop()))
        for marker in markers:
            self._waiting.put_marker(marker)
        self._returned.clear()
        self._in_hand = 0
        return records

    def unsaved(self) -> list[Record]:
        """Return the records that are not on disk, which have the number 0."""
        items = (*self._returned, *self._waiting.items)
        return [item for item in items if isinstance(item, Record) and not item.number]

    def remove_unsaved(self, count: int) -> list[Marker]:
        """Remove the first records that are not on disk; also remove the markers behind them, and return these markers."""
        items: list[Record | Marker] = [*self._returned]
        self._returned.clear()
        while self._waiting:
            items.append(self._waiting.pop())
        removed, markers = 0, []
        for item in items:
            if isinstance(item, Record):
                if item.number or removed == count:
                    self._waiting.add(item)
                else:
                    removed += 1
            elif removed:
                markers.append(item)
            else:
                self._waiting.put_marker(item)
        return markers

    def end(self) -> int:
        lost = self.pending
        release_files(self.clear())
        return lost


def _take_joined(
    items: deque[Record | Marker] | deque[Record], pop: Callable[[], Record | Marker], joins: Joins, most: int
) -> list[Record]:
    """Take the first record, and the records after it that can be written in the same call."""
    records: list[Record] = []
    while items and len(records) < most:
        following = items[0]
        if isinstance(following, Marker) or (records and not joins(records[0], following)):
            break
        pop()
        records.append(following)
    return records


class SpoolQueue:
    """Queue that saves records on disk before the worker takes them.

    A separate thread saves the records in the spool. As long as the worker keeps up, the saved records also stay in memory, and
    the worker takes them from there. If the worker falls behind, further records are only on disk until the worker loads them.

    Args:
        bounds: Limits of the records that are not on disk yet.
        wake: Function that wakes the worker.
        prepare: Function that converts records before they are saved, and may omit some.
        open_spool: Function ``open_spool(present)`` that returns the spool. ``present`` is the spool that is already open, or
            ``None``.
        close_spool: Function ``close_spool(spool)`` that is called when the queue is closed.
        report: Function ``report(dropped, why, error)`` that counts dropped records and reports a failure.
        name: Name of the logger.
    """

    WINDOW = Bounds(10 * BATCH, 1 << 26)
    """Limits of the records that wait both in memory and on disk."""
    RETRY_AFTER = 60.0
    """Seconds after which a spool that could not be opened is tried again."""

    def __init__(
        self,
        bounds: Bounds,
        wake: Callable[[], None],
        prepare: Prepare,
        *,
        open_spool: Callable[[Spool | None], Spool],
        close_spool: Callable[[Spool], None],
        report: Report,
        name: str,
    ) -> None:
        self._prepare = prepare
        self._open_spool = open_spool
        self._close_spool = close_spool
        self._report = report
        self._name = name
        self._bounds = bounds
        self._feed_now = threading.Event()
        self._incoming = Waiting(bounds, self._feed_now.set)
        self.put: Callable[[Record], bool] = self._incoming.put
        self._ready = MemoryQueue(bounds, wake)
        # The number of records that are not on disk, because the spool cannot be used, and wait in memory alone.
        self._unsaved = 0
        self._wake = wake
        self.spool: Spool | None = None
        # The numbers of the last record on disk, and of the last one that was or is in memory.
        self._last = self._loaded = 0
        # Markers behind records that wait on disk alone, with the number of the record before them.
        self._held: deque[tuple[int, Marker]] = deque()
        self._has_older = False
        self._retry_at = 0.0
        # Held while records move between the incoming ones, the disk and memory.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._has_ended = False

    def put_marker(self, marker: Marker) -> None:
        self._incoming.put_marker(marker)
        self._feed_now.set()

    def take(self, joins: Joins, most: int) -> list[Record] | Marker | None:
        with self._lock:
            return self._ready.take(joins, most) or (self._ready.take(joins, most) if self._load() else None)

    def save(self) -> bool:
        with gate:
            self.feed()
        return not self._unsaved

    def settle(self, records: Sequence[Record]) -> None:
        self._ready.settle(records)
        with self._lock:
            self._unsaved -= sum(not record.number for record in records)
        number = max(record.number for record in records)
        if self.spool is not None and number:
            try:
                self.spool.acknowledge(number)
            except OSError as error:
                self._report(
                    0, f"sent records could not be deleted from the spool and may be resent: {error}", error
                )

    def restore(self, records: Sequence[Record]) -> None:
        with self._lock:
            self._ready.restore(records)

    @property
    def has_marker(self) -> bool:
        return self._ready.has_marker or bool(self._held)

    def take_markers(self) -> list[Marker]:
        with self._lock:
            held = [marker for _, marker in self._held]
            self._held.clear()
            return [*self._ready.take_markers(), *held]

    @property
    def pending(self) -> int:
        return self._incoming.count() + self._unsaved + (0 if self.spool is None else self.spool.pending)

    @property
    def is_empty(self) -> bool:
        return self._ready.is_empty and self._loaded == self._last

    @property
    def is_due(self) -> bool:
        return self._incoming.has_step or self._has_older

    @property
    def waits_in(self) -> Path | None:
        return self.spool.path if self.spool is not None and self.spool.is_waiting else None

    def end(self) -> int:
        with self._lock:
            self.feed()
            self._has_ended = True
            self._feed_now.set()
            release_files(record for record in self._ready.clear() if not record.number)
            lost, self._unsaved = self._unsaved, 0
            if self.spool is not None:
                try:
                    self._close_spool(self.spool)
                except OSError as error:
                    self._report(0, f"closing the spool failed: {error}", error)
            return lost

    def reopen(self) -> None:
        """Call ``open_spool`` again; if the result is another spool, move the waiting records to that spool."""
        with gate, self._lock:
            earlier = self.spool
            if earlier is None:
                return
            self._open()
            if self.spool is not None and self.spool is not earlier:
                earlier.move_to(self.spool)
                for record in self._ready.clear():
                    if not record.number:
                        self._ready.add(record)
                self._last, self._loaded = self.spool.last_number, 0

    def feed(self) -> None:
        """Save the incoming records in the spool."""
        with self._lock:
            if self.spool is None and time.monotonic() >= self._retry_at:
                self._open()
            if self._unsaved:
                self._save_unsaved()
            while self._incoming:
                # The records are counted as waiting until they are saved.
                records = self._incoming.first_records(BATCH)
                if records:
                    self._store(self._prepare(records))
                    for _ in records:
                        self._incoming.pop()
                    continue
                marker = cast("Marker", self._incoming.pop())
                if self._loaded == self._last:
                    self._ready.put_marker(marker)
                else:
                    self._held.append((self._last, marker))

    def _store(self, records: list[Record]) -> None:
        """Save records in the spool; if the disk fails, keep the records in memory."""
        if not records:
            return
        # A process that resumes the run takes the steps on disk for logged, so no record is saved before an earlier one.
        if self.spool is None or self._unsaved:
            self._keep_in_memory(records)
            return
        try:
            saved = self.spool.append(records)
        except Exception as error:  # noqa: BLE001 - SQLite cannot store some values, such as a step of 65 bits
            self._store_refused(records, error)
            return
        was_loaded, self._last = self._loaded == self._last, saved[-1].number
        if was_loaded and self._ready.pending <= self.WINDOW.records and self._ready.size <= self.WINDOW.size:
            self._loaded = self._last
            for record in saved:
                self._ready.add(record)
        self._wake()

    def _store_refused(self, records: list[Record], error: Exception) -> None:
        """Save records that were refused together one by one, so that only the refused ones are dropped."""
        is_full = isinstance(error, SpoolFullError)
        if isinstance(error, OSError) and not is_full:
            self._report(0, f"{error}; records wait in memory", error)
            self._keep_in_memory(records)
        elif len(records) > 1:
            for record in records:
                self._store([record])
        elif is_full:
            release_files(records)
            self._report(1, str(error), None)
        else:
            release_files(records)
            self._report(1, f"{records[0].label} was refused: {type(error).__name__}: {error}", error)

    def _save_unsaved(self) -> None:
        """Save the records that wait in memory alone, as soon as the disk works again."""
        records = self._ready.unsaved()
        # The worker is just writing the others.
        if self.spool is None or len(records) < self._unsaved:
            return
        saved: list[Record] = []
        # Some exception is raised while the disk is full, and for a record that SQLite cannot store.
        with suppress(Exception):
            for first in range(0, len(records), BATCH):
                saved += self.spool.append(records[first : first + BATCH])
        if saved:
            # The worker loads these records from the disk.
            self._unsaved -= len(saved)
            self._last = saved[-1].number
            self._held.extend((self._last, marker) for marker in self._ready.remove_unsaved(len(saved)))
            self._wake()

    def _keep_in_memory(self, records: Sequence[Record]) -> None:
        room = self._bounds.records - self._ready.pending
        for record in records:
            if room <= 0 or self._ready.size + size_of(record) > self._bounds.size:
                release_files([record])
                self._report(1, FULL, None)
                continue
            room -= 1
            self._unsaved += 1
            # No record on disk has the number 0, so delivering this record does not remove a record from the spool.
            self._ready.add(record._replace(number=0))
        self._wake()

    def _open(self) -> None:
        try:
            self.spool = self._open_spool(self.spool)
        except Exception as error:  # noqa: BLE001 - methods of the logger's author run here too
            self._retry_at = time.monotonic() + self.RETRY_AFTER
            why = f"opening the spool failed: {type(error).__name__}: {error}"
            self._report(0, f"{why}; records wait in memory", error)
            return
        if self.spool.pending:
            # Records of an earlier process are written first.
            self._has_older = True
            self._last = self.spool.last_number
            self._loaded = 0

    def _load(self) -> bool:
        """Load records that are only on disk; return whether the worker can take a record or a marker now."""
        with self._lock:
            if self.spool is None or self._loaded == self._last:
                return False
            try:
                items = self.spool.read(self._loaded, BATCH, self.WINDOW.size)
            except OSError as error:
                self._report(0, str(error), error)
                return False
            self._loaded = items[-1].number if items else self._last
            for item in items:
                if isinstance(item, Damaged):
                    with suppress(OSError):
                        self.spool.discard(item.number)
                    self._report(1, item.reason, None)
                else:
                    self._ready.add(item)
            while self._held and self._held[0][0] <= self._loaded:
                self._ready.put_marker(self._held.popleft()[1])
            return not self._ready.is_empty

    def start(self) -> None:
        with gate, self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name=f"glowplug {self._name} spool", daemon=True
                )
                self._thread.start()

    def _work(self) -> None:
        while not self._has_ended:
            # The first time, this opens the spool, which takes long on a busy disk.
            self.feed()
            self._feed_now.wait(INTERVAL)
            self._feed_now.clear()
