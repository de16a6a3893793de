"""What a bar counts: epochs, iterations of the run, or iterations of one epoch."""

from __future__ import annotations

import math
from enum import Enum

from glowplug import Events, State

WITHIN_AN_EPOCH = (Events.EPOCH_STARTED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED)


class Unit(Enum):
    """Unit that a bar counts."""

    START = "Start"
    EPOCH = "Epoch"
    ITERATION = "Iteration"
    ITERATION_OF_EPOCH = "Iteration of the epoch"

    @classmethod
    def of(cls, event: Events, closing: Events) -> Unit:
        """Return the unit of a bar that advances at one event and closes at another.

        Example:
            >>> Unit.of(Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED)
            <Unit.ITERATION_OF_EPOCH: 'Iteration of the epoch'>
        """
        if event in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED):
            return cls.ITERATION if closing is Events.COMPLETED else cls.ITERATION_OF_EPOCH
        return cls.START if event is Events.STARTED else cls.EPOCH

    @property
    def short_name(self) -> str:
        """Abbreviation of the unit in a rate, such as ``it`` in ``2.50it/s``."""
        return "epoch" if self is Unit.EPOCH else "it"


class Counter:
    """Counter of the epochs or iterations that one bar shows.

    Args:
        unit: What to count.
        state: State of the engine when the bar opens.
        event: The event at which the bar opens.

    Example:
        >>> state = State(epoch=2, max_epochs=5, iteration=7, epoch_start=4, epoch_length=4)
        >>> counter = Counter(Unit.ITERATION_OF_EPOCH, state, Events.ITERATION_COMPLETED)
        >>> counter.done(state), counter.total(state), counter.title(state, None)
        (3, 4, 'Epoch [2/5]')
    """

    def __init__(self, unit: Unit, state: State, event: object) -> None:
        self.unit = unit
        self.follow(state, event)

    def follow(self, state: State, event: object) -> None:
        """Store the start and length of the current epoch, because the state changes them when the epoch ends.

        Args:
            state: State of the engine.
            event: The current event, at which the bar opens or advances.
        """
        self._epoch_start, self._epoch_length = state.epoch_start, state.epoch_length
        # At STARTED, state.epoch does not yet include the epoch that continues.
        is_within_epoch = event in WITHIN_AN_EPOCH
        self._completed_epochs = state.epoch - is_within_epoch

    def is_current(self, state: State) -> bool:
        """Return whether the state still has the epoch start and the epoch length that :meth:`follow` stored."""
        return state.epoch_start == self._epoch_start and state.epoch_length == self._epoch_length

    def done(self, state: State) -> int:
        """Return the number of completed units."""
        if self.unit is Unit.START:
            return 1
        if self.unit is Unit.EPOCH:
            return state.epoch
        return state.iteration - (self._epoch_start if self.unit is Unit.ITERATION_OF_EPOCH else 0)

    def total(self, state: State) -> int | None:
        """Return the expected number of units, or ``None`` if the number is unknown or has been exceeded."""
        if self.unit is Unit.START:
            return 1
        if self.unit is Unit.EPOCH:
            return self.epochs(state)
        total = self._iterations(state) if self.unit is Unit.ITERATION else self._iterations_of_epoch(state)
        return total if total is None or total >= self.done(state) else None

    def title(self, state: State, name: str | None) -> str:
        """Return the title of the bar, such as ``Epoch [2/5]``; ``name``, if given, replaces the word (here, ``Epoch``)."""
        if self.unit is not Unit.ITERATION_OF_EPOCH:
            return name or self.unit.value
        if self.epochs(state) == 1:
            return name or Unit.ITERATION.value
        return self.title_of_epoch(state, name)

    def title_of_epoch(self, state: State, name: str | None) -> str:
        """Return the title of the current epoch, such as ``Epoch [2/5]``."""
        epochs = self.epochs(state)
        return f"{name or Unit.EPOCH.value} [{state.epoch}{'' if epochs is None else f'/{epochs}'}]"

    def epochs(self, state: State) -> int | None:
        """Return the expected number of epochs, or ``None`` if the number is unknown."""
        if state.max_iters is None:
            return state.max_epochs
        if not state.epoch_length:
            return None
        return self._completed_epochs + math.ceil((state.max_iters - self._epoch_start) / state.epoch_length)

    def _iterations_of_epoch(self, state: State) -> int | None:
        if state.epoch_length is None or state.max_iters is None:
            return state.epoch_length
        return min(state.epoch_length, state.max_iters - self._epoch_start)

    def _iterations(self, state: State) -> int | None:
        if state.max_iters is not None or state.max_epochs is None or not state.epoch_length:
            return state.max_iters
        # The completed epochs may have had other lengths.
        return self._epoch_start + (state.max_epochs - self._completed_epochs) * state.epoch_length
