"""Requests to terminate the run, to terminate the epoch or to interrupt the run."""

from __future__ import annotations

from typing import Literal, TypeAlias

RunEnd: TypeAlias = "bool | Literal['skip_completed']"
EpochEnd: TypeAlias = "bool | Literal['skip_epoch_completed']"


class Watch:
    """Flag that tells the loop whether iterations must check for handlers and stop requests.

    ``is_on`` becomes ``True`` when a handler is registered, a stop is requested or the data is replaced. At the start of an
    epoch or a data pass, the loop sets ``is_on`` to ``False`` if no iteration event has handlers and no request is pending.
    """

    # A class attribute keeps the constructor of an engine fast; the loop makes it an attribute of the instance.
    is_on = True
    # Whether the step has run once and returned no coroutine or generator.
    is_step_checked = False


class StopRequests:
    """Stop requests from handlers or other threads to a running engine.

    Args:
        watch: The flag that each request sets.
    """

    # Class attributes keep the constructor of an engine fast; clear() makes them attributes of the instance.
    run: RunEnd = False
    epoch: EpochEnd = False
    interrupt: bool = False
    # Whether the loop must handle a request or new data, and whether there is new data.
    is_pending = False
    has_new_data = False

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def request(
        self, name: Literal["run", "epoch", "interrupt", "has_new_data"], value: RunEnd | EpochEnd
    ) -> None:
        """Set a request, which the loop handles after all handlers of the current event have run; ``False`` withdraws it."""
        setattr(self, name, value)
        if value:
            self.is_pending = True
            self._watch.is_on = True

    def clear(self) -> None:
        """Withdraw all requests."""
        self.run = self.epoch = self.interrupt = self.is_pending = self.has_new_data = False
