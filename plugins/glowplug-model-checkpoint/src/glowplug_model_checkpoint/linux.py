"""Functions of Linux that Python's ``os`` does not have; elsewhere, they do nothing."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["exchange", "start_writing"]

# Constants of Linux: begin to write, and do not wait; paths are relative to the working directory; exchange two paths.
_SYNC_FILE_RANGE_WRITE, _AT_FDCWD, _RENAME_EXCHANGE = 2, -100, 2


def start_writing(file: BinaryIO, begin: int, end: int) -> None:
    """Let the system begin to write a part of a file to the disk, so that the final ``fsync`` has less to wait for.

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
    function = _function("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    if function is not None:
        # The result does not matter: a file system without this function writes the file at fsync.
        function(file.fileno(), begin, end - begin, _SYNC_FILE_RANGE_WRITE)


def exchange(first: Path, second: Path) -> bool:
    """Exchange two paths atomically, and return whether this was possible.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     exchange(Path(folder, "missing"), Path(folder, "other"))
        False
    """
    function = _function(
        "renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
    )
    if function is None:
        return False
    paths = (os.fsencode(first), os.fsencode(second))
    return bool(function(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0)


@functools.cache
def _function(name: str, *argument_types: Any) -> Callable[..., Any] | None:
    if sys.platform != "linux":
        return None
    function: Any = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function.argtypes = argument_types
    return function  # type: ignore[no-any-return]
