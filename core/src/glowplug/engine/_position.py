"""Position of a run in its epoch and data, with the states of the random number generators."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from glowplug.engine import _data_pass, _rng
from glowplug.engine._plain import NotPlainError, plain_copy
from glowplug.engine._run_plan import is_done
from glowplug.exceptions import GlowplugWarning
from glowplug.state import State

if TYPE_CHECKING:
    from glowplug.engine._votes import Votes

_NOTHING = object()


class RunPosition:
    """Position of an engine in its run, which can be saved and restored."""

    # Class attributes keep the constructor of an engine fast.

    # The iterator and its data pass, which outlives the iterator.
    iterator: Iterator[Any] | None = None
    data_pass: _data_pass.DataPass | None = None
    # The epoch length that the engine expects from the data; any other value of state.epoch_length was given by the user.
    forecast: int | None = None
    # Whether epoch_length, instead of the end of the data, ends this epoch.
    keeps_length = False
    # Whether this epoch has more iterations than expected, and whether this run has warned about a wrong length.
    is_past_forecast = False
    has_warned = False
    # The votes of the ranks, and whether the ranks agreed on the length of this epoch.
    _votes: Votes | None = None
    has_agreed_length = False
    # True while an epoch is in progress, until EPOCH_COMPLETED fires.
    in_epoch = False
    # The last iteration with a completed step.
    stepped = 0
    # The loaded state, until a run restores it.
    was_loaded = False
    was_terminated = False
    _pending: Mapping[str, Any] | None = None
    _random_state: Mapping[str, Any] | None = None
    # Why the loaded state has no output, until the first epoch has ended.
    _missing_output: str | None = None
    # The random states before the handlers of EPOCH_STARTED ran.
    _epoch_random: Mapping[str, Any] | None = None

    # Starting

    def start_new(self, state: State) -> None:
        """Reset to the start of a new run."""
        self.iterator = self.data_pass = self._pending = self._random_state = None
        self.in_epoch = self.has_warned = self.was_terminated = False
        state.epoch_start = self.stepped = 0

    def start_again(self, state: State, data: Iterable[Any] | None, *, within_epoch: bool) -> str | None:
        """Continue where the last run or the loaded state ended.

        Args:
            state: The state of the engine.
            data: The data of the run.
            within_epoch: Whether to continue the epoch in which an exception ended the run; otherwise, the next epoch starts.

        Returns:
            The reason why the failed epoch starts again from its beginning, or ``None`` if it does not start again.
        """
        reason = self._return_to_epoch(state, data) if within_epoch and self.in_epoch else None
        done = (self._pending and self._pending["epoch_iterations"]) or 0
        self.in_epoch = self.has_warned = False
        state.epoch_start = state.iteration - done
        self.stepped = state.iteration
        self.iterator = self.data_pass = None
        return reason

    def _return_to_epoch(self, state: State, data: Iterable[Any] | None) -> str | None:
        """Return to the last completed iteration if the data can continue from it, otherwise to the start of the epoch."""
        saved, failed_at = self.state_dict(state), state.iteration
        state.iteration, state.epoch = self.saved_iteration(state), state.epoch - 1
        # In the same process, the random number generators continue from their current states.
        self._pending = {**saved, "epoch_random": None}
        try:
            _check_data(data, saved["data"], repeats=state.iteration != failed_at)
        except ValueError as error:
            reason = f"epoch {state.epoch + 1} starts again instead of continuing after iteration {state.iteration}: {error}"
            state.iteration = state.epoch_start
            self._pending = None
            return reason
        return None

    # During the run

    def repeat_random_state(self) -> None:
        """Save the random states before EPOCH_STARTED; in a loaded epoch, restore the saved states instead."""
        saved = self._pending.get("epoch_random") if self.is_within_loaded_epoch() and self._pending else None
        if saved is not None:
            _rng.restore(saved)
        self._epoch_random = saved or _rng.capture()

    def length_of_epoch(self, state: State) -> int | None:
        """Return the number of iterations of the epoch that starts, or ``None`` if the data does not know its length."""
        if state.dataloader is None or state.epoch_length not in (None, self.forecast):
            return state.epoch_length
        return _data_pass.length_of(state.dataloader) if _data_pass.knows_length(state.dataloader) else None

    def begin_epoch(self, state: State, done: int, votes: Votes | None) -> None:
        """Decide what ends the epoch; handlers of EPOCH_STARTED may have changed the counters, the length or the data."""
        state.epoch_start = state.iteration - done
        self.stepped = state.iteration
        self.is_past_forecast = False
        self.keeps_length = state.dataloader is None or state.epoch_length not in (None, self.forecast)
        self._votes, self.has_agreed_length = votes, False
        self.agree_on_length(state)
        if self.keeps_length or done:
            return
        if self.data_pass is not None and self.data_pass.used(state.iteration):
            # An earlier epoch, whose length was given, did not finish this pass.
            self.iterator = self.data_pass = None
        expected = _data_pass.length_of(state.dataloader) if votes is None else None
        if expected:
            self.forecast = state.epoch_length = expected

    def agree_on_length(self, state: State) -> None:
        """Use the length of the epoch that the votes of the ranks have."""
        if self._votes is not None and not self.keeps_length:
            self.has_agreed_length = self._votes.length is not None
            self.forecast = state.epoch_length = self._votes.length

    def end_epoch(self, state: State, *, early: bool) -> int:
        """End the epoch and return its number of iterations."""
        done = self.done(state)
        self._report_missing_output(state)
        if not early and not self.keeps_length and (done or state.epoch_length is None):
            self.forecast = state.epoch_length = done
        self.in_epoch = False
        self._epoch_random = None
        state.epoch_start = self.stepped = state.iteration
        if self._pending is not None:
            self._pending = {**self._pending, "epoch_iterations": None}
        if early:
            self.iterator = self.data_pass = None
        return done

    def _report_missing_output(self, state: State) -> None:
        """Warn if a loaded epoch ends without an iteration, so that ``EPOCH_COMPLETED`` lacks the output of the last one."""
        reason, self._missing_output = self._missing_output, None
        if reason is not None and state.output is None:
            warnings.warn(
                f"epoch {state.epoch}: state.output is None at EPOCH_COMPLETED, because the run was saved in the last iteration of "
                f"the epoch, and the output of that iteration was not saved: {reason}. Return a smaller or plain output, such as "
                "the loss, from the step",
                GlowplugWarning,
                stacklevel=9,
            )

    def release(self) -> None:
        """Release the iterator, which may own worker processes, and the votes, without which an engine can be copied."""
        self.iterator = self._votes = None

    def done(self, state: State) -> int:
        """Return the number of completed iterations of the epoch."""
        return state.iteration - state.epoch_start

    def begin_pass(self, state: State) -> None:
        """Begin a pass over the data, or restore the pass of a loaded run."""
        pending, self._pending = self._pending, None
        _data_pass.set_epoch(state.dataloader, self._number_of_pass(state))
        if state.dataloader is None:
            self.data_pass, self.iterator = None, repeat(None)
        elif pending is not None and pending["data"] is not None:
            self.data_pass, self.iterator = _data_pass.resumed(
                state.dataloader, state.iteration, pending["data"]
            )
        else:
            self.data_pass = _data_pass.DataPass(state.dataloader, state.iteration)
            self.iterator = self.data_pass.begin()
        if self._votes is not None and not self.keeps_length and not self.has_agreed_length:
            self.iterator = self._votes.together(self.iterator)

    def _number_of_pass(self, state: State) -> int:
        """Return the number of the pass that begins, counted from 0; it does not depend on where the run was resumed."""
        length = _data_pass.length_of(state.dataloader) if self.keeps_length else None
        return state.iteration // length if length else state.epoch - 1

    def end_pass(self) -> None:
        """Release the iterator of an exhausted pass; this also releases the workers of a DataLoader."""
        self.iterator = None
        if self.data_pass is not None:
            self.data_pass.is_over = True

    @property
    def is_pass_over(self) -> bool:
        """Whether the data ended with the last epoch, so that the next epoch begins another pass."""
        return self.iterator is None and self.data_pass is not None and self.data_pass.is_over

    def has_more_data(self) -> bool:
        """Return whether the pass has another batch, and retain the batch for the next iteration; otherwise end the pass."""
        if self.data_pass is None or not self.data_pass.has_exact_length:
            batch = next(self.iterator, _NOTHING)  # type: ignore[arg-type]  # there is a pass
            if batch is not _NOTHING:
                self.iterator = chain((batch,), self.iterator)  # type: ignore[arg-type]  # there is a pass
                return True
        self.end_pass()
        return False

    def has_used_all_data(self, state: State) -> bool:
        """Return whether the pass has yielded ``len(data)`` batches."""
        used = 0 if self.data_pass is None else self.data_pass.used(state.iteration)
        return used > 0 and used == _data_pass.length_of(state.dataloader)

    def replace_data(self, state: State) -> None:
        """Begin a pass over new data; if no position was loaded, the loop later records at which iteration the pass starts."""
        offset_known = self._pending is not None
        if self.done(state) and not self.is_past_forecast:
            # The length of the current epoch does not change.
            self.keeps_length = self.keeps_length or state.epoch_length is not None
            self.has_agreed_length = self.has_agreed_length and not self.keeps_length
        self.begin_pass(state)
        if not offset_known and self.data_pass is not None:
            self.data_pass.first_iteration = None

    def restore_random_state(self) -> None:
        """Restore the loaded random states after the resumed run has called some handlers again."""
        states, self._random_state = self._random_state, None
        if states is not None:
            _rng.restore(states)

    def is_within_loaded_epoch(self) -> bool:
        """Return whether the loaded state was saved within an epoch that the run has not resumed yet."""
        return self._pending is not None and self._pending["epoch_iterations"] is not None

    def has_epoch_to_do(self, state: State) -> bool:
        """Return whether any epoch still has to run, including a loaded epoch whose final events have not fired."""
        if self.is_within_loaded_epoch():
            return not self.is_cut_short(state) and (
                state.max_epochs is None or state.epoch < state.max_epochs
            )
        return not is_done(state, state.epoch, state.max_epochs, state.max_iters)

    def is_cut_short(self, state: State) -> bool:
        """Return whether ``max_iters`` ends the run within an epoch."""
        return state.iteration == state.max_iters and self.done(state) != state.epoch_length

    # Saving and loading

    def saved_iteration(self, state: State) -> int:
        """Return the last completed iteration; a resumed run repeats an iteration that was not completed."""
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
            epoch_iterations = iteration - state.epoch_start
        return {
            "format": _data_pass.FORMAT,
            "epoch": state.epoch - self.in_epoch,
            "epoch_iterations": epoch_iterations,
            "data": data,
            "forecast": self.forecast,
            "epoch_random": self._epoch_random,
            "random": _rng.capture() if self._random_state is None else self._random_state,
            **_values(state),
        }

    def load_state_dict(
        self, state: State, saved: Mapping[str, Any] | None, iteration: int, epoch_length: int | None
    ) -> None:
        """Load a saved position.

        Args:
            state: The state of the engine, which receives the saved output and metrics.
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
        self._missing_output = saved.get("missing_output")
        if "metrics" in saved:
            state.output, state.metrics = saved.get("output"), dict(saved["metrics"])
        # If this entry is missing, the user gave the epoch length.
        self.forecast = saved.get("forecast")
        self.was_terminated = saved.get("terminated", False)
        self.stepped = iteration
        self.was_loaded = True


def reseeded(state_dict: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return an engine's state with other random numbers, which depend only on this state and the number.

    Use this function if several processes load the same state but must not draw the same random numbers, for example if a run
    resumes on more ranks than before.

    Args:
        state_dict: Result of ``Engine.state_dict()``.
        number: A number that differs between the processes, such as the rank.

    Example:
        >>> import random
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: None)
        >>> _ = engine.run([1, 2])
        >>> state = engine.state_dict()
        >>> first, second = (reseeded(state, rank)["resume"]["random"] for rank in (1, 2))
        >>> first["python"] == second["python"]
        False
    """
    resume = state_dict.get("resume")
    if resume is None:
        return dict(state_dict)
    others = {
        name: _rng.reseeded(resume[name], number)
        for name in ("random", "epoch_random")
        if resume.get(name) is not None
    }
    return {**state_dict, "resume": {**resume, **others}}


def _values(state: State) -> dict[str, Any]:
    """Return the output and the metrics that later handlers may read before the next step."""
    metrics = {}
    for name, value in state.metrics.items():
        with suppress(NotPlainError):
            metrics[name] = plain_copy(value)
    try:
        return {"metrics": metrics, "output": plain_copy(state.output)}
    except NotPlainError as error:
        return {"metrics": metrics, "missing_output": str(error)}


def _check_data(data: Iterable[Any] | None, position: Mapping[str, Any] | None, *, repeats: bool) -> None:
    """Check that a pass over data can continue at a position; ``repeats`` tells whether the last batch is needed again."""
    if data is None or position is None:
        return
    _data_pass.check_position(data, position)
    if "data" in position and repeats:
        raise ValueError(
            f"the {type(data).__name__} has already moved past the batch of the iteration that failed"
        )
