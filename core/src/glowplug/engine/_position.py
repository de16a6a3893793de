"""Position of a run in its epoch and data, with the states of the random number generators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import Any

from glowplug.engine import _data_pass, _rng
from glowplug.engine._run_plan import is_done
from glowplug.state import State


class RunPosition:
    """Position of an engine in its run, which can be saved and restored."""

    # Class attributes keep the constructor of an engine fast.

    # The iterator and its data pass, which outlives the iterator.
    iterator: Iterator[Any] | None = None
    data_pass: _data_pass.DataPass | None = None
    # True while an epoch is in progress, until EPOCH_COMPLETED fires.
    in_epoch = False
    # The iteration before the first one of the epoch, and the last iteration with a completed step.
    epoch_start = 0
    stepped = 0
    # A loaded state, until a run restores it.
    was_loaded = False
    _pending: Mapping[str, Any] | None = None
    _random_state: Mapping[str, Any] | None = None

    # Starting

    def start_new(self) -> None:
        """Reset to the start of a new run."""
        self.iterator = self.data_pass = self._pending = None
        self.in_epoch = False
        self.epoch_start = self.stepped = 0

    def start_again(self, state: State, *, within_epoch: bool) -> None:
        """Continue where the last run or the loaded state ended.

        Args:
            state: The state of the engine.
            within_epoch: Whether to continue the epoch of the last run instead of starting a new one.
        """
        done = 0
        if self._pending is not None:
            done = self._pending["epoch_iterations"] or 0
        elif within_epoch:
            done = (state.iteration - self.epoch_start) % (state.epoch_length or 1)
        self.in_epoch = False
        self.epoch_start = state.iteration - done
        self.stepped = state.iteration
        self.data_pass = None

    # During the run

    def begin_epoch(self, state: State, done: int) -> None:
        """Count the epoch's iterations from the current one, since a handler may have changed the counters."""
        self.epoch_start = state.iteration - done
        self.stepped = state.iteration

    def end_epoch(self, state: State, *, early: bool) -> int:
        """End the epoch and return its number of iterations."""
        done = self.done(state)
        self.in_epoch = False
        self.epoch_start = self.stepped = state.iteration
        if self._pending is not None:
            self._pending = {**self._pending, "epoch_iterations": None}
        if early:
            self.iterator = self.data_pass = None
        return done

    def done(self, state: State) -> int:
        """Return the number of completed iterations of the epoch."""
        return state.iteration - self.epoch_start

    def begin_pass(self, state: State) -> None:
        """Begin a pass over the data, or restore the pass of a loaded run."""
        pending, self._pending = self._pending, None
        if state.dataloader is None:
            self.data_pass, self.iterator = None, repeat(None)
        elif pending is not None and pending["data"] is not None:
            self.data_pass, self.iterator = _data_pass.resumed(
                state.dataloader, state.iteration, pending["data"]
            )
        else:
            self.data_pass = _data_pass.DataPass(state.dataloader, state.iteration)
            self.iterator = self.data_pass.begin()

    def replace_data(self, state: State) -> None:
        """Begin a pass over other data; without a loaded position, the loop sets its first iteration later."""
        offset_known = self._pending is not None
        self.begin_pass(state)
        if not offset_known and self.data_pass is not None:
            self.data_pass.first_iteration = None

    def restore_random_state(self) -> None:
        """Restore the loaded random states, once the handlers that run again on resume have run."""
        states, self._random_state = self._random_state, None
        if states is not None:
            _rng.restore(states)

    def is_within_loaded_epoch(self) -> bool:
        """Return whether a loaded state is within an epoch that has not been continued yet."""
        return self._pending is not None and self._pending["epoch_iterations"] is not None

    def has_epoch_to_do(self, state: State) -> bool:
        """Return whether an epoch is left to run, even if a loaded epoch lacks only its final events."""
        if self.is_within_loaded_epoch():
            return not self.is_cut_short(state) and (
                state.max_epochs is None or state.epoch < state.max_epochs
            )
        return not is_done(state, state.max_epochs, state.max_iters)

    def is_cut_short(self, state: State) -> bool:
        """Return whether ``max_iters`` ends the run within an epoch."""
        return state.iteration == state.max_iters and self.done(state) != state.epoch_length

    # Saving and loading

    def saved_iteration(self, state: State) -> int:
        """Return the last completed iteration; an incomplete one is repeated after a load."""
        return self.stepped if self.stepped == state.iteration - 1 else state.iteration

    def state_dict(self, state: State) -> dict[str, Any]:
        """Return the position after the last completed iteration as plain values and tensors."""
        iteration = self.saved_iteration(state)
        epoch_iterations, data = None, None
        if self._pending is not None:
            # A position that has not been restored yet is saved as it was loaded.
            epoch_iterations, data = self._pending["epoch_iterations"], self._pending["data"]
        elif self.data_pass is not None:
            data = self.data_pass.position(iteration)
        if self.in_epoch:
            epoch_iterations = iteration - self.epoch_start
        return {
            "format": _data_pass.FORMAT,
            "epoch": state.epoch - self.in_epoch,
            "epoch_iterations": epoch_iterations,
            "data": data,
            "random": _rng.capture() if self._random_state is None else self._random_state,
        }

    def load_state_dict(
        self, saved: Mapping[str, Any] | None, iteration: int, epoch_length: int | None
    ) -> None:
        """Load a saved position.

        Args:
            saved: The position from :meth:`state_dict`. If ``None``, a new pass over the data begins.
            iteration: The iteration of the saved state.
            epoch_length: The number of iterations per epoch in the saved state.
        """
        if saved is None:
            within = iteration % (epoch_length or 1)
            saved = {"epoch_iterations": within or None, "data": None, "random": None}
        self.iterator = self.data_pass = None
        self.in_epoch = False
        self._pending, self._random_state = saved, saved["random"]
        self.stepped = iteration
        self.was_loaded = True
