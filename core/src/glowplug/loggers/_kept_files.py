"""Copies of logged files and links to them, which are needed until the files are uploaded."""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from glowplug.loggers._record import Record

log = logging.getLogger("glowplug.loggers")

SMALL = 8 << 20
"""Files up to this number of bytes are copied; a hard link would change if the program writes the file again."""

SUFFIX = ".kept"
BESIDE = ".glowplug"
"""Name of the folder next to a large file that has a link to the file, if the file cannot be linked elsewhere."""


def keep(path: str, folder: Path) -> str:
    """Copy or link a file or folder without changing its name, and return the new path.

    If the disk of the copies is full or cannot be written, the log says so, and the result is the path of the file itself.

    Args:
        path: The file or folder.
        folder: Folder for the copies and links. If a large file is on another disk than this folder, the file is linked in a
            folder ``.glowplug`` next to it instead.

    Raises:
        OSError: If the file or folder cannot be read.
    """
    # An absolute path stays valid after os.chdir(), and has a name even if it is given as "." or "..".
    source = Path(os.path.abspath(path))  # noqa: PTH100 - keeps the name of a symbolic link
    try:
        return _kept(source, folder)
    except OSError as error:
        _require_readable(source)
        log.warning(
            "%s could not be copied to %s: %s. The file itself will be uploaded, so do not change or delete it until then",
            source,
            folder,
            error,
        )
        return str(source)


def _kept(source: Path, folder: Path) -> str:
    target = _new_folder(folder) / source.name
    try:
        if source.is_dir():
            shutil.copytree(source, target, copy_function=_copy, ignore=shutil.ignore_patterns(BESIDE))
        elif source.stat().st_size > SMALL:
            return str(_link(source, target))
        else:
            shutil.copy2(source, target)
    except BaseException:
        release(str(target))
        raise
    return str(target)


def _require_readable(source: Path) -> None:
    if source.is_dir():
        next(source.iterdir(), None)
    else:
        source.open("rb").close()


def release(path: str) -> None:
    """Delete a copy or link that :func:`keep` created; leave any other path unchanged."""
    parent = Path(path).parent
    if parent.suffix == SUFFIX:
        shutil.rmtree(parent, ignore_errors=True)
        # The folder of all kept files, if this was the last one.
        with suppress(OSError):
            parent.parent.rmdir()


def release_files(records: Iterable[Record]) -> None:
    """Delete the kept files of records that were delivered or dropped."""
    for record in records:
        if record.kind == "artifact":
            release(record.payload)


def size_of(path: str) -> int:
    """Return the size of a file, or of all files in a folder, in bytes; return 0 if the path does not exist."""
    with suppress(OSError):
        source = Path(path)
        files = source.rglob("*") if source.is_dir() else (source,)
        return sum(file.stat().st_size for file in files if file.is_file())
    return 0


def _new_folder(parent: Path) -> Path:
    folder = parent / f"{uuid.uuid4().hex}{SUFFIX}"
    folder.mkdir(parents=True)
    return folder


def _link(source: Path, target: Path) -> Path:
    """Hard-link a large file; copy it only if linking fails."""
    # A link to a symbolic link would follow it to wherever it points later.
    file = source.resolve()
    with suppress(OSError):
        os.link(file, target)
        return target
    with suppress(OSError):
        beside = _new_folder(file.parent / BESIDE)
        try:
            os.link(file, beside / source.name)
        except OSError:
            release(str(beside / source.name))
            raise
        release(str(target))
        return beside / source.name
    shutil.copy2(source, target)
    return target


def _copy(source: str, target: str) -> None:
    if Path(source).stat().st_size > SMALL:
        with suppress(OSError):
            os.link(Path(source).resolve(), target)
            return
    shutil.copy2(source, target)
