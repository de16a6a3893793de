"""Saves at intervals of time."""

from __future__ import annotations

from typing import Any

from glowplug.distributed import SharedInterval

__all__ = ["Every"]


class Every:
    """Let an event through once in each interval of time, like the event's option ``every_seconds``.

    The first interval begins with the first event. With several ranks, the clock of rank 0 decides for all of them; the ranks
    exchange the decision only a few times per interval. A checkpoint handler can be attached at ``Every(minutes=10)`` itself.

    Args:
        minutes: Length of the interval in minutes; may be added to ``seconds`` and ``hours``.
        seconds: Seconds of the interval.
        hours: Hours of the interval.

    Raises:
        ValueError: If the interval is not positive.

    Example:
        >>> from glowplug import Events
        >>> Events.ITERATION_COMPLETED(event_filter=Every(minutes=10))
        Events.ITERATION_COMPLETED(event_filter=Every(seconds=600))
    """

    def __init__(self, *, minutes: float = 0.0, seconds: float = 0.0, hours: float = 0.0) -> None:
        self.seconds = hours * 3600 + minutes * 60 + seconds
        if not self.seconds > 0:
            raise ValueError(f"Every needs a positive interval such as minutes=10; got {self.seconds:g} s")
        self._interval = SharedInterval(self.seconds)

    def __call__(self, engine: Any, event: int) -> bool:
        """Return whether the interval has passed.

        Args:
            engine: Ignored.
            event: Ignored.
        """
        return self._interval.is_over(restart=True)

    @property
    def idle_calls(self) -> int:
        """Number of the next events at which the filter need not be called."""
        return self._interval.idle_calls

    def __repr__(self) -> str:
        return f"Every(seconds={self.seconds:g})"
