"""What a bar counts: epochs, iterations of the run, or iterations of one epoch."""

from __future__ import annotations

import math
from enum import Enum

from glowplug import Events, State


class Unit(Enum):
    """Unit of a bar; the value is the default title."""

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


class Counter:
    """Counts the units of one bar.

    Args:
        unit: What to count.
        state: State of the engine when the bar opens.

    Example:
        >>> state = State(epoch=2, max_epochs=5, iteration=7, epoch_length=4)
        >>> counter = Counter(Unit.ITERATION_OF_EPOCH, state)
        >>> counter.done(state), counter.total(state), counter.title(state, None)
        (3, 4, 'Epoch [2/5]')
    """

    def __init__(self, unit: Unit, state: State) -> None:
        self.unit = unit
        self._offset = _iterations_before_epoch(state) if unit is Unit.ITERATION_OF_EPOCH else 0

    def done(self, state: State) -> int:
        """Return the number of completed units."""
        if self.unit is Unit.START:
            return 1
        return state.epoch if self.unit is Unit.EPOCH else state.iteration - self._offset

    def total(self, state: State) -> int | None:
        """Return the total number of units, or ``None`` if it is unknown."""
        if self.unit is Unit.START:
            return 1
        if self.unit is Unit.EPOCH:
            return _epochs(state)
        if self.unit is Unit.ITERATION:
            return _iterations(state)
        if state.epoch_length is None or state.max_iters is None:
            return state.epoch_length
        return min(state.epoch_length, state.max_iters - self._offset)

    def title(self, state: State, name: str | None) -> str:
        """Return the title of the bar, which starts with ``name`` instead of the default if given."""
        epochs = _epochs(state)
        if self.unit is not Unit.ITERATION_OF_EPOCH:
            return name or self.unit.value
        if epochs == 1:
            return name or Unit.ITERATION.value
        return f"{name or Unit.EPOCH.value} [{state.epoch}{'' if epochs is None else f'/{epochs}'}]"


def _epochs(state: State) -> int | None:
    if state.max_iters is None:
        return state.max_epochs
    return math.ceil(state.max_iters / state.epoch_length) if state.epoch_length else None


def _iterations(state: State) -> int | None:
    if state.max_iters is None and state.epoch_length and state.max_epochs is not None:
        return state.epoch_length * state.max_epochs
    return state.max_iters


def _iterations_before_epoch(state: State) -> int:
    # A resumed run may start in the middle of an epoch, so the offset is computed from the epoch length. If an earlier epoch
    # ended early, that offset exceeds the iteration; the bar then counts from the current iteration.
    length = state.epoch_length or 0
    offset = (state.epoch - 1) * length
    return offset if 0 <= state.iteration - offset <= length else state.iteration
