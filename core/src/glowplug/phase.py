"""Phases: the order of handlers within an event."""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """Order of the handlers of an event.

    The handlers of an event run phase by phase, and in registration order within a phase. A function runs in the phase
    ``USER``; a handler class sets its phase with the class attribute ``phase``.

    Example:
        >>> class MyCheckpoint:
        ...     phase = Phase.CHECKPOINT
    """

    METRICS = 0
    USER = 1
    LOGGING = 2
    CHECKPOINT = 3
