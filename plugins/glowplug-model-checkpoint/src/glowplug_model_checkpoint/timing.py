"""Saves at intervals of time."""

from __future__ import annotations

import time
from typing import Any

from glowplug.distributed import broadcast, world_size

__all__ = ["Every"]


class Every:
    """Filter of an event that lets it through once in each interval of time.

    The first interval begins with the first event. With several ranks, the clock of rank 0 decides for all of them; the ranks
    exchange the decision only a few times per interval.

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
        self._began: float | None = None
        # Events since the interval began, and the number of events before the ranks compare their clocks again.
        self._events = 0
        self._skip = 0

    def __call__(self, engine: Any, event: int) -> bool:
        """Return whether the interval has passed.

        Args:
            engine: Ignored.
            event: Ignored.
        """
        now = time.monotonic()
        if self._began is None:
            self._began = now
        self._events += 1
        if self._skip:
            self._skip -= 1
            return False
        elapsed = now - self._began
        is_due = elapsed >= self.seconds
        if world_size() > 1:
            is_due, self._skip = broadcast((is_due, self._events_to_skip(elapsed)))
        if is_due:
            self._began, self._events, self._skip = now, 0, 0
        return is_due

    def _events_to_skip(self, elapsed: float) -> int:
        """Return half of the number of events that fit into the rest of the interval."""
        rest = self.seconds - elapsed
        return int(rest * self._events / elapsed / 2) if elapsed > 0 and rest > 0 else 0

    def __repr__(self) -> str:
        return f"Every(seconds={self.seconds:g})"
