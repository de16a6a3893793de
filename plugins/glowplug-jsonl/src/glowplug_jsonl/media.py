"""Files that a logger stores beside its own file: images, figures and artifacts."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import quote

LONGEST = 120
"""Maximum number of characters of a name that a file name contains; file systems allow 255 bytes for the whole file name."""


class MediaFolder:
    """Folder in which a logger stores images, figures and artifacts.

    Args:
        path: Path of the folder, which is created when the first file is stored.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     media = MediaFolder(Path(folder) / "run.jsonl.files")
        ...     media.add("images", "val/samples", 20, ".png", b"...")
        'run.jsonl.files/images/val%2Fsamples-20.png'
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, folder: str, name: str, step: int, suffix: str, content: bytes) -> str:
        """Store content in a file, and return the path of the file, relative to the parent of the media folder.

        An existing file with the same name, step and content is reused. If only the content differs, the name of the new file
        gets a number.

        Args:
            folder: Subfolder of the media folder, such as ``"images"``.
            name: Name of the record. Characters that a file name cannot contain are escaped.
            step: Epoch or iteration.
            suffix: Suffix of the file name, such as ``".png"``.
            content: Content of the file.

        Raises:
            OSError: If the file cannot be written.
        """
        for number in itertools.count(1):
            again = f"-{number}" if number > 1 else ""
            target = self.path / folder / f"{_file_name(name)}-{step}{again}{suffix}"
            if not target.exists():
                _replace(target, lambda new: new.write_bytes(content))
            elif target.read_bytes() != content:
                continue
            return self._relative(target)
        raise AssertionError

    def copy(self, source: Path, folder: str | None) -> str:
        """Copy a file or folder, and return the path of the copy, relative to the parent of the media folder.

        Files that an earlier call copied to the same place are replaced.

        Args:
            source: The file or folder.
            folder: Subfolder of ``artifacts``; ``None`` copies into ``artifacts`` itself.

        Raises:
            FileNotFoundError: If the source does not exist.
            ValueError: If ``folder`` is an absolute path or contains ``..``.
            OSError: If the copy cannot be written.
        """
        parts = PurePosixPath((folder or "").replace("\\", "/")).parts
        if ".." in parts or parts[:1] == ("/",):
            raise ValueError(f"the artifact folder must be a relative path without '..', got {folder!r}")
        target = self.path.joinpath("artifacts", *parts, source.name)
        _copy(source, target)
        return self._relative(target)

    def _relative(self, target: Path) -> str:
        return target.relative_to(self.path.parent).as_posix()


def _copy(source: Path, target: Path) -> None:
    """Copy a file or folder; replace existing files, because read-only files cannot be overwritten.

    Unlike ``shutil.copytree``, this function raises the first ``OSError`` as it is, so that a full disk can be recognized.
    """
    if not source.is_dir():
        _replace(target, lambda new: shutil.copy2(source, new))
        return
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        _copy(entry, target / entry.name)


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name and then rename it, so that the target is never incomplete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.parent / f".{uuid.uuid4().hex}.part"
    try:
        write(new)
        new.replace(target)
    finally:
        with suppress(OSError):
            new.unlink()


def _file_name(name: str) -> str:
    """Return a valid file name for any name; different names get different file names."""
    escaped = quote(name, safe=" ", errors="surrogatepass")
    if len(escaped) <= LONGEST:
        return escaped
    digest = hashlib.sha256(escaped.encode()).hexdigest()[:16]
    return f"{escaped[:LONGEST]}-{digest}"
