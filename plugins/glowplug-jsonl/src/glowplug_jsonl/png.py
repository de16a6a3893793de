"""Encode PNG files without an image library."""

from __future__ import annotations

import struct
import zlib
from typing import Any

SIGNATURE = b"\x89PNG\r\n\x1a\n"

COLOR_TYPES = {1: 0, 3: 2, 4: 6}
"""Color types of PNG by number of channels: gray, RGB, and RGB with transparency."""


def png(pixels: Any) -> bytes:
    r"""Encode an image as PNG, and return the content of the file.

    Args:
        pixels: Array of bytes (``uint8``) of shape ``(height, width, channels)`` with 1, 3 or 4 channels.

    Raises:
        ValueError: If the image has no pixels.

    Example:
        >>> import numpy as np
        >>> png(np.zeros((2, 2, 3), np.uint8))[:4]
        b'\x89PNG'
    """
    height, width, channels = pixels.shape
    if not pixels.size:
        raise ValueError(f"an empty image of {height} x {width} pixels cannot be stored as a PNG file")
    # Each row begins with the number of its filter; 0 is none.
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, COLOR_TYPES[channels], 0, 0, 0)
    return b"".join(
        (SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
