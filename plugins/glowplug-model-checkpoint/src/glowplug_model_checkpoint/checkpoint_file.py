"""Checkpoint file: what ``torch.save`` writes, with a manifest and a digest that covers every byte.

The file is a zip file that plain ``torch.load(weights_only=True)`` loads. After the records of torch it has one more record,
``<archive>/glowplug.json``, with the :class:`Manifest`. The comment of the zip file ends with a digest of all bytes before it,
in which the content of each record of the manifest is replaced by the digest of this content. Thus one pass over the file
computes both the digests of the records and the digest of the file, and a damaged record can be named.

torch also computes a CRC-32 of each record, which takes half of the time of a save. No load checks it, so it is switched off.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import UnsupportedOperation
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import torch

from glowplug.exceptions import GlowplugWarning
from glowplug_model_checkpoint.digests import DEFAULT_DIGEST, Digest, new_hasher
from glowplug_model_checkpoint.linux import start_writing
from glowplug_model_checkpoint.manifest import Entry, Manifest
from glowplug_model_checkpoint.sealing import (
    DamagedCheckpointError,
    Seal,
    add_part,
    blank,
    check_seal,
    sealed,
)

__all__ = ["Loaded", "load", "load_from_file", "read_manifest", "verify", "warn_unverified", "write"]

_RECORD = "glowplug.json"
_COMMENT = re.compile(rb"glowplug 1 (?P<digest>xxh3_128|sha256) (?P<hex>[0-9a-f]+)\Z")
_LONGEST_COMMENT = 100
# Bytes after which the system begins to write to the disk.
_WRITEBACK_SIZE = 32 << 20
# The fixed part of the header before the content of a record, and where it holds the lengths of its two variable parts.
_HEADER_SIZE, _NAME_LENGTH, _EXTRA_LENGTH = 30, slice(26, 28), slice(28, 30)


class Loaded(NamedTuple):
    """A loaded checkpoint with its metadata, which are ``None`` if the file has no manifest."""

    content: Any
    metadata: Mapping[str, Any] | None


def write(
    content: Any,
    file: BinaryIO,
    metadata: Mapping[str, Any],
    digest: Digest = DEFAULT_DIGEST,
    torch_options: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint to a file that is open for reading and writing.

    Args:
        content: What ``torch.save`` gets.
        file: An empty file.
        metadata: Description of the checkpoint for the manifest.
        digest: Kind of the digest.
        torch_options: Arguments of ``torch.save``. A file in torch's older format gets no manifest.

    Raises:
        OSError: If the file cannot be written.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> write({"weight": torch.ones(2)}, file, {"step": 3})
        >>> verify(file).metadata
        {'step': 3}
        >>> _ = file.seek(0)
        >>> torch.load(file, weights_only=True)
        {'weight': tensor([1., 1.])}
    """
    digesting = _DigestingFile(file, digest)
    try:
        with _without_crc32():
            torch.save(content, cast("BinaryIO", digesting), **(torch_options or {}))
    except RuntimeError as error:
        # If a write fails, torch.save raises a RuntimeError whose context is the original OSError.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    file.flush()
    if zipfile.is_zipfile(file):
        _seal(file, metadata, digest, digesting.digests)


def verify(file: BinaryIO) -> Manifest | None:
    """Read a whole file and compare it with its digest.

    Args:
        file: A file that is open for reading.

    Returns:
        The manifest, or ``None`` if the file has none, as files of plain ``torch.save``.

    Raises:
        DamagedCheckpointError: If a bit of the file was changed, or if a part is missing.
    """
    seal = _read_seal(file)
    manifest = _manifest(file, seal)
    if manifest is None or seal is None:
        return None
    check_seal(file, manifest.entries, seal)
    return manifest


def load(path: str | Path) -> Loaded:
    """Verify a checkpoint file and load it to the CPU without running code from the file.

    The file is opened once, so it may be removed or replaced meanwhile.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If the file does not exist.
        DamagedCheckpointError: If the file does not match its digest.
        RuntimeError: If ``weights_only`` loading is known to be unsafe in the installed version of torch.
        pickle.UnpicklingError: If the file contains anything other than tensors and plain values.
    """
    with Path(path).open("rb") as file:
        return load_from_file(file, path)


def load_from_file(file: BinaryIO, location: object) -> Loaded:
    """Verify and load a checkpoint file that is open for reading, as :func:`load` does.

    Args:
        file: The file.
        location: Path or address of the file in warnings.

    Raises:
        DamagedCheckpointError: If the file does not match its digest.
        RuntimeError: If ``weights_only`` loading is known to be unsafe in the installed version of torch.
        pickle.UnpicklingError: If the file contains anything other than tensors and plain values.
    """
    if torch.__version__ < "2.10":
        raise RuntimeError(f"loading checkpoints safely requires torch>=2.10; found {torch.__version__}")
    manifest = verify(file)
    if manifest is None:
        warn_unverified(location)
    file.seek(0)
    content = torch.load(file, map_location="cpu", weights_only=True)
    return Loaded(content, None if manifest is None else manifest.metadata)


def warn_unverified(location: object) -> None:
    """Warn that damage of a file without a manifest cannot be detected."""
    warnings.warn(
        f"checkpoint {str(location)!r} has no manifest, so damage cannot be detected; glowplug's ModelCheckpoint adds a "
        "manifest to each checkpoint that it saves",
        GlowplugWarning,
        stacklevel=4,
    )


def read_manifest(file: BinaryIO) -> Manifest | None:
    """Read the manifest only, without comparing the digest of the file.

    Args:
        file: A file that is open for reading.

    Returns:
        The manifest, or ``None`` if the file has none.

    Raises:
        DamagedCheckpointError: If the end of the file or the manifest is damaged.
    """
    return _manifest(file, _read_seal(file))


class _DigestingFile:
    """The file to which torch writes; it computes a digest of each write."""

    def __init__(self, file: BinaryIO, digest: Digest) -> None:
        self._file = file
        self._digest = digest
        self._position = self._on_disk = 0
        # By position in the file and size.
        self.digests: dict[tuple[int, int], bytes] = {}

    def write(self, data: memoryview) -> int:
        """Write bytes and note their digest."""
        hasher = new_hasher(self._digest)
        hasher.update(data)
        size = len(data)
        self.digests[self._position, size] = hasher.digest()
        self._file.write(data)
        self._position += size
        if self._position - self._on_disk >= _WRITEBACK_SIZE:
            self._start_writing()
        return size

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    def _start_writing(self) -> None:
        self._file.flush()
        # A file in memory has no descriptor.
        with suppress(UnsupportedOperation):
            start_writing(self._file, self._on_disk, self._position)
        self._on_disk = self._position


_CRC32_LOCK = threading.Lock()


@contextmanager
def _without_crc32() -> Iterator[None]:
    """Switch off torch's CRC-32 and restore the user's setting; the setting is global, so one save runs at a time."""
    with _CRC32_LOCK:
        former = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(False)
        try:
            yield
        finally:
            torch.serialization.set_crc32_options(former)


def _seal(
    file: BinaryIO, metadata: Mapping[str, Any], digest: Digest, known: Mapping[tuple[int, int], bytes]
) -> None:
    """Add the manifest and the digest to a file that torch wrote."""
    digits = blank(digest)
    with zipfile.ZipFile(file, "a") as archive:
        entries, raw = [], []
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            offset = _content_offset(file, info.header_offset)
            value = known.get((offset, info.file_size))
            if value is None:
                hasher = new_hasher(digest)
                add_part(file, offset, offset + info.file_size, hasher)
                value = hasher.digest()
            raw.append(value)
            entries.append(Entry(info.filename, offset, info.file_size, value.hex()))
        root = entries[0].name.partition("/")[0]
        archive.writestr(zipfile.ZipInfo(f"{root}/{_RECORD}"), Manifest(metadata, tuple(entries)).to_json())
        archive.comment = f"glowplug 1 {digest} {digits}".encode()
    seal = Seal(digest, digits, file.seek(0, os.SEEK_END) - len(digits))
    value_of_file = sealed(file, zip(entries, raw, strict=True), seal)
    file.seek(seal.position)
    file.write(value_of_file.encode())
    file.flush()


def _content_offset(file: BinaryIO, header_offset: int) -> int:
    """Return where the content of a record begins, after a header of variable length."""
    file.seek(header_offset)
    header = file.read(_HEADER_SIZE)
    lengths = (int.from_bytes(header[part], "little") for part in (_NAME_LENGTH, _EXTRA_LENGTH))
    return header_offset + _HEADER_SIZE + sum(lengths)


def _read_seal(file: BinaryIO) -> Seal | None:
    size = file.seek(0, os.SEEK_END)
    if not size:
        raise DamagedCheckpointError("the file is empty")
    file.seek(max(0, size - _LONGEST_COMMENT))
    found = _COMMENT.search(file.read())
    if found is None:
        return None
    digest, value = found["digest"].decode(), found["hex"].decode()
    return Seal(digest, value, size - len(value))


def _manifest(file: BinaryIO, seal: Seal | None) -> Manifest | None:
    """Read the manifest; a file with only one of the two, manifest and digest, is damaged."""
    file.seek(0)
    # torch's older format is a pickle, which has no manifest.
    if seal is None and file.read(1) == b"\x80":
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/{_RECORD}")]
            text = archive.read(names[0]) if names else None
    except (FileNotFoundError, PermissionError, ConnectionError, TimeoutError):
        # Of a file that is not on this machine.
        raise
    except Exception as error:
        # A damaged zip file causes errors of many types.
        raise DamagedCheckpointError(f"the file is incomplete or damaged ({error})") from error
    if text is None and seal is None:
        return None
    if text is None or seal is None:
        raise DamagedCheckpointError(f"its {'manifest' if text is None else 'digest'} is missing")
    try:
        return Manifest.from_json(text)
    except ValueError as error:
        raise DamagedCheckpointError(str(error)) from error
