"""Requests to terminate the run, to terminate the epoch or to interrupt the run."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

RunEnd: TypeAlias = "bool | Literal['skip_completed']"
EpochEnd: TypeAlias = "bool | Literal['skip_epoch_completed']"


class SlowPath:
    """Flag that tells the loop whether iterations must check for handlers and stop requests.

    ``is_on`` becomes ``True`` when a handler is registered, a stop is requested or the data is replaced. At the start of an
    epoch or a data pass, the loop sets ``is_on`` to ``False`` if no iteration event has handlers and no request is pending.
    """

    # A class attribute keeps the constructor of an engine fast; the loop makes it an attribute of the instance.
    is_on = True
    # Whether the step has run once and returned no coroutine or generator.
    is_step_checked = False


# The values of each kind of request, in the order in which they override each other in a vote.
_VALUES: dict[str, tuple[Any, ...]] = {
    "run": (False, True, "skip_completed"),
    "epoch": (False, True, "skip_epoch_completed"),
    "interrupt": (False, True),
}


class StopRequests:
    """Stop requests from handlers or other threads to a running engine.

    With several ranks, a request is a proposal: it takes effect on all ranks after a vote.

    Args:
        slow_path: The flag that each request sets.
    """

    # Class attributes keep the constructor of an engine fast; clear() makes them attributes of the instance.
    run: RunEnd = False
    epoch: EpochEnd = False
    interrupt: bool = False
    # Whether the loop must handle a request or new data, and whether there is new data.
    is_pending = False
    has_new_data = False
    # Whether a request takes effect only after a vote of the ranks, and the requests that wait for a vote.
    needs_vote = False
    _proposed: dict[str, RunEnd | EpochEnd] = {}  # noqa: RUF012 - never changed; clear() makes an attribute of the instance

    def __init__(self, slow_path: SlowPath) -> None:
        self._slow_path = slow_path

    def request(
        self, name: Literal["run", "epoch", "interrupt", "has_new_data"], value: RunEnd | EpochEnd
    ) -> None:
        """Set a request, which the loop handles after all handlers of the current event have run; ``False`` withdraws it."""
        if self.needs_vote and name != "has_new_data":
            self._proposed[name] = value
            if value:
                return
        setattr(self, name, value)
        if value:
            self.is_pending = True
            self._slow_path.is_on = True

    def requested(self, name: Literal["run", "epoch", "interrupt"]) -> Any:
        """Return the value of a request, whether it is in effect or waits for a vote."""
        return getattr(self, name) or self._proposed.get(name, False)

    def clear(self) -> None:
        """Withdraw all requests."""
        self.run = self.epoch = self.interrupt = self.is_pending = self.has_new_data = False
        self._proposed = {}

    # Votes

    @property
    def is_agreed(self) -> bool:
        """Whether a request that the ranks agreed on has not been handled yet."""
        return bool(self.run or self.epoch or self.interrupt)

    def proposals(self) -> tuple[int, ...]:
        """Return the proposals of this rank as numbers, for a vote."""
        return tuple(values.index(self._proposed.get(name, False)) for name, values in _VALUES.items())

    def agree(self, numbers: tuple[int, ...], *, is_deferred: bool = False) -> None:
        """Put the results of a vote into effect, or propose them on this rank for the next vote."""
        for (name, values), number in zip(_VALUES.items(), numbers, strict=True):
            if number and is_deferred:
                self._proposed[name] = values[number]
            elif number:
                setattr(self, name, values[number])
                self._proposed.pop(name, None)
                self.is_pending = True
