"""Phases: the order of handlers within an event."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Phase"]


class Phase(IntEnum):
    """Phases of an event, in the order in which their handlers run.

    An event's handlers run phase by phase. Within a phase, handlers run in the order of registration. A handler that is a
    plain function runs in the phase ``USER``. A handler class sets its phase with the class attribute ``phase``.

    Example:
        >>> class MyCheckpoint:
        ...     phase = Phase.CHECKPOINT
    """

    METRICS = 0
    USER = 1
    LOGGING = 2
    CHECKPOINT = 3
