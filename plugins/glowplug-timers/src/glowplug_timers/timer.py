"""The timer that is started, paused and resumed by events."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from time import perf_counter
from typing import Any

from glowplug import Events, RemovableEventHandle, RunStart
from glowplug.typing import AnyEvent, EngineProtocol


class Timer:
    """Measure the time between events, or the average time of a step.

    A timer runs from its creation, so it can also be used without an engine. If it is attached, its total and its number of steps
    are part of ``engine.state_dict()``, and a run that continues adds to them.

    Args:
        average: Whether :meth:`value` returns the average time per step instead of the total time. Defaults to ``False``.
        state_key: Key of the timer's state in the engine's ``state_dict()``. Defaults to the class name.

    Attributes:
        total: Seconds that were measured up to the last pause.
        step_count: Number of steps.
        running: Whether the timer is running.

    Example:
        >>> from time import sleep
        >>> from glowplug import Engine
        >>> trainer = Engine(lambda engine, batch: sleep(0.01))
        >>> time_of_step = Timer(average=True)
        >>> handle = time_of_step.attach(
        ...     trainer,
        ...     resume=Events.ITERATION_STARTED,
        ...     pause=Events.ITERATION_COMPLETED,
        ...     step=Events.ITERATION_COMPLETED,
        ... )
        >>> state = trainer.run([1, 2, 3])
        >>> time_of_step.step_count, time_of_step.value() >= 0.01
        (3.0, True)
    """

    def __init__(self, average: bool = False, *, state_key: str = "Timer") -> None:
        self.state_key = state_key
        self._average = average
        # Whether the total belongs to a run, to which a continued run adds.
        self._has_run = False
        self.reset()

    def attach(
        self,
        engine: EngineProtocol,
        start: AnyEvent = Events.STARTED,
        pause: AnyEvent = Events.COMPLETED,
        resume: AnyEvent | None = None,
        step: AnyEvent | None = None,
    ) -> RemovableEventHandle:
        """Let the events of an engine control the timer.

        The end of a run also pauses the timer, even after an exception.

        Args:
            engine: The engine.
            start: Event that resets and starts the timer. A run that continues does not reset the timer at ``STARTED``.
            pause: Event that pauses the timer.
            resume: Event that resumes the timer after a pause.
            step: Event that counts a step.

        Returns:
            A handle that detaches the timer.
        """
        continues = self._continue if resume is None else self._wait
        with ExitStack() as undo:
            undo.enter_context(engine.register_state(self.state_key, self))
            undo.enter_context(engine.add_event_handler(start, continues))
            undo.enter_context(engine.add_event_handler(pause, self.pause))
            undo.enter_context(engine.add_event_handler(Events.TEARDOWN, self.pause))
            if resume is not None:
                undo.enter_context(engine.add_event_handler(resume, self.resume))
            if step is not None:
                undo.enter_context(engine.add_event_handler(step, self.step))
            return RemovableEventHandle(undo.pop_all().close)

    def _continue(self, engine: EngineProtocol) -> None:
        """Start the timer, or resume it in a run that continues."""
        self._wait(engine)
        self.resume()

    def _wait(self, engine: EngineProtocol) -> None:
        """Start the timer; in a run that continues, leave it to another event to resume the timer."""
        is_new = engine.current_event != Events.STARTED or engine.state.run_start is RunStart.NEW
        if is_new or not self._has_run:
            self.reset()
            self._has_run = True

    def reset(self, *args: Any) -> Timer:
        """Set the timer to zero and start it.

        Args:
            *args: Ignored, so that the method can be a handler.

        Returns:
            The timer.
        """
        self._t0 = perf_counter()
        self.total = 0.0
        self.step_count = 0.0
        self.running = True
        return self

    def pause(self, *args: Any) -> None:
        """Pause the timer if it is running."""
        if self.running:
            self.total += self._elapsed()
            self.running = False

    def resume(self, *args: Any) -> None:
        """Resume the timer if it is paused."""
        if not self.running:
            self.running = True
            self._t0 = perf_counter()

    def step(self, *args: Any) -> None:
        """Count a step, for the average."""
        self.step_count += 1.0

    def value(self) -> float:
        """Return the measured time in seconds: the total, or with ``average`` the time per step.

        Example:
            >>> timer = Timer()
            >>> timer.pause()
            >>> timer.value() == timer.total
            True
        """
        total = self._measured()
        return total / max(self.step_count, 1.0) if self._average else total

    def state_dict(self) -> dict[str, Any]:
        """Return the measured time and the number of steps.

        Example:
            >>> list(Timer().state_dict())
            ['total', 'step_count']
        """
        return {"total": self._measured(), "step_count": self.step_count}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state; the timer is paused until the next run.

        Args:
            state_dict: Result of :meth:`state_dict`.
        """
        self.total, self.step_count = float(state_dict["total"]), float(state_dict["step_count"])
        self.running, self._has_run = False, True

    def _measured(self) -> float:
        return self.total + self._elapsed() if self.running else self.total

    def _elapsed(self) -> float:
        return perf_counter() - self._t0
