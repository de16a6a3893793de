"""Handler that ends a run after a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from glowplug import EventEnum, Events, Phase, RemovableEventHandle, RunStart
from glowplug.typing import AnyEvent, EngineProtocol


class TimeLimitEvents(EventEnum):
    """Event of :class:`TimeLimit`."""

    REACHED = "time_limit_reached"
    """Fires once, before the handler terminates the run."""


class TimeLimit:
    """Terminate a run after a number of seconds.

    If a run is interrupted or resumed, its elapsed time continues; the time between its parts does not count. When the limit is
    reached, the handler fires ``TimeLimitEvents.REACHED`` once.

    Args:
        seconds: Maximum time of the run, in seconds.
        clock: Function that returns the time in seconds. Defaults to :func:`time.monotonic`.

    Raises:
        ValueError: If ``seconds`` is not positive.

    Example:
        >>> from glowplug import Engine
        >>> seconds = iter([0, 1, 2, 3])
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> handle = TimeLimit(2, clock=lambda: next(seconds)).attach(trainer)
        >>> trainer.run(range(100)).iteration
        2
    """

    # After the metrics, and before loggers and checkpoints.
    phase = Phase.USER

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not seconds > 0:
            raise ValueError(f"TimeLimit: seconds must be positive, got {seconds!r}")
        self.seconds = seconds
        self.elapsed = 0.0
        self._clock = clock
        self._checked: float | None = None

    def attach(
        self, engine: EngineProtocol, event_name: AnyEvent = Events.ITERATION_COMPLETED
    ) -> RemovableEventHandle:
        """Check the time at an event.

        Args:
            engine: The engine.
            event_name: The event. Defaults to the end of each iteration.

        Returns:
            A handle that detaches the handler.
        """
        engine.register_events(*TimeLimitEvents)
        return RemovableEventHandle.join(
            engine.register_state(type(self).__name__, self),
            engine.add_event_handler(Events.STARTED, self._start),
            engine.add_event_handler(event_name, self),
        )

    def _start(self, engine: EngineProtocol) -> None:
        """Start the clock; in a new run, no time has elapsed."""
        if engine.state.run_start is RunStart.NEW:
            self.elapsed = 0.0
        self._checked = self._clock()

    def __call__(self, engine: EngineProtocol) -> None:
        """Add the time since the last check, and terminate the run if the limit is reached."""
        now = self._clock()
        before = self.elapsed
        self.elapsed += now - (now if self._checked is None else self._checked)
        self._checked = now
        if self.elapsed >= self.seconds:
            if before < self.seconds:
                engine.fire_event(TimeLimitEvents.REACHED)
            engine.terminate()

    def state_dict(self) -> dict[str, Any]:
        """Return the elapsed time."""
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the time of a saved run."""
        self.elapsed = state_dict["elapsed"]
