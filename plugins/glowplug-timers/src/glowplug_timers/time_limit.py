"""The handler that stops a run after a time limit."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from numbers import Real
from typing import Any

from glowplug import EventEnum, Events, RemovableEventHandle
from glowplug.distributed import SharedInterval, rank
from glowplug.typing import AnyEvent, EngineProtocol

_log = logging.getLogger("glowplug_timers")

DEFAULT_LIMIT = 28800.0
"""Eight hours, in seconds."""


class TimeLimit:
    """Terminate a run when a time limit is exceeded.

    The clock starts when the handler is created, so that the time to load the data counts too. Under ``torch.distributed``, the
    clock of rank 0 decides for all ranks, which stop at the same iteration; attach the handler on all ranks.

    Args:
        limit_sec: The limit in seconds. If no limit is given, the limit is 8 hours.
        minutes: Minutes of the limit; may be combined with ``limit_sec`` and ``hours``.
        hours: Hours of the limit.
        count_earlier_runs: Whether a loaded state reduces the limit by the time that the earlier runs took. Defaults to
            ``False``: each process has the whole limit, for example because a cluster limits each job.
        state_key: Key of the handler's state in the engine's ``state_dict()``. Defaults to the class name.

    Attributes:
        limit_sec: The limit in seconds. A new value takes effect at the next check.
        start_time: When the clock started, in seconds of :func:`time.monotonic`.
        earlier_sec: Seconds that earlier runs took, according to a loaded state.

    Raises:
        TypeError: If a part of the limit is not a number.
        ValueError: If the limit is not positive or not finite.

    Example:
        >>> from glowplug import Engine
        >>> trainer = Engine(lambda engine, batch: time.sleep(0.01))
        >>> handle = TimeLimit(0.05).attach(trainer)
        >>> trainer.run(range(1000)).outcome
        <RunOutcome.TERMINATED: 'terminated'>
    """

    def __init__(
        self,
        limit_sec: float | None = None,
        *,
        minutes: float | None = None,
        hours: float | None = None,
        count_earlier_runs: bool = False,
        state_key: str = "TimeLimit",
    ) -> None:
        parts = {"limit_sec": (limit_sec, 1), "minutes": (minutes, 60), "hours": (hours, 3600)}
        given = [_seconds(name, value, unit) for name, (value, unit) in parts.items() if value is not None]
        self.limit_sec = sum(given) if given else DEFAULT_LIMIT
        if not 0 < self.limit_sec < math.inf:
            raise ValueError(
                f"TimeLimit: the limit must be positive and finite, got {self.limit_sec:g} seconds"
            )
        self.count_earlier_runs = count_earlier_runs
        self.state_key = state_key
        self.earlier_sec = 0.0
        self.start_time = time.monotonic()
        # Seconds from the start of the clock to the last check. The state contains this time, not the current one.
        self._checked_sec = 0.0
        self._interval = SharedInterval(self.limit_sec, self.start_time)

    def attach(
        self, engine: EngineProtocol, event_name: AnyEvent = Events.ITERATION_COMPLETED
    ) -> RemovableEventHandle:
        """Check the time at an event.

        Args:
            engine: The engine to stop.
            event_name: Event at which the time is checked.

        Returns:
            A handle that detaches the handler.
        """
        if isinstance(event_name, EventEnum):
            event_name = event_name(event_filter=_IsExceeded(self))
        with ExitStack() as undo:
            undo.enter_context(engine.register_state(self.state_key, self))
            undo.enter_context(engine.add_event_handler(event_name, self))
            return RemovableEventHandle(undo.pop_all().close)

    def __call__(self, engine: EngineProtocol) -> None:
        """Terminate the run if the limit is exceeded.

        Args:
            engine: The engine to stop.
        """
        if self.is_exceeded():
            if rank() == 0:
                _log.info(
                    "iteration %d: the time limit of %g seconds is exceeded; the run is terminated",
                    engine.state.iteration,
                    self.limit_sec,
                )
            engine.terminate()

    def is_exceeded(self) -> bool:
        """Return whether the limit is exceeded; with several ranks, call this method on all of them, at the same events."""
        self._checked_sec = time.monotonic() - self.start_time
        self._interval.seconds = self.limit_sec
        return self._interval.is_over()

    @property
    def idle_calls(self) -> int:
        """Number of the next events at which the time need not be checked; see ``glowplug.distributed.SharedInterval``."""
        return self._interval.idle_calls

    def state_dict(self) -> dict[str, Any]:
        """Return the time that the runs took up to the last check.

        Example:
            >>> list(TimeLimit(hours=2).state_dict())
            ['elapsed_sec']
        """
        return {"elapsed_sec": self.earlier_sec + self._checked_sec}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the time that earlier runs took; with ``count_earlier_runs``, this time counts.

        Args:
            state_dict: Result of :meth:`state_dict`.
        """
        self.earlier_sec = float(state_dict["elapsed_sec"])
        if self.count_earlier_runs:
            self._interval = SharedInterval(self.limit_sec, self.start_time - self.earlier_sec)


def _seconds(name: str, value: object, unit: int) -> float:
    if not isinstance(value, Real):
        raise TypeError(f"TimeLimit: {name} must be a number, got {value!r}")
    return float(value) * unit


class _IsExceeded:
    """Filter of an event that lets the handler run when its limit is exceeded, so that checks of fast iterations can be omitted."""

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit

    def __call__(self, engine: object, counter: int) -> bool:
        return self._limit.is_exceeded()

    def __repr__(self) -> str:
        return f"after {self._limit.limit_sec:g} s"

    @property
    def idle_calls(self) -> int:
        """Number of the next events at which the filter need not be called."""
        return self._limit.idle_calls
