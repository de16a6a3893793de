"""Spool: log records that wait on disk until the logger's backend has accepted them.

A spool is a SQLite database that stores the records of one run as plain data, each record with a checksum. The process that
opened a spool owns the spool until the process closes it or ends. After all records are delivered, the spool still stores the
highest step of each logged name. A run that is resumed from an older state therefore logs nothing twice.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import sqlite3
import threading
import time
import uuid
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from glowplug.loggers._kept_files import SUFFIX as KEPT_SUFFIX, release, size_of
from glowplug.loggers._payload import Histogram
from glowplug.loggers._record import Kind, Record

FORMAT = "1"
SUFFIX = ".spool"
KEPT_DAYS = 30
KEPT_SPOOLS = 500
"""A delivered spool is deleted when it is older than ``KEPT_DAYS`` days, or when there are ``KEPT_SPOOLS`` newer spools."""

_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS steps (name TEXT PRIMARY KEY, step INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    name TEXT,
    step INTEGER,
    timestamp REAL NOT NULL,
    layout TEXT,
    payload BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
"""
_INSERT = "INSERT INTO records (kind, name, step, timestamp, layout, payload, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"
_STEP = "INSERT INTO steps VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET step = max(step, excluded.step)"
# Bytes of a record, without what SQLite adds. Those of an artifact are in the column layout.
_COUNT = """
SELECT COUNT(*), COALESCE(SUM(
    64 + LENGTH(payload) + COALESCE(LENGTH(CAST(name AS BLOB)), 0)
    + IIF(kind = 'artifact', 0, COALESCE(LENGTH(layout), 0))
), 0), COALESCE(SUM(IIF(kind = 'artifact', CAST(layout AS INTEGER), 0)), 0) FROM records
"""


class SpoolInUseError(OSError):
    """Another process owns the spool.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, closing(Spool(Path(folder) / "run.spool")) as spool:
        ...     try:
        ...         read_content(spool.path)
        ...     except SpoolInUseError:
        ...         print("in use")
        in use
    """


class SpoolFullError(OSError):
    """The spool has reached its size limit."""


class _Sizes(NamedTuple):
    """Numbers of bytes of the records in a spool, and of the files that wait with them."""

    records: int
    files: int

    def plus(self, other: _Sizes) -> _Sizes:
        return _Sizes(self.records + other.records, self.files + other.files)

    def minus(self, other: _Sizes) -> _Sizes:
        return _Sizes(self.records - other.records, self.files - other.files)


class Content(NamedTuple):
    """What a spool contains.

    Attributes:
        about: Texts that describe the run, such as the class of the logger and the outcome of the run.
        records: Number of waiting records.
        size: Total size of the waiting records, in bytes.
    """

    about: dict[str, str]
    records: int
    size: int

    @property
    def is_waiting(self) -> bool:
        """Whether records must still be delivered, or the run must still be ended in the backend."""
        return self.records > 0 or self.about.get("backend") == "open"


class Damaged(NamedTuple):
    """A record that cannot be read.

    Attributes:
        number: Number of the record.
        reason: Why the record cannot be read.

    Example:
        >>> print("record {}: {}".format(*Damaged(3, "the payload is incomplete")))
        record 3: the payload is incomplete
    """

    number: int
    reason: str


class Spool:
    """Records of one run that wait on disk for the backend.

    Args:
        path: Path of the database. The file and its folder are created if they do not exist.
        limit: Maximum number of bytes of the waiting records, and of the files that wait with them. Each limit holds by itself,
            and a single file may be larger. Defaults to 1 GiB.

    Raises:
        SpoolInUseError: If another process owns the spool.
        OSError: If the database cannot be created or read, or has an unknown format.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, closing(Spool(Path(folder) / "run.spool")) as spool:
        ...     records = spool.append([Record(0, "scalars", None, 1, 0.0, {"loss": 0.5})])
        ...     print(spool.pending, spool.read(after=0, most=10))
        ...     spool.acknowledge(records[-1].number)
        ...     print(spool.pending)
        1 [Record(number=1, kind='scalars', name=None, step=1, timestamp=0.0, payload={'loss': 0.5})]
        0
    """

    def __init__(self, path: Path, limit: int = 1 << 30) -> None:
        self.path = path
        self.limit = limit
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with _as_os_error(path):
            # The lock serializes the threads that use the connection.
            self._database = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
            try:
                # The owner keeps the lock on the database until it ends, however it ends.
                self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = NORMAL")
                self._database.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT")
                self.about = dict(self._database.execute("SELECT name, value FROM about"))
                self.steps: dict[str, int] = dict(self._database.execute("SELECT name, step FROM steps"))
                self.pending, records, files = self._database.execute(_COUNT).fetchone()
                last = self._database.execute("SELECT seq FROM sqlite_sequence").fetchone()
            except BaseException:
                self._database.close()
                raise
        self._sizes = _Sizes(records, files)
        self.last_number: int = last[0] if last else 0
        if self.about.setdefault("format", FORMAT) != FORMAT:
            self.close()
            raise OSError(
                f"the spool {path} has format {self.about['format']}, but this version of glowplug reads format {FORMAT}; "
                "deliver its records with the version of glowplug that wrote them"
            )

    @property
    def size(self) -> int:
        """Number of bytes of the waiting records and files."""
        return sum(self._sizes)

    @property
    def is_waiting(self) -> bool:
        """Whether records must still be delivered, or the run must still be ended in the backend."""
        return Content(self.about, self.pending, self.size).is_waiting

    def describe(self, about: Mapping[str, str]) -> None:
        """Update the description of the run in the database."""
        with self._changing() as database:
            self.about.update(about)
            database.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", self.about.items())

    def append(self, records: Sequence[Record]) -> list[Record]:
        """Save records in order, and return copies of them with the numbers that the spool assigned.

        Args:
            records: The records; their numbers are ignored.

        Raises:
            OSError: If the records would exceed the limit, or cannot be written. In both cases, no record is saved.
        """
        rows = [_row_of(record) for record in records]
        sizes = _sizes_of(rows)
        is_large_file_alone = len(rows) == 1 and not self._sizes.files
        if self._sizes.records + sizes.records > self.limit or (
            self._sizes.files + sizes.files > self.limit and sizes.files and not is_large_file_alone
        ):
            raise SpoolFullError(
                f"the spool {self.path} has reached its limit of {self.limit:,} bytes; check that the backend is reachable, or "
                "increase spool_limit="
            )
        steps = _steps_of(records)
        with self._changing() as database:
            database.executemany(_INSERT, rows)
            database.executemany(_STEP, steps.items())
        first = self.last_number + 1
        self.last_number += len(rows)
        self._sizes = self._sizes.plus(sizes)
        self.pending += len(rows)
        for name, step in steps.items():
            self.steps[name] = max(step, self.steps.get(name, step))
        return [record._replace(number=first + i) for i, record in enumerate(records)]

    def read(self, after: int, most: int, size: int | None = None) -> list[Record | Damaged]:
        """Return the waiting records whose numbers are greater than ``after``, in order.

        Args:
            after: Number of the last record that was read before; 0 reads from the first record.
            most: Maximum number of records.
            size: Number of bytes after which no further record is read. Defaults to no limit.

        Returns:
            The records; a :class:`Damaged` replaces each record that cannot be read.
        """
        query = "SELECT number, kind, name, step, timestamp, layout, payload, checksum FROM records WHERE number > ? ORDER BY number LIMIT ?"
        found, total = [], 0
        with (
            self._lock,
            _as_os_error(self.path),
            closing(self._database.execute(query, (after, most))) as rows,
        ):
            for row in rows:
                found.append(_record_of(row))
                total += len(row[6])
                if size is not None and total > size:
                    break
        return found

    def acknowledge(self, last: int) -> None:
        """Remove the records with numbers up to and including ``last``."""
        self._delete_where("number <= ?", last)

    def discard(self, number: int) -> None:
        """Remove one record."""
        self._delete_where("number = ?", number)

    def _delete_where(self, condition: str, number: int) -> None:
        with self._changing() as database:
            count, *sizes = database.execute(f"{_COUNT} WHERE {condition}", (number,)).fetchone()
            database.execute(f"DELETE FROM records WHERE {condition}", (number,))  # noqa: S608 - a constant of this class
        self.pending -= count
        self._sizes = self._sizes.minus(_Sizes(*sizes))

    def close(self) -> None:
        """Close the database, so that other processes can open it."""
        with self._lock:
            self._database.close()

    def shrink(self) -> None:
        """Give the disk space of removed records back to the file system.

        Raises:
            OSError: If the database cannot be written.
        """
        with self._lock, _as_os_error(self.path):
            self._database.execute("VACUUM")

    def move_to(self, other: Spool) -> None:
        """Append all records to another spool, and delete this spool."""
        other.append(
            [record for record in self.read(after=0, most=self.pending) if isinstance(record, Record)]
        )
        self._delete()

    def delete(self) -> None:
        """Delete the database, and the copies of logged files that were waiting for upload."""
        for path in self.files():
            release(path)
        self._delete()

    def files(self) -> list[str]:
        """Return the paths of the files that wait to be uploaded."""
        with self._lock, _as_os_error(self.path):
            rows = self._database.execute("SELECT payload FROM records WHERE kind = 'artifact'").fetchall()
        return [str(json.loads(payload)) for (payload,) in rows]

    def _delete(self) -> None:
        self.close()
        self.delete_unread(self.path)

    @staticmethod
    def delete_unread(path: Path) -> None:
        """Delete the database of a spool, even if it is unreadable; no process may use the spool."""
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _as_os_error(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                # A full disk may have ended the transaction already.
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise


def spools_in(folder: Path) -> list[Path]:
    """Return the paths of the spools in a folder, oldest first.

    Args:
        folder: The folder; it may be missing.

    Example:
        >>> spools_in(Path("no such folder"))
        []
    """
    return sorted(folder.glob(f"*{SUFFIX}"))


def new_name(logger: str) -> str:
    """Return a file name that begins with the current time, so that sorting spools by name sorts them by age."""
    safe = re.sub(r"[^\w.-]", "_", logger)
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}-{uuid.uuid4().hex[:8]}{SUFFIX}"


def read_content(path: Path) -> Content:
    """Read what a spool contains, without becoming its owner.

    Args:
        path: Path of the database.

    Returns:
        An object with the attributes ``about``, a dict of texts that describe the run; ``records``, the number of waiting records;
        ``size``, their size in bytes; and ``is_waiting``, whether there is still something to deliver.

    Raises:
        SpoolInUseError: If another process owns the spool.
        OSError: If the file is not a spool.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "run.spool"
        ...     with closing(Spool(path)) as spool:
        ...         records = spool.append([Record(0, "scalars", None, 1, 0.0, {"loss": 0.5})])
        ...     read_content(path).records
        1
    """
    # A connection that may only read would leave files of SQLite behind.
    address = f"{path.absolute().as_uri()}?mode=rw"
    with _as_os_error(path), closing(sqlite3.connect(address, uri=True, timeout=0)) as database:
        about = dict(database.execute("SELECT name, value FROM about"))
        count, *sizes = database.execute(_COUNT).fetchone()
        return Content(about, count, sum(sizes))


def adopt(folder: Path, name: str | None, run: Mapping[str, str], limit: int) -> Spool | None:
    """Open the spool that an earlier process of a run left; return ``None`` if no such spool can be opened.

    Args:
        folder: Folder that contains the spools.
        name: File name of the spool; ``None`` if the name is unknown.
        run: Information that identifies the run, as returned by the logger's ``run_info()``; empty if the run is unknown.
        limit: Maximum total size of the waiting records, in bytes.
    """
    paths = sorted(spools_in(folder), key=lambda path: path.name != name)
    for path in paths if run else paths[:1]:
        with suppress(OSError):
            if path.name == name or (run and json.loads(read_content(path).about.get("run", "{}")) == run):
                return Spool(path, limit)
    return None


def delete_old(folder: Path) -> None:
    """Delete delivered spools that are older than 30 days or are not among the newest 500 spools.

    Args:
        folder: Folder that contains the spools.
    """
    oldest = time.time() - KEPT_DAYS * 24 * 3600
    newest_first = sorted(((path.stat().st_mtime, path) for path in spools_in(folder)), reverse=True)
    for index, (changed, path) in enumerate(newest_first):
        if index >= KEPT_SPOOLS or changed < oldest:
            with suppress(OSError), closing(Spool(path)) as spool:
                if not spool.is_waiting:
                    spool.delete()
    _delete_unused_files(folder, oldest)


def _delete_unused_files(folder: Path, oldest: float) -> None:
    """Delete old kept files that no spool mentions, because their process was killed before it could save the record."""
    old = [kept for kept in (folder / "files").glob(f"*{KEPT_SUFFIX}") if kept.stat().st_mtime < oldest]
    used: set[Path] = set()
    for path in spools_in(folder) if old else ():
        # If another process uses a spool, nothing is deleted this time.
        with closing(Spool(path)) as spool:
            used.update(Path(file).parent for file in spool.files())
    for kept in set(old) - used:
        shutil.rmtree(kept, ignore_errors=True)


def without_repeated_steps(record: Record, steps: Mapping[str, int]) -> Record | None:
    """Return the part of a record that was not logged before, or ``None`` if nothing is left.

    A value was logged before if ``steps`` contains its name with the same or a higher step.
    """
    if record.step is None:
        return record
    if record.kind != "scalars":
        name = f"{record.kind}:{record.name}"
        return None if record.step <= steps.get(name, record.step - 1) else record
    scalars = {
        name: value
        for name, value in record.payload.items()
        if record.step > steps.get(f"scalars:{name}", record.step - 1)
    }
    return record._replace(payload=scalars) if scalars or not record.payload else None


def highest_steps(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """Merge two mappings of names to steps; if both contain a name, the result has the higher step.

    Example:
        >>> highest_steps({"scalars:loss": 0, "scalars:accuracy": 4}, {"scalars:accuracy": 2})
        {'scalars:loss': 0, 'scalars:accuracy': 4}
    """
    # Counter's union would omit steps that are not positive.
    return {name: max(first.get(name, step), step) for name, step in {**first, **second}.items()}


def _steps_of(records: Iterable[Record]) -> dict[str, int]:
    """Return the highest step of each name in the records."""
    steps: dict[str, int] = {}
    for _, kind, name, step, _, payload in records:
        if step is not None:
            for each in payload if kind == "scalars" else (name,):
                full_name = f"{kind}:{each}"
                if step >= steps.get(full_name, step):
                    steps[full_name] = step
    return steps


def _row_of(record: Record) -> tuple[Any, ...]:
    _, kind, name, step, timestamp, payload = record
    if kind == "scalars":
        layout, data = _layout(tuple(payload)), array("d", payload.values()).tobytes()
    elif hasattr(payload, "tobytes"):
        layout, data = json.dumps([payload.dtype.str, payload.shape]), payload.tobytes()
    elif kind == "artifact":
        layout, data = str(size_of(payload)), json.dumps(payload).encode()
    else:
        layout, data = None, json.dumps(payload).encode()
    return kind, name, step, timestamp, layout, data, _checksum(kind, name, step, timestamp, layout, data)


def _sizes_of(rows: Iterable[tuple[Any, ...]]) -> _Sizes:
    records = files = 0
    for kind, name, _, _, layout, data, _ in rows:
        records += 64 + len(data) + len((name or "").encode())
        if kind == "artifact":
            files += int(layout)
        else:
            records += len(layout or "")
    return _Sizes(records, files)


@functools.lru_cache
def _layout(names: tuple[str, ...]) -> str:
    """Return the names of scalars as JSON; the result is cached because most records have the same names."""
    return json.dumps(names)


def _record_of(row: tuple[Any, ...]) -> Record | Damaged:
    number, kind, name, step, timestamp, layout, data, checksum = row
    # The columns of a damaged record may have other types.
    with suppress(Exception):
        if _checksum(*row[1:-1]) == checksum:
            return Record(number, kind, name, step, timestamp, _payload_of(kind, layout, data))
    return Damaged(number, f"record {number} is damaged: its checksum is wrong")


def _payload_of(kind: Kind, layout: str | None, data: bytes) -> Any:
    if kind == "scalars":
        return dict(zip(json.loads(layout or ""), array("d", data), strict=True))
    if kind == "histogram":
        return Histogram(*json.loads(data))
    if layout is None or kind == "artifact":
        return json.loads(data)
    import numpy as np

    dtype, shape = json.loads(layout)
    # Writers may change the array.
    return np.frombuffer(data, np.dtype(dtype)).reshape(shape).copy()


def _checksum(
    kind: str, name: str | None, step: int | None, timestamp: float, layout: str | None, data: bytes
) -> int:
    return zlib.crc32(data, zlib.crc32(f"{kind} {name} {step} {timestamp} {layout}".encode()))


@contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    """Convert exceptions of SQLite to ``OSError``."""
    try:
        yield
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise SpoolInUseError(f"another process uses the spool {path}") from error
        raise OSError(f"the spool {path} cannot be used: {error}") from error
