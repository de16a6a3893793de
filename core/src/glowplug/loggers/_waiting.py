"""Records and markers that wait in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from glowplug.loggers._payload import Finished, Histogram, finish_early
from glowplug.loggers._record import Record

BATCH = 500
"""Number of records that are saved or written together."""

_BYTES_OF_COUNT = 36
"""Size of an integer in a list."""


class Marker:
    """Item in the queue that lets a caller wait until the worker has written all earlier records.

    If the backend cannot be used, the worker releases the caller at once, and ``delivered`` remains ``False``.
    """

    def __init__(self, *, last: bool) -> None:
        self.last = last
        self.reached = threading.Event()
        self.delivered = False


class Bounds(NamedTuple):
    """Limits of a queue in memory.

    Attributes:
        records: Maximum number of records.
        size: Maximum total size of the tensors, arrays and texts, in bytes.
    """

    records: int
    size: int


class Waiting:
    """Records and markers that wait in memory, with limits for the number and the size of the records.

    Any thread may add records and markers.

    Args:
        bounds: The limits.
        wake: Function that is called when so many records wait that they should be taken at once.
    """

    EAGER = 1 << 26
    """Number of waiting bytes above which the caller reduces a tensor to its histogram or pixels."""

    def __init__(self, bounds: Bounds, wake: Callable[[], None]) -> None:
        self.items: deque[Record | Marker] = deque()
        self.size = 0
        self.markers = 0
        self.has_step = False
        self._max_records, self._max_size = bounds
        self._wake = wake
        # Held while size or markers change; scalars change neither.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.items)

    def put(self, record: Record) -> bool:
        """Add a record; return whether there was room for the record."""
        waiting = len(self.items)
        if waiting >= self._max_records:
            return False
        # Nearly all records are scalars, which have no size.
        if record.kind != "scalars":
            if self.size + size_of(record) > self.EAGER:
                record = finish_early(record)
            if self.size + size_of(record) > self._max_size:
                return False
            self._add_size(size_of(record))
        self.items.append(record)
        if record.step is not None:
            self.has_step = True
        if waiting + 1 == BATCH or self.size > self.EAGER:
            self._wake()
        return True

    def add(self, record: Record) -> None:
        """Add a record even if there is no room for it."""
        self._add_size(size_of(record))
        self.items.append(record)
        if record.step is not None:
            self.has_step = True

    def _add_size(self, size: int) -> None:
        with self._lock:
            self.size += size

    def put_marker(self, marker: Marker) -> None:
        """Add a marker."""
        with self._lock:
            self.markers += 1
        self.items.append(marker)
        self.has_step = True

    def take_markers(self) -> list[Marker]:
        """Take all markers, but no record."""
        markers = [item for item in self.items.copy() if isinstance(item, Marker)]
        for marker in markers:
            self.items.remove(marker)
        with self._lock:
            self.markers -= len(markers)
        return markers

    def first_records(self, most: int) -> list[Record]:
        """Return the records before the first marker, at most ``most`` of them, without taking them.

        Other threads may add items meanwhile, but only the caller may take items.
        """
        records: list[Record] = []
        # An iterator over the deque would raise RuntimeError as soon as another thread adds an item.
        for index in range(min(most, len(self.items))):
            item = self.items[index]
            if isinstance(item, Marker):
                break
            records.append(item)
        return records

    def pop(self) -> Record | Marker:
        """Take the first item."""
        item = self.items.popleft()
        if isinstance(item, Marker):
            with self._lock:
                self.markers -= 1
        elif item.kind != "scalars":
            self._add_size(-size_of(item))
        return item

    def count(self) -> int:
        """Return the number of records."""
        return sum(isinstance(item, Record) for item in self.items.copy())


def size_of(record: Record) -> int:
    """Return the number of bytes of the tensors, arrays, histograms and texts in a record."""
    if record.kind == "scalars":
        return 0
    payload = record.payload.value if isinstance(record.payload, Finished) else record.payload
    parts = payload.values() if isinstance(payload, dict) else (payload,)
    return sum(map(_size_of_part, parts))


def _size_of_part(part: Any) -> int:
    if isinstance(part, (str, bytes)):
        return len(part)
    if isinstance(part, Histogram):
        return _BYTES_OF_COUNT * len(part.counts)
    return int(getattr(part, "nbytes", 0))
