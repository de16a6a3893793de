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
    """Metrics are computed and written to ``engine.state.metrics``."""
    USER = 1
    """Functions and most other handlers run; they can read and change the metrics."""
    LOGGING = 2
    """Loggers and progress bars read the metrics."""
    CHECKPOINT = 3
    """Checkpoints save the result of all other handlers."""
