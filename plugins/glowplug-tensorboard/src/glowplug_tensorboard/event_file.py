"""Fast event files for TensorBoard.

TensorBoard's own writer passes each event to another thread and computes checksums in Python. A glowplug logger already has a
worker thread, so another thread is unnecessary. Computing checksums in Python holds the GIL and thus delays training. Therefore,
this module writes events on the calling thread and computes checksums in C.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from itertools import count
from typing import Any

from google_crc32c import value as crc32c
from tensorboard.compat import tf
from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

__all__ = ["EventFile", "Writer"]

_VERSION = "brain.Event:2"
_numbers = count()


class EventFile:
    """An event file; the constructor creates the file and writes the first event.

    Args:
        logdir: Folder, or a remote address that TensorBoard supports, such as ``s3://bucket/run``. The folder is created if
            necessary.
        filename_suffix: Suffix of the file name.

    Raises:
        OSError: If the file cannot be created.
    """

    def __init__(self, logdir: str, filename_suffix: str = "") -> None:
        tf.io.gfile.makedirs(logdir)
        # TensorBoard reads the files of a folder in the order of their names, so the number has leading zeros.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers):06d}"
        self._logdir = logdir
        path = os.path.join(logdir, name + filename_suffix)  # noqa: PTH118 - logdir may be a remote address
        self._file = tf.io.gfile.GFile(path, "wb")
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
        record = _record(event.SerializeToString())
        with self._lock:
            if self._is_closed:
                raise OSError(f"the event file in {self._logdir} is closed")
            self._file.write(record)

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

    def _get_file_writer(self) -> FileWriter:
        """Return the file writer; create it if necessary.

        This method overrides the method in which SummaryWriter creates its file. After ``close()``, the next call creates a new
        file.
        """
        if self.file_writer is None:
            self.file_writer = _Summaries(self.log_dir, self.filename_suffix)
            self.all_writers = {self.log_dir: self.file_writer}
            if self.purge_step is not None:
                start = SessionLog(status=SessionLog.START)
                for event in (Event(file_version=_VERSION), Event(session_log=start)):
                    self.file_writer.add_event(event, self.purge_step)
                self.purge_step = None
        return self.file_writer


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
