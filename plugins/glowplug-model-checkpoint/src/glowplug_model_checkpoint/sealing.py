"""Seal of a file: one digest of all its bytes, in which the content of each entry is replaced by the digest of this content.

Thus one pass over the file computes both the digests of the entries and that of the file, and a damaged entry can be named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from glowplug_model_checkpoint.digests import Digest, Hasher, hex_length, new_hasher
from glowplug_model_checkpoint.manifest import Entry

__all__ = ["DamagedCheckpointError", "Seal", "add_part", "blank", "check_seal", "sealed"]

_PIECE = 1 << 20


class DamagedCheckpointError(ValueError):
    """A checkpoint is damaged, so it is not loaded.

    Example:
        >>> import io
        >>> from glowplug_model_checkpoint.checkpoint_file import verify
        >>> try:
        ...     verify(io.BytesIO(b""))
        ... except DamagedCheckpointError as error:
        ...     print(error)
        the file is empty
    """


class Seal(NamedTuple):
    """The digest of a file: its kind, its hexadecimal digits, and where the digits begin."""

    digest: Digest
    value: str
    position: int

    @property
    def end(self) -> int:
        """Position after the digits."""
        return self.position + len(self.value)


class _Part(NamedTuple):
    """A part of a file that the digest of the file does not read, but replaces."""

    begin: int
    end: int
    replacement: bytes


def blank(digest: Digest) -> str:
    """Return the digits that a seal has while it is computed.

    Example:
        >>> len(blank("sha256"))
        64
    """
    return "0" * hex_length(digest)


def sealed(file: BinaryIO, entries: Iterable[tuple[Entry, bytes]], seal: Seal) -> str:
    """Return the digits of the seal of a file.

    Args:
        file: The file, with any digits in the place of those of the seal.
        entries: The entries in the order of their positions, each with the digest of its content.
        seal: Kind and place of the seal.

    Raises:
        DamagedCheckpointError: If the entries do not fit the file.
    """
    size = file.seek(0, os.SEEK_END)
    parts = [_Part(entry.offset, entry.end, value) for entry, value in entries]
    parts.append(_Part(seal.position, seal.end, b""))
    hasher, position = new_hasher(seal.digest), 0
    # Stable, so an empty entry comes before one that begins at the same position.
    for part in sorted(parts, key=lambda part: (part.begin, part.end)):
        if part.begin < position or part.end > size:
            raise DamagedCheckpointError("its manifest does not fit the file")
        add_part(file, position, part.begin, hasher)
        hasher.update(part.replacement)
        position = part.end
    add_part(file, position, size, hasher)
    return hasher.hexdigest()


def check_seal(file: BinaryIO, entries: Iterable[Entry], seal: Seal) -> None:
    """Read a whole file and compare it with its seal.

    Raises:
        DamagedCheckpointError: If a bit of the file was changed, or if a part is missing.
    """
    damaged: list[str] = []

    def digested() -> Iterator[tuple[Entry, bytes]]:
        for entry in entries:
            hasher = new_hasher(seal.digest)
            add_part(file, entry.offset, entry.end, hasher)
            if hasher.hexdigest() != entry.digest:
                damaged.append(entry.name)
            yield entry, hasher.digest()

    if sealed(file, digested(), seal) != seal.value:
        where = ", ".join(map(repr, damaged)) or "a header"
        raise DamagedCheckpointError(f"its {seal.digest} digest does not match; damaged: {where}")


def add_part(file: BinaryIO, begin: int, end: int, hasher: Hasher) -> None:
    """Add a part of a file to a digest.

    Raises:
        DamagedCheckpointError: If the file ends before the part does.
    """
    file.seek(begin)
    while begin < end:
        piece = file.read(min(_PIECE, end - begin))
        if not piece:
            raise DamagedCheckpointError("the end of the file is missing")
        hasher.update(piece)
        begin += len(piece)
