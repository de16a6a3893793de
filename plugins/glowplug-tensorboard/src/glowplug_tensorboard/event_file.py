"""Fast event files for TensorBoard.

TensorBoard's own writer passes each event to another thread and computes checksums in Python. A glowplug logger already has a
worker thread, so another thread is unnecessary. Computing checksums in Python holds the GIL and thus delays training. Therefore,
this module writes events on the calling thread and computes checksums in C.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from google_crc32c import value as crc32c
from tensorboard.compat import tf
from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

__all__ = ["EventFile", "Writer"]

_VERSION = "brain.Event:2"
_numbers = count()

_FINAL = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.ELOOP})
"""Errors that the name of a folder causes; any other error, such as a full disk, may pass."""


class _LocalFile:
    """A local file that grows by whole blocks of data.

    The file is opened for each write. A removed folder is therefore noticed, and thousands of files, such as one for each trial,
    do not exceed the number of files that a process may open.

    Args:
        path: Path of the file, which the first write creates. Missing folders are created.
    """

    def __init__(self, path: str) -> None:
        self._path, self._size = Path(path), 0
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, data: bytes) -> None:
        """Append data; if this fails, remove the part that was written, because all data are written again later.

        Raises:
            OSError: If the data cannot be written.
        """
        try:
            with self._path.open("r+b" if self._size else "wb", buffering=0) as file:
                file.seek(self._size)
                rest = data
                # A disk that becomes full accepts a part of the data before it raises an error.
                while rest:
                    rest = rest[file.write(rest) :]
        except OSError:
            with suppress(OSError):
                if self._size:
                    os.truncate(self._path, self._size)
                else:
                    self._path.unlink()
            raise
        self._size += len(data)

    def flush(self) -> None:
        """Do nothing, because each write flushes the file."""

    def close(self) -> None:
        """Do nothing, because each write closes the file."""


def _remote_file(path: str) -> Any:
    tf.io.gfile.makedirs(path.rpartition("/")[0])
    return tf.io.gfile.GFile(path, "wb")


class EventFile:
    """An event file; the constructor creates the file and writes the first event.

    Args:
        logdir: Folder, or a remote address that TensorBoard supports, such as ``s3://bucket/run``. The folder is created if
            necessary. A file at a remote address is uploaded when it is flushed or closed.
        filename_suffix: Suffix of the file name.

    Raises:
        OSError: If the file cannot be created.
    """

    def __init__(self, logdir: str, filename_suffix: str = "") -> None:
        # TensorBoard reads the files of a folder in the order of their names, so the number has leading zeros.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers):06d}"
        self._logdir = logdir
        path = os.path.join(logdir, name + filename_suffix)  # noqa: PTH118 - logdir may be a remote address
        self._file = _remote_file(path) if "://" in logdir else _LocalFile(path)
        # Users may call logger.writer on any thread.
        self._lock = threading.Lock()
        self._is_closed = False
        source = SourceMetadata(writer="glowplug_tensorboard.event_file")
        self.add_event(Event(wall_time=time.time(), file_version=_VERSION, source_metadata=source))

    def get_logdir(self) -> str:
        """Return the folder."""
        return self._logdir

    def add_event(self, event: Event) -> None:
        """Write one event.

        Raises:
            OSError: If the event cannot be written or the file is closed.
        """
        self.write([event.SerializeToString()])

    def write(self, events: Iterable[bytes]) -> None:
        """Write serialized events; if writing to a local file fails, remove the part that was written.

        Raises:
            OSError: If the events cannot be written or the file is closed.
        """
        records = b"".join(map(_record, events))
        with self._lock:
            if self._is_closed:
                raise OSError(f"the event file in {self._logdir} is closed")
            self._file.write(records)

    def flush(self) -> None:
        """Flush the file; if the folder is a remote address, upload the file."""
        with self._lock:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._is_closed = True
            self._file.close()


class Writer(SummaryWriter):
    """A ``SummaryWriter`` that writes to an :class:`EventFile`."""

    # The base class assigns None to these attributes, so type checkers infer None as their type.
    file_writer: FileWriter | None  # type: ignore[assignment]
    all_writers: dict[str, FileWriter] | None  # type: ignore[assignment]

    @property
    def summaries(self) -> FileWriter:
        """The file writer, which accepts summaries created by other tools, such as TensorFlow."""
        return self._get_file_writer()

    def events_in(self, folder: str) -> EventFile:
        """Return the :class:`EventFile` of a folder below ``log_dir``; create the file if necessary.

        The method :meth:`EventFile.write` of this file accepts serialized events.

        Args:
            folder: Path of the folder, relative to ``log_dir``. An empty string means ``log_dir`` itself.

        Raises:
            ValueError: If the folder is outside ``log_dir``, or if no folder can have this name.
            OSError: If the file cannot be created for another reason.
        """
        if not folder:
            return self.events
        writers = self.all_writers or {}
        path = os.path.join(self.log_dir, folder)  # noqa: PTH118 - log_dir may be a remote address
        if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(self.log_dir)):
            raise ValueError(f"the folder {folder!r} is outside {self.log_dir}")
        if path not in writers:
            try:
                writers[path] = _Summaries(path, self.filename_suffix)
            except OSError as error:
                if error.errno in _FINAL and Path(self.log_dir).is_dir():
                    raise ValueError(f"the folder {folder!r} cannot be created: {error}") from error
                raise
        events: EventFile = writers[path].event_writer
        return events

    @property
    def events(self) -> EventFile:
        """The :class:`EventFile` in ``log_dir``, to which you can write serialized events."""
        events: EventFile = self._get_file_writer().event_writer
        return events

    def _get_file_writer(self) -> FileWriter:
        """Return the file writer; create it if necessary.

        This method overrides the method in which SummaryWriter creates its file. After ``close()``, the next call creates a new
        file.
        """
        if self.file_writer is None:
            self.file_writer = _Summaries(self.log_dir, self.filename_suffix)
            self.all_writers = {self.log_dir: self.file_writer}
            if self.purge_step is not None:
                step, self.purge_step = self.purge_step, None
                self.purge(step)
        return self.file_writer

    def purge(self, step: int, folder: str = "") -> None:
        """Make TensorBoard hide all records from a step on that were written before this call.

        Args:
            step: The first hidden step.
            folder: The folder that contains the records, as in :meth:`events_in`. Records in other folders are not hidden.
        """
        now, start = time.time(), SessionLog(status=SessionLog.START)
        version = Event(file_version=_VERSION, step=step, wall_time=now).SerializeToString()
        session = Event(session_log=start, step=step, wall_time=now).SerializeToString()
        # TensorBoard's server ignores the first start of a session in a folder.
        self.events_in(folder).write([version, session, session])


class _Summaries(FileWriter):
    """A FileWriter that writes its events to an EventFile."""

    def __init__(self, log_dir: str, filename_suffix: str) -> None:
        self.event_writer = EventFile(log_dir, filename_suffix)


def _record(data: bytes) -> bytes:
    """Return a serialized event as a TFRecord: length and bytes, each followed by a checksum."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def _masked_crc(data: bytes) -> bytes:
    crc: Any = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
