"""Requests to stop: terminate the run, terminate the epoch, interrupt."""

from __future__ import annotations

from typing import Literal, TypeAlias

RunEnd: TypeAlias = "bool | Literal['skip_completed']"
EpochEnd: TypeAlias = "bool | Literal['skip_epoch_completed']"


class Watch:
    """Flag that tells whether an iteration does more than call the step.

    It is on if an iteration event has handlers, a stop was requested, or the data was replaced. The loop reads only
    ``is_on``, and switches it off at the start of an epoch whose iteration events have no handlers.
    """

    # A class attribute keeps the constructor of an engine fast; the loop makes it an attribute of the instance.
    is_on = True
    # Whether the step has run once and returned no coroutine or generator.
    is_step_checked = False


class StopRequests:
    """Stop requests from handlers or other threads to a running engine.

    Args:
        watch: Switched on by each request.
    """

    # Class attributes keep the constructor of an engine fast; clear() makes them attributes of the instance.
    _run: RunEnd = False
    _epoch: EpochEnd = False
    _interrupt = False
    # Whether the loop must handle a request or new data, and whether there is new data.
    is_pending = False
    has_new_data = False

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    @property
    def run(self) -> RunEnd:
        """Whether the end of the run is requested. Assign a true value to request it."""
        return self._run

    @run.setter
    def run(self, value: RunEnd) -> None:
        self._run = value
        self._note(value)

    @property
    def epoch(self) -> EpochEnd:
        """Whether the end of the epoch is requested. Assign a true value to request it."""
        return self._epoch

    @epoch.setter
    def epoch(self, value: EpochEnd) -> None:
        self._epoch = value
        self._note(value)

    @property
    def interrupt(self) -> bool:
        """Whether an interruption is requested. Assign a true value to request it."""
        return self._interrupt

    @interrupt.setter
    def interrupt(self, value: bool) -> None:
        self._interrupt = value
        self._note(value)

    def note_new_data(self) -> None:
        """Make the loop continue with the new data."""
        self.has_new_data = True
        self._note(True)

    def clear(self) -> None:
        """Withdraw all requests."""
        self._run = self._epoch = self._interrupt = self.is_pending = self.has_new_data = False

    def _note(self, value: object) -> None:
        if value:
            self.is_pending = True
            self._watch.is_on = True
