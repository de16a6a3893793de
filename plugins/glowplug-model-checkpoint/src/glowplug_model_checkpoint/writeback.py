"""Early writing of a large file to the disk, so that the final ``fsync`` has less to wait for."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

__all__ = ["start_writing"]

# A constant of Linux: begin to write, and do not wait.
_SYNC_FILE_RANGE_WRITE = 2


def start_writing(file: BinaryIO, begin: int, end: int) -> None:
    """Let the system begin to write a part of a file to the disk; do nothing where this is not possible.

    Args:
        file: A file that was flushed.
        begin: Position of the first byte.
        end: Position after the last byte.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file:
        ...     _ = file.write(bytes(1000))
        ...     file.flush()
        ...     start_writing(file, 0, 1000)
    """
    function = _sync_file_range()
    if function is not None:
        # The result does not matter: a file system without this function writes the file at fsync.
        function(file.fileno(), begin, end - begin, _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _sync_file_range() -> Callable[..., Any] | None:
    """Return the function of Linux, which Python's ``os`` does not have."""
    if sys.platform != "linux":
        return None
    function: Any = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function  # type: ignore[no-any-return]
