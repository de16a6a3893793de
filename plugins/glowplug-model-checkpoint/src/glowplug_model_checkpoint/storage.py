"""Storage: where a save handler keeps its files, and the storage that is a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from glowplug_model_checkpoint.publishing import create, is_temporary, publish, sweep, sync_directory

__all__ = ["Folder", "Storage"]


class Storage(Protocol):
    """A place with files, each of which appears under its name only when it is complete."""

    def check(self) -> None:
        """Check that what the storage needs is installed, without accessing the storage.

        Raises:
            ImportError: If something is missing; the error says what to install.
        """

    def prepare(self) -> None:
        """Create the place if it does not exist, and remove temporary files of processes that were killed."""

    def store(
        self,
        filename: str,
        write: Callable[[BinaryIO], object],
        check: Callable[[BinaryIO], object] | None = None,
    ) -> None:
        """Publish a file durably; an existing file with this name is replaced.

        Args:
            filename: File name without a path.
            write: Writes the content to an empty file that is open for writing and reading.
            check: Reads the stored file again, and raises if it is not what was written.

        Raises:
            OSError: If the file cannot be written. A failed write leaves the other files unchanged.
        """

    def open(self, filename: str) -> BinaryIO:
        """Open a file for reading; the file may be replaced or removed meanwhile.

        Raises:
            FileNotFoundError: If the file does not exist.
        """

    def open_parts(self, filename: str) -> BinaryIO:
        """Open a file of which only small parts are read.

        Raises:
            FileNotFoundError: If the file does not exist.
        """

    def list(self) -> Sequence[str]:
        """Return the names of all complete files, oldest first."""

    def remove(self, filename: str) -> None:
        """Remove a file; do nothing if it does not exist."""

    def locate(self, filename: str) -> Path | str:
        """Return the path or address of a file, without secrets."""


class Folder:
    """A folder of a local file system.

    Args:
        dirname: Path of the folder.
        atomic: Write to a temporary file, then rename it; otherwise write directly to the final file.
        address: Address of the folder, such as ``"file:///runs/1"``, if it was not given as a path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as dirname:
        ...     folder = Folder(Path(dirname))
        ...     folder.store("a.txt", lambda file: file.write(b"content"))
        ...     with folder.open("a.txt") as file:
        ...         print(folder.list(), file.read())
        ['a.txt'] b'content'
    """

    def __init__(self, dirname: Path, atomic: bool = True, address: str | None = None) -> None:
        self.dirname = dirname
        self.atomic = atomic
        self._address = address

    def check(self) -> None:
        """Do nothing: a folder needs only the standard library."""

    def prepare(self) -> None:
        """Create the folder, and remove temporary files of processes that were killed."""
        self.dirname.mkdir(parents=True, exist_ok=True)
        sweep(self.dirname)

    def store(
        self,
        filename: str,
        write: Callable[[BinaryIO], object],
        check: Callable[[BinaryIO], object] | None = None,
    ) -> None:
        """Write a file and sync it to disk, rename it, and sync the folder."""
        path = self.path(filename)
        leftovers = [] if path.exists() else [path]
        file = create(self.dirname) if self.atomic else path.open("w+b")
        try:
            with file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
                if check is not None:
                    check(file)
                if self.atomic:
                    publish(file, path)
            sync_directory(self.dirname)
        except BaseException as error:
            for leftover in (Path(file.name), *leftovers):
                with suppress(OSError):
                    leftover.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)
            raise

    def open(self, filename: str) -> BinaryIO:
        """Open a file for reading."""
        return self.path(filename).open("rb")

    def open_parts(self, filename: str) -> BinaryIO:
        """Open a file for reading."""
        return self.open(filename)

    def list(self) -> Sequence[str]:
        """Return the names of all files except temporary files, oldest first."""
        written = []
        with suppress(FileNotFoundError):
            for path in self.dirname.iterdir():
                # Another process may remove a file at any time.
                with suppress(FileNotFoundError):
                    if path.is_file() and not is_temporary(path.name):
                        written.append((path.stat().st_mtime_ns, path.name))
        return [name for _, name in sorted(written)]

    def remove(self, filename: str) -> None:
        """Remove a file; do nothing if it does not exist."""
        self.path(filename).unlink(missing_ok=True)

    def path(self, filename: str) -> Path:
        """Return the path of a file."""
        return self.dirname / filename

    def locate(self, filename: str) -> Path | str:
        """Return the path or, if the folder has an address, the address of a file."""
        return self.path(filename) if self._address is None else f"{self._address}/{filename}"
