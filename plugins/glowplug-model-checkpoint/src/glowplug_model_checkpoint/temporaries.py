"""Files under a temporary name: how a checkpoint is written before it is published, and how what a crash left is swept.

Who writes a temporary holds a lock on it, which the operating system lets go of however the process ends. So whether one
is left over is a question that can be asked at any time, also while other processes write into the same folder.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

__all__ = ["create", "is_temporary", "publish", "sweep", "sync_directory"]

_NAME = re.compile(r"\.glowplug-[0-9a-f]{16}\.tmp")


def is_temporary(filename: str) -> bool:
    """Return whether a file name is one of those that :func:`create` gives.

    Example:
        >>> is_temporary(".glowplug-0123456789abcdef.tmp"), is_temporary("model_1.pt")
        (True, False)
    """
    return _NAME.fullmatch(filename) is not None


def create(dirname: Path) -> BinaryIO:
    """Return a new file in a folder, open for writing, and locked until it is closed."""
    while True:
        file = (dirname / f".glowplug-{secrets.token_hex(8)}.tmp").open("xb")
        if sys.platform != "win32":
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if not os.fstat(file.fileno()).st_nlink:  # swept between its creation and its lock
                file.close()
                continue
        return file


def publish(file: BinaryIO, path: Path) -> None:
    """Give a file of :func:`create` its name, in one step; what had the name before is replaced."""
    if sys.platform == "win32":
        file.close()  # an open file cannot be renamed there
    Path(file.name).replace(path)
    file.close()  # only now: the lock must last until the name is gone


def sweep(dirname: Path) -> None:
    """Remove the temporaries that nobody writes any more.

    Where the file system has no locks, nobody can tell, and they stay.
    """
    for path in dirname.iterdir():
        if is_temporary(path.name):
            with suppress(OSError):  # locked, gone in the meantime, or not ours to remove
                _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    if sys.platform == "win32":
        path.unlink()  # refused there while a process has it open
        return
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def sync_directory(dirname: Path) -> None:
    """Make the names in a folder survive a power failure."""
    if sys.platform == "win32":
        return  # folders cannot be opened there; the file system's journal has the names
    descriptor = os.open(dirname, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # file systems that cannot do this for folders
            raise
    finally:
        os.close(descriptor)
