"""The phases of an event."""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """When, within one event, a handler runs; within a phase the order is that of registration.

    A plain function runs in ``USER``. A handler class says its own with a class attribute:

    Example:
        >>> class MyCheckpoint:
        ...     phase = Phase.CHECKPOINT
    """

    METRICS = 0
    USER = 1
    LOGGING = 2
    CHECKPOINT = 3
