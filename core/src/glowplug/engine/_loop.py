"""Loop over the epochs and iterations of one run.

The order of events::

    STARTED
      EPOCH_STARTED
        GET_BATCH_STARTED
        DATALOADER_STOP_ITERATION (the data ended, in this or in the previous epoch; a new pass begins)
        GET_BATCH_COMPLETED, ITERATION_STARTED, <step>, ITERATION_COMPLETED
        ...
        TERMINATE_SINGLE_EPOCH (terminate_epoch() was called)
      EPOCH_COMPLETED
      ...
    TERMINATE (terminate() was called, or max_iters was reached within an epoch)
    COMPLETED

INTERRUPT fires after the event at which ``interrupt()`` was called. ``Engine.run`` fires EXCEPTION_RAISED and TEARDOWN.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator
from time import perf_counter
from typing import Any

from glowplug.engine._call import describe_handler
from glowplug.engine._channel import Channel
from glowplug.engine._data_pass import length_of
from glowplug.engine._deferred import check_result
from glowplug.engine._handler_table import HandlerTable
from glowplug.engine._position import RunPosition
from glowplug.engine._stop import SlowPath, StopRequests
from glowplug.engine._votes import VOTING_EVENTS, Votes
from glowplug.events import Events
from glowplug.exceptions import GlowplugWarning
from glowplug.state import RunOutcome, State

ITERATION_EVENTS = (
    Events.GET_BATCH_STARTED,
    Events.GET_BATCH_COMPLETED,
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
)
_BEFORE_A_STEP = (
    Events.EPOCH_STARTED,
    Events.GET_BATCH_STARTED,
    Events.GET_BATCH_COMPLETED,
    Events.DATALOADER_STOP_ITERATION,
)


class _EndRun(Exception):  # noqa: N818 - a jump out of nested loops, not an error
    """The run ends here."""


class _EndEpoch(Exception):  # noqa: N818 - also a jump, not an error
    """The epoch ends here."""


class Loop:
    """Run the epochs of an engine; one loop serves all runs of the engine.

    Args:
        channels: The events of the engine.
        position: The position of the run, updated by the loop.
        stop: The stop requests of handlers.
        slow_path: Indicates whether an iteration does more than call the step.
    """

    # Set only while the loop runs, so that a suspended loop does not keep its engine alive.
    engine: HandlerTable
    # The votes of the ranks; None if requests take effect at once.
    votes: Votes | None = None

    def __init__(
        self,
        channels: dict[Any, Channel],
        position: RunPosition,
        stop: StopRequests,
        slow_path: SlowPath,
    ) -> None:
        self._channels = channels
        self._position = position
        self._stop = stop
        self._slow_path = slow_path
        self._iteration_channels = tuple(map(channels.__getitem__, ITERATION_EVENTS))

    def run(self, step: Callable[[Any, Any], Any]) -> Generator[None, None, RunOutcome]:
        """Run the epochs with this process function, yield at each interruption, and return how the run ended."""
        self._step = step
        state, position, begin = self.engine.state, self._position, perf_counter()
        is_cut_short, done = position.was_terminated, position.done(state)
        try:
            if self._fire(Events.STARTED):
                yield from self._handle_stop(Events.STARTED)
            if not position.is_within_loaded_epoch():
                position.restore_random_state()
            while not is_cut_short and position.has_epoch_to_do(state):
                yield from self._epoch(state, done)
                done = 0
        except _EndRun:
            is_cut_short = True
        # Release the iterator, which may own worker processes.
        position.iterator = None
        # If no end was requested, max_iters was reached within an epoch.
        is_terminated = is_cut_short and (self._stop.run or position.was_terminated)
        if is_cut_short:
            self._fire(Events.TERMINATE)
        state.times["COMPLETED"] = perf_counter() - begin
        if self._stop.run != "skip_completed":
            self._fire(Events.COMPLETED)
            state.times["COMPLETED"] = perf_counter() - begin
        return RunOutcome.TERMINATED if is_terminated else RunOutcome.COMPLETED

    def _epoch(self, state: State, done: int) -> Generator[None, None, None]:
        """Run one epoch, of which ``done`` iterations are already completed."""
        state.epoch += 1
        self._position.in_epoch = True
        state.epoch_start = state.iteration - done
        if self._channels[Events.EPOCH_STARTED].has_handlers:
            self._position.repeat_random_state()
        begin, ended_early, skip_completed = perf_counter(), False, False
        if self._fire(Events.EPOCH_STARTED):
            yield from self._handle_stop(Events.EPOCH_STARTED)
        self._position.begin_epoch(state, done, self.votes)
        try:
            yield from self._iterations(state)
        except _EndEpoch:
            ended_early = True
        done = self._position.end_epoch(state, early=ended_early)
        if ended_early:
            if self._fire(Events.TERMINATE_SINGLE_EPOCH, done):
                yield from self._handle_stop(Events.TERMINATE_SINGLE_EPOCH)
            skip_completed = self._stop.epoch == "skip_epoch_completed"
            self._stop.epoch = False
        state.times["EPOCH_COMPLETED"] = perf_counter() - begin
        if not skip_completed:
            if self._fire(Events.EPOCH_COMPLETED):
                yield from self._handle_stop(Events.EPOCH_COMPLETED)
            state.times["EPOCH_COMPLETED"] = perf_counter() - begin

    def _iterations(self, state: State) -> Generator[None, None, None]:  # noqa: C901, PLR0912, PLR0915 - keep the whole loop in one function
        """Run the iterations of one epoch; without handlers, an iteration does little more than call the step."""
        step = self._step if self._slow_path.is_step_checked else self._first_step
        position, stop, slow_path = self._position, self._stop, self._slow_path
        started, completed = (
            self._channels[Events.ITERATION_STARTED],
            self._channels[Events.ITERATION_COMPLETED],
        )
        get_started, get_completed = self._batch_channels()
        if not self._begin_data(state):
            return
        state.batch = None
        if get_started.has_handlers and self._fire(Events.GET_BATCH_STARTED):
            yield from self._handle_stop(Events.GET_BATCH_STARTED)
        if position.iterator is None:
            yield from self._begin_next_pass(state)
        # The first iteration checks the output of the step; later iterations call the step directly.
        end, restarted_at = self._end() if slow_path.is_step_checked else state.iteration + 1, None
        while True:
            stop.has_new_data = False
            if position.data_pass is not None:
                position.data_pass.begin_at(state.iteration)
            slow_path.is_on = stop.is_pending or any(
                channel.has_handlers for channel in self._iteration_channels
            )
            try:
                for state.batch in position.iterator:  # type: ignore[union-attr]  # a pass has begun
                    state.output = None
                    if slow_path.is_on:
                        if get_completed.has_handlers:
                            self.engine._fire(get_completed)
                            if stop.is_pending:
                                end = yield from self._handle_stop(Events.GET_BATCH_COMPLETED)
                        state.iteration = iteration = state.iteration + 1
                        if started.has_handlers:
                            self.engine._fire(started)
                            if stop.is_pending:
                                end = yield from self._handle_stop(Events.ITERATION_STARTED)
                    else:
                        state.iteration = iteration = state.iteration + 1
                    state.output = step(self.engine, state.batch)
                    position.stepped = iteration
                    if slow_path.is_on:
                        # Without the call of _fire, handlers with every= filters cost half as much between two of their runs.
                        if completed.has_handlers and not completed.due > state.iteration > completed.seen:
                            self.engine._fire(completed)
                        if stop.is_pending:
                            end = yield from self._handle_stop(Events.ITERATION_COMPLETED)
                    elif state.iteration < end:
                        state.batch = None  # noqa: PLW2901
                        continue
                    if state.iteration >= end:
                        step, end = self._step, self._end()
                        if self.votes is not None:
                            self.votes.at_iteration(state.iteration, is_last=state.iteration >= self._last())
                            position.agree_on_length(state)
                            end = self._end()
                            if stop.is_pending:
                                end = yield from self._handle_stop(Events.ITERATION_COMPLETED)
                        if state.iteration >= self._last():
                            if not self._exceeds_length(state):
                                return
                            state.batch = None  # noqa: PLW2901
                            if get_started.has_handlers and self._fire(Events.GET_BATCH_STARTED):
                                yield from self._handle_stop(Events.GET_BATCH_STARTED)
                            end = self._end()
                            break
                    # Release the batch before the next one is fetched.
                    state.batch = None  # noqa: PLW2901
                    if get_started.has_handlers:
                        self.engine._fire(get_started)
                    if stop.is_pending:
                        end = yield from self._handle_stop(Events.GET_BATCH_STARTED)
                        if stop.has_new_data:
                            break
                else:
                    if not (yield from self._refill(state, dry=restarted_at == state.iteration)):
                        return
                    restarted_at, end = state.iteration, self._end()
                    continue
            except StopIteration as error:
                raise _misplaced() from error
            # The next batches come from other data. GET_BATCH_STARTED has not fired yet if the run had no data before.
            if get_started is not self._channels[Events.GET_BATCH_STARTED]:
                if self._fire(Events.GET_BATCH_STARTED):
                    yield from self._handle_stop(Events.GET_BATCH_STARTED)
                end = self._end()
            get_started, get_completed = self._batch_channels()

    def _first_step(self, engine: HandlerTable, batch: Any) -> Any:
        """Call the step for the first time; raise an error if it returns a coroutine or generator."""
        output = check_result(
            self._step(engine, batch), lambda: f"process_function {describe_handler(self._step)}"
        )
        self._slow_path.is_step_checked = True
        return output

    def _begin_data(self, state: State) -> bool:
        """Prepare the data of an epoch and return whether any iterations remain."""
        position = self._position
        position.restore_random_state()
        # A loaded epoch may be complete.
        is_complete = state.epoch_length is not None and position.done(state) >= state.epoch_length
        if is_complete and position.keeps_length:
            return False
        if position.iterator is None and not position.is_pass_over:
            position.begin_pass(state)
        if is_complete and position.has_agreed_length:
            self._discard_rest(state)
            return False
        return not is_complete or self._has_more_data(state)

    def _begin_next_pass(self, state: State) -> Generator[None, None, None]:
        """Begin the next pass over the data, unless a handler sets other data."""
        if self._fire(Events.DATALOADER_STOP_ITERATION):
            yield from self._handle_stop(Events.DATALOADER_STOP_ITERATION)
        if self._position.iterator is None:
            self._position.begin_pass(state)

    def _exceeds_length(self, state: State) -> bool:
        """Return whether the epoch continues beyond its expected length because the data has more batches."""
        position = self._position
        if state.iteration == state.max_iters and position.is_cut_short(state):
            raise _EndRun
        if not position.keeps_length:
            if position.has_agreed_length:
                self._discard_rest(state)
                return False
            return self._has_more_data(state)
        if position.has_used_all_data(state):
            # Release the workers of a DataLoader.
            position.has_more_data()
        return False

    def _has_more_data(self, state: State) -> bool:
        """Return whether the data has more batches than expected."""
        position = self._position
        if not position.has_more_data():
            return False
        if state.iteration == state.max_iters:
            raise _EndRun
        position.is_past_forecast = True
        self._warn_about_length(state, "more")
        return True

    def _discard_rest(self, state: State) -> None:
        """End a pass at the length on which the ranks agreed."""
        position = self._position
        # Asking for another batch releases the workers of a DataLoader.
        if position.has_used_all_data(state) and position.has_more_data():
            self._warn_about_length(state, "more")
        position.end_pass()

    def _warn_about_length(self, state: State, found: str) -> None:
        """Warn once per run that ``len()`` of the data is wrong; do not warn if the data has no length."""
        expected = length_of(state.dataloader)
        if expected is not None and not self._position.has_warned:
            self._position.has_warned = True
            warnings.warn(
                f"epoch {state.epoch}: len() of the {type(state.dataloader).__name__} is {expected}, but the data has {found} "
                "batches; the epoch ends when the data ends. Correct __len__(), or pass the number of iterations to run() as "
                "epoch_length",
                GlowplugWarning,
                stacklevel=8,
            )

    def _batch_channels(self) -> tuple[Channel, Channel]:
        """Return the channels of the two GET_BATCH events; in a run without data, these events do not fire."""
        if self.engine.state.dataloader is None:
            return Channel("no data"), Channel("no data")
        return self._channels[Events.GET_BATCH_STARTED], self._channels[Events.GET_BATCH_COMPLETED]

    def _end(self) -> float:
        """Return the iteration after which the loop has more to do: a vote, or the expected end of the epoch or the run."""
        end = self._last()
        return end if self.votes is None else min(end, self.votes.due)

    def _last(self) -> float:
        """Return the iteration after which this epoch or the run is expected to end."""
        state, position = self.engine.state, self._position
        is_open = state.epoch_length is None or position.is_past_forecast
        end = math.inf if is_open else state.epoch_start + state.epoch_length  # type: ignore[operator]  # there is a length
        return end if state.max_iters is None else min(end, state.max_iters)

    def _refill(self, state: State, *, dry: bool) -> Generator[None, None, bool]:
        """Handle the end of the data and return whether a new pass began."""
        position, done = self._position, self._position.done(state)
        if self.votes is not None and (dry or position.has_agreed_length):
            raise RuntimeError(
                f"epoch {state.epoch}: the data of this rank ended after {done} of {state.epoch_length} batches, while other ranks "
                f"may still wait for this rank. Correct __len__() of the {type(state.dataloader).__name__}, or pass data without "
                "__len__(), so that the ranks agree on each batch"
            )
        if position.keeps_length and not dry:
            position.iterator = None
            yield from self._begin_next_pass(state)
            return True
        position.end_pass()
        if dry or (not done and state.epoch_length):
            self._warn_about_exhausted_data(state, done)
        elif state.epoch_length is None:
            if state.max_iters is not None:
                state.max_epochs = math.ceil(state.max_iters / done) if done else state.epoch
        elif not position.is_past_forecast:
            self._warn_about_length(state, str(done))
        return False

    def _warn_about_exhausted_data(self, state: State, done: int) -> None:
        warnings.warn(
            f"epoch {state.epoch} ends after {done} of {state.epoch_length} iterations: the data "
            f"({type(state.dataloader).__name__}) yields no more batches. An iterator, such as a generator, can be used only "
            "once. Pass data that can be iterated over again, or reduce epoch_length or max_epochs",
            GlowplugWarning,
            stacklevel=8,
        )
        if state.max_iters is not None and not done:
            # The run would never reach max_iters.
            self._stop.run = True
            raise _EndRun

    def _fire(self, event: Events, *payload: Any) -> bool:
        """Fire an event and return whether a stop is requested; the events of an iteration use a faster path."""
        channel = self._channels[event]
        try:
            if payload:
                self.engine._fire_with(channel, *payload)
            else:
                self.engine._fire(channel)
        except StopIteration as error:
            raise _misplaced() from error
        if self.votes is not None and event in VOTING_EVENTS:
            self._vote(event)
        return self._stop.is_pending

    def _vote(self, event: Events) -> None:
        """Let the ranks agree on the requests of an event and, at the start of an epoch, on the length of the epoch."""
        state, votes = self.engine.state, self.votes
        assert votes is not None  # noqa: S101 - checked by the caller
        if event is Events.EPOCH_STARTED:
            length = self._position.length_of_epoch(state)
            votes.at_epoch_start(state.epoch, state.iteration, self._position.done(state), length)
        else:
            votes.at_event(event, state.epoch)

    def _handle_stop(self, event: Events) -> Generator[None, None, float]:
        """Handle requests: terminate() first, then terminate_epoch(), then interrupt().

        Returns:
            The number of the iteration after which the epoch ends. Continuing an interrupted run with another limit changes this
            number.
        """
        stop = self._stop
        while True:
            if stop.run:
                raise _EndRun
            if stop.epoch:
                if event in (Events.STARTED, Events.EPOCH_STARTED):
                    raise RuntimeError(
                        f"terminate_epoch() was called at {event}, before the first iteration of an epoch. To end the epoch, "
                        "call terminate_epoch() at an iteration event; to end the run, call terminate()"
                    )
                if event is Events.EPOCH_COMPLETED:
                    stop.epoch = False
                elif event is not Events.TERMINATE_SINGLE_EPOCH:
                    raise _EndEpoch
            stop.is_pending = stop.has_new_data
            if not stop.interrupt:
                break
            if self.votes is not None:
                # The ranks vote again, because only some of them may withdraw the request.
                stop.interrupt = False
                stop.request("interrupt", True)
            self._fire(Events.INTERRUPT)
            # A handler may have withdrawn the request.
            if stop.interrupt:
                stop.interrupt = False
                yield
        # An interrupted run may continue with a lower limit.
        if event in _BEFORE_A_STEP and self._position.is_cut_short(self.engine.state):
            raise _EndRun
        return self._end()


def _misplaced() -> RuntimeError:
    """Return the error that replaces a StopIteration, whose origin Python would not report."""
    return RuntimeError(
        "the step or a handler raised StopIteration; catch this exception in the step or handler. To end the epoch, call "
        "engine.terminate_epoch() instead"
    )
