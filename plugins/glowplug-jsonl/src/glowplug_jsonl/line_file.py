"""Text files to which whole lines are appended."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger("glowplug.jsonl")

BLOCK = 1 << 16
"""Number of bytes that are read at a time to find the end of the last whole line."""


class LineFile:
    r"""Text file to which any number of processes append whole lines.

    Opening the file removes an incomplete last line, which a killed process may have left.

    Args:
        path: Path of the file. The file and its folders are created if they do not exist.
        header: First line of a new file, with its line break. Defaults to no header line.
        is_whole: Function that gets the bytes after the last line break, and returns whether they are a complete line. A complete
            line gets the missing line break; other bytes are removed. The function may raise an exception to leave the file of
            another program unchanged. By default, the bytes are always removed.

    Raises:
        OSError: If the file cannot be opened or repaired.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "lines.txt"
        ...     _ = path.write_text("whole line\nhalf a li")
        ...     file = LineFile(path)
        ...     file.append("another line\n")
        ...     file.close()
        ...     path.read_text()
        'whole line\nanother line\n'
    """

    def __init__(
        self, path: Path, header: str = "", is_whole: Callable[[bytes], bool] = lambda _: False
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        # In append mode, the system moves to the end of the file before each write.
        self._file = path.open("a+b", buffering=0)
        try:
            with self._locked():
                self._repair(is_whole)
                if header and not self._size():
                    self._write(header.encode())
        except BaseException:
            self.close()
            raise

    def append(self, text: str) -> None:
        """Append whole lines with a single write, and leave the file unchanged if the write fails.

        Args:
            text: The lines, each with its line break.

        Raises:
            OSError: If the lines cannot be written.
        """
        data = text.encode(errors="backslashreplace")
        with self._locked():
            self._write(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _size(self) -> int:
        status = os.fstat(self._file.fileno())
        if not status.st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the file was deleted", str(self.path))
        return status.st_size

    def _write(self, data: bytes) -> None:
        size, written = self._size(), -1
        try:
            written = self._file.write(data)
        finally:
            if written != len(data):
                with suppress(OSError):
                    self._file.truncate(size)
        if written != len(data):
            # A disk that becomes full takes a part of the data.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def _repair(self, is_whole: Callable[[bytes], bool]) -> None:
        """Add the missing line break to a complete last line, or remove an incomplete one."""
        tail = self._tail()
        if not tail:
            return
        if is_whole(tail):
            self._write(b"\n")
            return
        self._file.truncate(self._size() - len(tail))
        log.warning("%s: the last line was incomplete and was removed: %r", self.path, tail[:200])

    def _tail(self) -> bytes:
        """Return the bytes after the last line break."""
        tail, start = b"", self._size()
        while start:
            end, start = start, max(0, start - BLOCK)
            self._file.seek(start)
            block = self._file.read(end - start) or b""
            _, line_break, after = block.rpartition(b"\n")
            if line_break:
                return after + tail
            tail = after + tail
        return tail

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the file against writes of other processes, so that a failed write can be undone."""
        _lock(self._file.fileno())
        try:
            yield
        finally:
            _unlock(self._file.fileno())


# Some network file systems have no locks. Without them, lines are whole unless two processes write while the disk is full.
if sys.platform == "win32":

    def _lock(descriptor: int) -> None: ...

    def _unlock(descriptor: int) -> None: ...

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _unlock(descriptor: int) -> None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that end with a line break, or no lines if the file does not exist.

    Args:
        path: The file.
    """
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line
