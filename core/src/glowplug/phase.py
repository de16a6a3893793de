"""Phases: the order of handlers within an event."""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """Order of the handlers of an event.

    Handlers of an event run phase by phase, and within a phase in the order of registration. A function runs in the phase
    ``USER``; a handler class sets its phase with a class attribute.

    Example:
        >>> class MyCheckpoint:
        ...     phase = Phase.CHECKPOINT
    """

    METRICS = 0
    USER = 1
    LOGGING = 2
    CHECKPOINT = 3
