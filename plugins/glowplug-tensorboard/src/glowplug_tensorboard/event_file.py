"""Event files that are written where the call is made, with checksums computed in C.

TensorBoard's own writer hands each event to another thread, and computes its checksum in Python, byte by byte. A logger
has a thread of its own, and holds the lock that the training thread needs too for as long as that takes.
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
    """One event file, which is there, with its first event, as soon as it is made.

    Args:
        logdir: its folder, made if it is missing; an address such as ``s3://bucket/run`` where TensorBoard knows it.
        filename_suffix: what its name ends with.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, logdir: str, filename_suffix: str = "") -> None:
        tf.io.gfile.makedirs(logdir)
        # TensorBoard reads the files of a folder in the order of these names.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._logdir = logdir
        path = os.path.join(logdir, name + filename_suffix)  # noqa: PTH118 - it may be an address
        self._file = tf.io.gfile.GFile(path, "wb")
        self._lock = threading.Lock()  # logger.writer is used on the user's threads
        self._is_closed = False
        source = SourceMetadata(writer="glowplug_tensorboard.event_file")
        self.add_event(Event(wall_time=time.time(), file_version=_VERSION, source_metadata=source))

    def get_logdir(self) -> str:
        """Return the folder."""
        return self._logdir

    def add_event(self, event: Event) -> None:
        """Write one event.

        Raises:
            OSError: it cannot be written, or the file is closed.
        """
        record = _record(event.SerializeToString())
        with self._lock:
            if self._is_closed:
                raise OSError(f"the event file in {self._logdir} is closed")
            self._file.write(record)

    def flush(self) -> None:
        """Bring what was written to where it belongs, for folders that are elsewhere."""
        with self._lock:
            self._file.flush()

    def close(self) -> None:
        """Write no more."""
        with self._lock:
            self._is_closed = True
            self._file.close()


class Writer(SummaryWriter):
    """A ``SummaryWriter`` over an :class:`EventFile`; the arguments are those of ``SummaryWriter``."""

    file_writer: FileWriter | None  # type: ignore[assignment] # annotated by its first value, None
    all_writers: dict[str, FileWriter] | None  # type: ignore[assignment] # the same

    @property
    def summaries(self) -> FileWriter:
        """What takes whole summaries, as tools do that make their own, TensorFlow's included."""
        return self._get_file_writer()

    def _get_file_writer(self) -> FileWriter:
        """Return the file's writer, anew after ``close()``: where SummaryWriter makes its file."""
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
    """Makes events of summaries, as FileWriter does, and writes them to an EventFile."""

    def __init__(self, log_dir: str, filename_suffix: str) -> None:
        self.event_writer = EventFile(log_dir, filename_suffix)


def _record(data: bytes) -> bytes:
    """Frame one serialized event as a TFRecord: its length and its bytes, each with a checksum."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def _masked_crc(data: bytes) -> bytes:
    crc: Any = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
