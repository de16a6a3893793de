"""Rows of a W&B run in the files that earlier processes have left in the folder ``wandb``."""

from __future__ import annotations

import json
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from wandb import Run

STEP = "glowplug/step"
"""Name of the value of each row that contains glowplug's step."""

MOST_CANDIDATES = 2000
"""Number of records at the end of a file in which rows are searched; about half of them are rows.

If a process is killed, up to 500 rows may have been sent although they still wait in the spool.
"""

LONGEST_END = 5.0
"""Seconds after which W&B's service process has ended and saved everything, if the process that used it was killed."""

HEADER = 7
"""Length of the header of a file, and of the header of each part of a record."""
BLOCK = 1 << 15
"""The file consists of blocks of this size. A header is never split between two blocks."""
WHOLE, LAST = 1, 4
"""Types of the parts that end a record."""

RowKey: TypeAlias = "tuple[int, float, frozenset[str]]"


def row_key(row: Mapping[str, Any]) -> RowKey:
    """Return what identifies a row that a logger has written: the step, the time of the log call, and the names.

    Args:
        row: The row.

    Example:
        >>> row_key({"loss": 0.5, "glowplug/step": 3, "_timestamp": 1700000000.0})
        (3, 1700000000.0, frozenset({'loss'}))
    """
    # W&B adds names that begin with an underscore.
    names = frozenset(name for name in row if name != STEP and not name.startswith("_"))
    return row[STEP], row["_timestamp"], names


def earlier_rows(run: Run) -> set[RowKey]:
    """Return the keys of the last rows that earlier processes have logged to a run, as far as their files still exist.

    Args:
        run: The run.
    """
    own = Path(run.settings.sync_file)
    rows: set[RowKey] = set()
    for path in Path(run.settings.wandb_dir).glob(f"*run-*-{run.id}*/{own.name}"):
        # A damaged or vanished file only means that rows may be repeated.
        with suppress(OSError):
            if path.parent != own.parent:
                rows.update(_last_rows(path))
    return rows


def _last_rows(path: Path) -> set[RowKey]:
    """Return the keys of the last rows in a file; wait until the file is complete if its process has just been killed."""
    rows, is_finished = _read(path)
    while not is_finished and (age := time.time() - path.stat().st_mtime) < LONGEST_END:
        time.sleep(min(LONGEST_END - age, LONGEST_END))
        rows, is_finished = _read(path)
    return rows


def _read(path: Path) -> tuple[set[RowKey], bool]:
    """Return the keys of the last rows in a file, and whether the run was finished."""
    # These modules have no type annotations.
    parse = import_module("wandb.proto.wandb_internal_pb2").Record.FromString
    DecodeError = import_module("google.protobuf.message").DecodeError  # noqa: N806 - a class
    # Only the last records are parsed, because a file may have millions of records.
    candidates: deque[bytes] = deque(maxlen=MOST_CANDIDATES)
    last = b""
    for last in _records(path):
        if STEP.encode() in last:
            candidates.append(last)
    rows = set()
    with suppress(DecodeError):
        for candidate in candidates:
            row = _values(parse(candidate).history)
            if STEP in row and "_timestamp" in row:
                rows.add(row_key(row))
        return rows, parse(last).HasField("exit")
    return rows, True


def _values(history: Any) -> dict[str, Any]:
    """Return the step and the time of a row; all other values are ``None``."""
    values: dict[str, Any] = {}
    for item in history.item:
        name = item.key or item.nested_key[0]
        values[name] = json.loads(item.value_json) if name in (STEP, "_timestamp") else None
    return values


def _records(path: Path) -> Iterator[bytes]:
    """Yield the records of a file that W&B's service process has written, up to the first incomplete record."""
    record = b""
    with path.open("rb") as file:
        position = len(file.read(HEADER))
        while True:
            room = BLOCK - position % BLOCK
            if room < HEADER:
                position += len(file.read(room))
            head = file.read(HEADER)
            if len(head) < HEADER:
                return
            _, length, kind = struct.unpack("<IHB", head)
            part = file.read(length)
            position += HEADER + length
            if len(part) < length or not 0 < kind <= LAST:
                return
            record += part
            if kind in (WHOLE, LAST):
                yield record
                record = b""
