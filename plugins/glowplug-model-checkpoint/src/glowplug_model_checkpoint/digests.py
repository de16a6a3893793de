"""Digests that detect damaged checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

import xxhash

__all__ = ["DEFAULT_DIGEST", "Digest", "Hasher", "check_digest", "digest_of_file", "hex_length", "new_hasher"]

_PIECE = 1 << 20

Digest: TypeAlias = str


class Hasher(Protocol):
    """Computes a digest piece by piece, as the classes of ``hashlib`` do."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes."""

    def digest(self) -> bytes:
        """Return the digest of all bytes so far."""

    def hexdigest(self) -> str:
        """Return the digest in hexadecimal digits."""


DEFAULT_DIGEST: Digest = "xxh3_128"
_HASHERS: dict[str, Callable[[], Hasher]] = {DEFAULT_DIGEST: xxhash.xxh3_128, "sha256": hashlib.sha256}


def check_digest(digest: object) -> Digest:
    """Return the name of a digest after checking it.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> check_digest("sha256")
        'sha256'
    """
    if not isinstance(digest, str) or digest not in _HASHERS:
        raise ValueError(f"digest must be one of {', '.join(map(repr, _HASHERS))}; got {digest!r}")
    return digest


def new_hasher(digest: Digest) -> Hasher:
    """Return a hasher for a digest that :func:`check_digest` accepts.

    Example:
        >>> hasher = new_hasher("sha256")
        >>> hasher.update(b"glowplug")
        >>> hasher.hexdigest()[:8]
        '5133200b'
    """
    return _HASHERS[digest]()


def hex_length(digest: Digest) -> int:
    """Return the number of hexadecimal digits of a digest.

    Example:
        >>> hex_length("xxh3_128"), hex_length("sha256")
        (32, 64)
    """
    return len(new_hasher(digest).hexdigest())


def digest_of_file(path: Path, digest: Digest) -> str:
    """Return the digest of a file in hexadecimal digits.

    Raises:
        FileNotFoundError: If the file does not exist.

    Example:
        >>> digest_of_file(Path(__file__), "sha256") == hashlib.sha256(
        ...     Path(__file__).read_bytes()
        ... ).hexdigest()
        True
    """
    hasher = new_hasher(digest)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            hasher.update(piece)
    return hasher.hexdigest()
