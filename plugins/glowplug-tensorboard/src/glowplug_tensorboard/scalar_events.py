"""Fast serialization of TensorBoard events that contain scalars.

Filling a protocol buffer object takes longer than writing the event to a file. This module therefore builds the bytes of scalar
events itself; events of other kinds are rare. The bytes that precede a number depend only on the name of the scalar, so the
module caches them.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Mapping

# Field numbers and wire types of Event (wall_time, step, summary), Summary (value) and Summary.Value (tag, simple_value).
_WALL_TIME, _STEP, _SUMMARY, _VALUE, _TAG, _SIMPLE_VALUE = (
    b"\x09",
    b"\x10",
    b"\x2a",
    b"\x0a",
    b"\x0a",
    b"\x15",
)
_pack_double, _pack_float = struct.Struct("<d").pack, struct.Struct("<f").pack


def scalar_event(scalars: Mapping[str, float], step: int, timestamp: float) -> bytes:
    """Return a serialized ``Event`` with one value for each scalar.

    Args:
        scalars: Mapping of tags to numbers.
        step: The step.
        timestamp: Unix time in seconds.

    Example:
        >>> from tensorboard.compat.proto.event_pb2 import Event
        >>> event = Event.FromString(scalar_event({"loss": 0.5}, 7, 1.25))
        >>> event.step, event.wall_time, event.summary.value[0].tag, event.summary.value[0].simple_value
        (7, 1.25, 'loss', 0.5)
    """
    values = b"".join([_before_number(name) + _float(value) for name, value in scalars.items()])
    return b"".join(
        (_WALL_TIME, _pack_double(timestamp), _STEP, _varint(step), _SUMMARY, _varint(len(values)), values)
    )


@functools.lru_cache(maxsize=4096)
def _before_number(name: str) -> bytes:
    """Return the bytes of a serialized scalar that precede its number."""
    # TensorBoard cannot read an event that contains a surrogate, such as an undecodable byte of a file name.
    tag = name.encode("utf-8", "backslashreplace")
    field = _TAG + _varint(len(tag)) + tag + _SIMPLE_VALUE
    return _VALUE + _varint(len(field) + 4) + field


def _float(value: float) -> bytes:
    try:
        return _pack_float(value)
    except OverflowError:
        return _pack_float(math.copysign(math.inf, value))


def _varint(number: int) -> bytes:
    # Negative numbers are written as unsigned numbers of 64 bits.
    number &= 0xFFFFFFFFFFFFFFFF
    groups = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits in each byte
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
