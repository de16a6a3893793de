"""Base class of loggers that append lines to a local file."""

from __future__ import annotations

import errno
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from glowplug.loggers import Logger, LoggerOptions
from glowplug_jsonl.line_file import LineFile

if TYPE_CHECKING:
    from typing_extensions import Unpack

FINAL = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP})
"""Errors that affect one record only. Any other error, such as a full disk, affects the whole file, so the records wait."""


class FileLogger(Logger):
    """Logger that appends lines to a local file.

    Args:
        path: Path of the file. By default, a logger whose state is loaded continues the file of that state, and any other logger
            creates a file in the folder ``runs``.
        **options: Keyword arguments of :class:`~glowplug.loggers.Logger`, such as ``timeout``.

    Raises:
        ValueError: If ``all_ranks`` is ``True`` and no path is given.
    """

    # The file is on disk already.
    uses_spool = False

    SUFFIX: ClassVar[str] = ""
    HEADER: ClassVar[str] = ""

    def __init__(self, path: str | os.PathLike[str] | None = None, **options: Unpack[LoggerOptions]) -> None:
        super().__init__(**options)
        if self.all_ranks and path is None:
            raise ValueError(
                f"{type(self).__name__}: all_ranks=True needs path=, because each rank would choose a different random file name"
            )
        self._is_chosen = path is not None
        # An absolute path stays valid after os.chdir().
        self.path = Path(os.path.abspath(self._new_path() if path is None else path))  # noqa: PTH100 - keeps symbolic links
        self._file: LineFile | None = None

    def _new_path(self) -> str:
        name = f"{time.strftime('%Y%m%d-%H%M%S')}_{socket.gethostname()}_{uuid.uuid4().hex[:4]}"
        return f"runs/{name}{self.SUFFIX}"

    @property
    def file_path(self) -> Path:
        """The file that this rank writes, which is ``path`` on rank 0, and for example ``run.rank1.jsonl`` beside it on rank 1."""
        if self.rank == 0:
            return self.path
        return self.path.with_name(f"{self.path.stem}.rank{self.rank}{self.path.suffix}")

    def run_info(self) -> Mapping[str, str]:
        """Return the path of the file, or an empty mapping if no path was given and the logger has not opened a file yet."""
        return {"path": str(self.path)} if self._is_chosen else {}

    def continue_run(self, info: Mapping[str, str]) -> None:
        """Continue the file of an earlier process, unless a path was given or the logger has already opened a file."""
        if not self._is_chosen:
            self.path = Path(info["path"])
            self._is_chosen = True

    def open_backend(self) -> None:
        """Open the file, and remove an incomplete last line that a killed process may have left."""
        self._close()
        self._file = LineFile(self.file_path, self.HEADER, self.is_whole)
        self._is_chosen = True

    def is_whole(self, tail: bytes) -> bool:
        """Return whether ``tail``, the text after the last line break of the file, is a complete line."""
        return False

    @contextmanager
    def _writing(self) -> Iterator[LineFile]:
        """Yield the file; raise an error that affects the whole file as ``ConnectionError``, so that the records wait."""
        if self._file is None:
            raise ConnectionError(f"{self.path} is not open")
        try:
            yield self._file
        except OSError as error:
            if error.errno in FINAL:
                raise
            raise ConnectionError(f"{self.path} cannot be written: {error}") from error

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_file": None}
