"""What a bar counts: iterations of an epoch or of the run, or epochs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from glowplug import Events, State


class Counting(Protocol):
    """How far a run is, in the units of one bar; made from the state when the bar begins."""

    exact_at_close: bool  # whether done() is right at the closing event, too

    def done(self, state: State) -> int:
        """Return how many units are done."""

    def total(self, state: State) -> int | None:
        """Return how many there will be, ``None`` while nobody knows."""

    def title(self, state: State, name: str | None) -> str:
        """Return what to call the bar, for which the user may have given a name."""


class Epochs:
    """Counts the epochs of the run."""

    exact_at_close = False  # a run may end in the middle of one

    def __init__(self, state: State) -> None:
        pass

    def done(self, state: State) -> int:
        """Return the number of the epoch."""
        return state.epoch

    def total(self, state: State) -> int | None:
        """Return the limit, derived from that of the iterations where need be."""
        if state.max_iters is not None:
            return math.ceil(state.max_iters / state.epoch_length) if state.epoch_length else None
        return state.max_epochs

    def title(self, state: State, name: str | None) -> str:
        """Return the name, or that it is epochs."""
        return name or "Epoch"


class RunIterations:
    """Counts the iterations of the run."""

    exact_at_close = True

    def __init__(self, state: State) -> None:
        pass

    def done(self, state: State) -> int:
        """Return the number of the iteration."""
        return state.iteration

    def total(self, state: State) -> int | None:
        """Return the limit, derived from that of the epochs where need be."""
        if state.max_iters is not None or not state.epoch_length or state.max_epochs is None:
            return state.max_iters
        return state.epoch_length * state.max_epochs

    def title(self, state: State, name: str | None) -> str:
        """Return the name, or that it is iterations."""
        return name or "Iteration"


class EpochIterations:
    """Counts the iterations of one epoch."""

    exact_at_close = True

    def __init__(self, state: State) -> None:
        # A resumed run may begin in the middle of an epoch; one that was cut short leaves fewer iterations behind.
        length = state.epoch_length or 0
        regular = (state.epoch - 1) * length
        self._before = regular if 0 <= state.iteration - regular <= length else state.iteration

    def done(self, state: State) -> int:
        """Return the number of the iteration within the epoch."""
        return state.iteration - self._before

    def total(self, state: State) -> int | None:
        """Return the length of the epoch, less what ``max_iters`` cuts off."""
        if state.epoch_length is None or state.max_iters is None:
            return state.epoch_length
        return min(state.epoch_length, state.max_iters - self._before)

    def title(self, state: State, name: str | None) -> str:
        """Return the name with the epoch, where there is more than one."""
        epochs = Epochs(state).total(state)
        if epochs == 1:
            return name or "Iteration"
        return f"{name or 'Epoch'} [{state.epoch}{'' if epochs is None else f'/{epochs}'}]"


class Start:
    """Counts to one: the run has started."""

    exact_at_close = True

    def __init__(self, state: State) -> None:
        pass

    def done(self, state: State) -> int:
        """Return one: it is made when the run starts."""
        return 1

    def total(self, state: State) -> int | None:
        """Return one."""
        return 1

    def title(self, state: State, name: str | None) -> str:
        """Return the name, or that it is the start."""
        return name or "Start"


def counting_of(event: Events, closing: Events) -> Callable[[State], Counting]:
    """Return what a bar counts that moves at one event and closes at another, to be made when it begins.

    Example:
        >>> state = State(epoch=2, max_epochs=5, iteration=7, epoch_length=4)
        >>> counting = counting_of(Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED)(state)
        >>> counting.done(state), counting.total(state), counting.title(state, None)
        (3, 4, 'Epoch [2/5]')
    """
    if event in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED):
        return RunIterations if closing is Events.COMPLETED else EpochIterations
    return Start if event is Events.STARTED else Epochs


def opening_of(event: Events, closing: Events) -> Events:
    """Return the event at which such a bar is to appear, so that it shows the time from the beginning.

    Example:
        >>> opening_of(Events.EPOCH_COMPLETED, Events.COMPLETED)
        Events.STARTED
    """
    whole_run = closing is Events.COMPLETED or event is Events.STARTED
    return Events.STARTED if whole_run else Events.EPOCH_STARTED
