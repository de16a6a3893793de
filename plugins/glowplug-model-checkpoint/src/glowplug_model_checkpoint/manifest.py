"""Manifest: the description of a checkpoint, stored in the checkpoint's file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["FORMAT", "Entry", "Manifest"]

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """A record of the zip file with the digest of its content.

    Args:
        name: Name of the record.
        offset: Position of the content in the file, in bytes.
        size: Size of the content in bytes.
        digest: Digest of the content in hexadecimal digits.
    """

    name: str
    offset: int
    size: int
    digest: str

    @property
    def end(self) -> int:
        """Position after the content."""
        return self.offset + self.size

    def is_valid(self) -> bool:
        """Return whether the values, which may come from a damaged file, have the right types."""
        numbers: tuple[Any, ...] = (self.offset, self.size)
        texts: tuple[Any, ...] = (self.name, self.digest)
        return all(type(each) is int and each >= 0 for each in numbers) and all(
            type(each) is str for each in texts
        )


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint contains, as :class:`DiskSaver` stores it.

    Args:
        metadata: The metadata that was passed to ``save``, such as the step, the epoch and the scores.
        entries: The records of the file, in the order of their positions.

    Example:
        >>> manifest = Manifest({"step": 3}, (Entry("archive/data/0", 64, 8, "00ff"),))
        >>> Manifest.from_json(manifest.to_json()) == manifest
        True
    """

    metadata: Mapping[str, Any]
    entries: tuple[Entry, ...] = ()

    def to_json(self) -> bytes:
        """Return the manifest as JSON; values that JSON does not have become strings."""
        content = {
            "format": FORMAT,
            "metadata": dict(self.metadata),
            "entries": [asdict(each) for each in self.entries],
        }
        return json.dumps(content, default=str).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Return the manifest that :meth:`to_json` wrote.

        Raises:
            ValueError: If the text is no manifest, or if a newer version of this package wrote it.
        """
        try:
            content = json.loads(text)
            version = content["format"]
            entries = tuple(Entry(**each) for each in content["entries"])
            is_valid = isinstance(content["metadata"], dict) and all(each.is_valid() for each in entries)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"its manifest cannot be read ({error!r})") from error
        if not is_valid:
            raise ValueError("its manifest cannot be read")
        if version != FORMAT:
            raise ValueError(f"its manifest has the format {version!r}, but this version reads {FORMAT}")
        return cls(content["metadata"], entries)
