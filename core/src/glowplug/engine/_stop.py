"""What handlers, or another thread, can ask of a running engine: to end the run, to end the epoch, to pause."""

from __future__ import annotations

from typing import Literal, TypeAlias

End: TypeAlias = "bool | Literal['skip_completed']"
EpochEnd: TypeAlias = "bool | Literal['skip_epoch_completed']"


class Requests:
    """The three requests that an engine obeys after the handlers of the current event (E-130, E-137).

    Each can be made by its method, or by setting its attribute (E-004). The loop looks at ``_asked`` alone.
    """

    _asked: bool
    _terminate: End
    _terminate_epoch: EpochEnd
    _interrupt: bool

    def terminate(self, skip_completed: bool = False) -> None:
        """Ask for the end of the run: after the handlers of the current event (E-130, E-131).

        Args:
            skip_completed: do not fire ``COMPLETED``; ``TERMINATE`` and ``TEARDOWN`` fire all the same.
        """
        self.should_terminate = "skip_completed" if skip_completed else True

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """Ask for the end of the current epoch: after the handlers of the current event (E-135).

        Args:
            skip_epoch_completed: do not fire ``EPOCH_COMPLETED``.
        """
        self.should_terminate_single_epoch = "skip_epoch_completed" if skip_epoch_completed else True

    def interrupt(self) -> None:
        """Ask run() to return after the handlers of the current event; the next run() goes on right there (E-138)."""
        self.should_interrupt = True

    @property
    def should_terminate(self) -> End:
        """Whether the end of the run is asked for; setting it is asking."""
        return self._terminate

    @should_terminate.setter
    def should_terminate(self, value: End) -> None:
        self._terminate = value
        if value:
            self._asked = True

    @property
    def should_terminate_single_epoch(self) -> EpochEnd:
        """Whether the end of the epoch is asked for; setting it is asking."""
        return self._terminate_epoch

    @should_terminate_single_epoch.setter
    def should_terminate_single_epoch(self, value: EpochEnd) -> None:
        self._terminate_epoch = value
        if value:
            self._asked = True

    @property
    def should_interrupt(self) -> bool:
        """Whether a pause is asked for; setting it is asking."""
        return self._interrupt

    @should_interrupt.setter
    def should_interrupt(self, value: bool) -> None:
        self._interrupt = value
        if value:
            self._asked = True

    def _drop_requests(self) -> None:
        self._terminate = self._terminate_epoch = self._interrupt = self._asked = False
