"""The engine: one loop over data that fires events."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Generator, Iterable
from contextvars import ContextVar
from time import perf_counter
from typing import Any, TypeAlias

from glowplug.engine._call import check_process_function
from glowplug.engine._handler_table import Channel
from glowplug.engine._optional import runs_others
from glowplug.engine._position import Loop, Resumable
from glowplug.engine._run_plan import check_data, check_length, epoch_length_of, is_done, limits_of
from glowplug.engine._stop import Requests
from glowplug.events import Events
from glowplug.state import RunOutcome, RunStart, State

ProcessFunction: TypeAlias = Callable[[Any, Any], Any]

_running: ContextVar[Engine | None] = ContextVar("glowplug_running_engine", default=None)


_BEFORE_A_STEP = (
    Events.EPOCH_STARTED,
    Events.GET_BATCH_STARTED,
    Events.GET_BATCH_COMPLETED,
    Events.DATALOADER_STOP_ITERATION,
)


class _EndRun(Exception):  # noqa: N818 - a jump out of nested loops, not an error
    """terminate() was called."""


class _EndEpoch(Exception):  # noqa: N818 - the same
    """terminate_epoch() was called."""


class Engine(Resumable, Requests):
    """Calls ``process_function(engine, batch)`` for each batch of data, epoch after epoch, and fires events on the way.

    Args:
        process_function: the step, called as ``f(engine, batch)``; what it returns becomes ``state.output``.

    Raises:
        ValueError: ``None``, or something that cannot be called with these two arguments (E-001, E-002).

    Example:
        >>> from glowplug import Engine, Events
        >>> engine = Engine(lambda engine, batch: 2 * batch)
        >>> @engine.on(Events.ITERATION_COMPLETED)
        ... def show(engine):
        ...     print(engine.state.epoch, engine.state.iteration, engine.state.output)
        >>> state = engine.run([1, 2], max_epochs=2)
        1 1 2
        1 2 4
        2 3 2
        2 4 4
        >>> state.outcome
        <RunOutcome.COMPLETED: 'completed'>
    """

    def __init__(self, process_function: ProcessFunction) -> None:
        check_process_function(process_function)
        super().__init__()
        self._process_function = process_function
        self._drop_requests()
        self._parent: Engine | None = None
        self._logger: logging.Logger | None = None

    @property
    def parent(self) -> Engine | None:
        """The engine in one of whose handlers this one runs; ``None`` outside of such a run."""
        return self._parent

    def run(
        self,
        data: Iterable[Any] | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> State:
        """Run over the data, or go on with a run that has not reached its end (E-090 and following).

        Args:
            data: batches; ``None`` runs the step ``epoch_length`` times an epoch with ``batch=None``.
            max_epochs: where to end, counted from the very first epoch; 1 for a new run that says neither.
            max_iters: the same in iterations; only one of the two can be given.
            epoch_length: iterations per epoch; ``len(data)`` by default, or found out during the first epoch.

        Returns:
            ``engine.state``, the same object each time; ``state.outcome`` tells how the run ended.

        Raises:
            TypeError: ``data`` is not iterable.
            ValueError: limits that contradict each other or the state, empty data, or a call from one of the engine's
                own handlers.

        Example:
            >>> from glowplug import Engine
            >>> Engine(lambda engine, batch: batch).run([1, 2, 3], max_epochs=2).iteration
            6
        """
        if self._is_running:
            raise ValueError(
                "this engine is already running: run() was called from one of its own handlers (E-102). "
                "Use another engine there, or engine.terminate() here and run() again afterwards"
            )
        loop = self._prepare(data, max_epochs, max_iters, epoch_length)
        self._is_running = True
        self._parent = _running.get()
        token = _running.set(self)
        problem: BaseException | None = None
        try:
            self.state.outcome = _advance(loop)
        except BaseException as error:  # noqa: BLE001 - told to the handlers, and raised again below
            self.state.outcome = RunOutcome.FAILED
            problem = self._tell(error)
        finally:
            if self.state.outcome is not RunOutcome.INTERRUPTED:
                self._loop = self._iterator = None
                problem = self._tear_down(problem)
            _running.reset(token)
            self._parent = None
            self._is_running = False
        if problem is not None:
            try:
                raise problem
            finally:
                # Else the traceback would hold this frame, and it the exception, and both the data's workers.
                del problem
        return self.state

    def set_data(self, data: Iterable[Any]) -> None:
        """Take the next batches from other data; the length of an epoch stays (E-117).

        Raises:
            TypeError: ``data`` is not iterable.
        """
        check_data(data)
        if data is None:
            raise TypeError("set_data() needs data to iterate over, got None")
        self.state.dataloader = data
        if self._loop is not None:  # else run() says what the data is
            # A loaded state says how much of the data is used.
            at_its_place = self._resuming is not None
            self._begin_pass()
            if not at_its_place and self._pass is not None:
                self._pass.first_iteration = None

    # Before the loop

    def _prepare(
        self,
        data: Iterable[Any] | None,
        max_epochs: int | None,
        max_iters: int | None,
        epoch_length: int | None,
    ) -> Loop:
        """Check the arguments, and return the loop to run: the suspended one, or one that starts or resumes (E-092)."""
        state = self.state
        check_data(data)
        limits = limits_of(state, max_epochs, max_iters)
        if state.max_epochs is None and state.max_iters is None:  # also how a user forces a new run (E-096)
            fresh = True
        else:  # a loaded state is gone on with even where nothing is left to do (E-185)
            fresh = self._loop is None and not self._was_loaded and is_done(state, *limits)
        if fresh:
            self._start_anew(data, max_epochs, max_iters, epoch_length)
        elif epoch_length not in (None, state.epoch_length) and (state.epoch_length or self._loop):
            raise ValueError(
                f"the epoch_length of this run is {state.epoch_length or 'not known yet'}, and it goes on with that; got "
                f"epoch_length={epoch_length!r}. To start anew, set engine.state.max_epochs = None before run()"
            )
        elif self._loop is None:
            self._resume(data, epoch_length)
        if not fresh:
            state.max_epochs, state.max_iters = limits
        if self._loop is None:
            self._drop_requests()
            state.times = dict.fromkeys(state.times, 0.0)
            self._loop = self._run()
        if fresh:
            state.run_start = RunStart.NEW
        else:
            state.run_start = RunStart.LOADED if self._was_loaded else RunStart.CONTINUED
        self._was_loaded = False
        state.outcome = None
        return self._loop

    def _start_anew(
        self,
        data: Iterable[Any] | None,
        max_epochs: int | None,
        max_iters: int | None,
        epoch_length: int | None,
    ) -> None:
        state = self.state
        length = epoch_length_of(data, epoch_length)
        if length is None and data is None:
            length = state.epoch_length
        check_length(data, length)
        self._loop = self._iterator = self._pass = self._resuming = None
        self._in_epoch = False
        self._epoch_start = self._stepped = 0
        state.iteration = state.epoch = 0
        state.max_epochs = 1 if max_epochs is None and max_iters is None else max_epochs
        state.max_iters = max_iters
        state.epoch_length = length
        state.output = state.batch = None
        state.metrics = {}
        state.dataloader = data
        for channel in self._channels.values():
            channel.firings = 0

    def _resume(self, data: Iterable[Any] | None, epoch_length: int | None) -> None:
        state = self.state
        if state.epoch_length is None:
            length = epoch_length_of(data, epoch_length)
            check_length(data, length)
            state.epoch_length = length
        if self._resuming is not None:
            done = self._resuming["epoch_iterations"] or 0
        elif state.outcome is RunOutcome.FAILED and not self.should_terminate:
            # Such an epoch is gone on with (E-158).
            done = (state.iteration - self._epoch_start) % (state.epoch_length or 1)
        else:  # one that was ended on purpose is not (E-134)
            done = 0
        self._in_epoch = False
        self._epoch_start = state.iteration - done
        self._stepped = state.iteration
        self._pass = None
        state.dataloader = data

    # The loop

    def _run(self) -> Loop:
        """Run the epochs: the one loop of the library. Yields at each interrupt(), returns how the run ended."""
        state, begin, outcome = self.state, perf_counter(), RunOutcome.COMPLETED
        done = state.iteration - self._epoch_start  # of an epoch that is gone on with
        try:
            yield from self._event(Events.STARTED)
            if not self._is_within_loaded_epoch():
                self._restore_random_state()
            while self._has_epoch_to_do():
                state.epoch += 1
                self._in_epoch = True
                epoch_begin = perf_counter()
                ended_early = skip_completed = False
                yield from self._event(Events.EPOCH_STARTED)
                self._begin_epoch(done)
                try:
                    yield from self._iterations()
                except _EndEpoch:
                    ended_early = True
                done, ended_with = 0, self._end_epoch(early=ended_early)
                if ended_early:
                    yield from self._event(Events.TERMINATE_SINGLE_EPOCH, ended_with)
                    skip_completed = self.should_terminate_single_epoch == "skip_epoch_completed"
                    self.should_terminate_single_epoch = False
                state.times["EPOCH_COMPLETED"] = perf_counter() - epoch_begin
                if not skip_completed:
                    yield from self._event(Events.EPOCH_COMPLETED)
                    state.times["EPOCH_COMPLETED"] = perf_counter() - epoch_begin
        except _EndRun:
            if self.should_terminate:  # not so if max_iters was reached
                outcome = RunOutcome.TERMINATED
            self._fire(self._channels[Events.TERMINATE])
        state.times["COMPLETED"] = perf_counter() - begin
        if self.should_terminate != "skip_completed":
            self._fire(self._channels[Events.COMPLETED])
            state.times["COMPLETED"] = perf_counter() - begin
        return outcome

    def _iterations(self) -> Generator[None, None, None]:  # noqa: C901, PLR0912, PLR0915 - the loop stands in one place
        """Run one epoch's iterations: each microsecond counts here, so an event without handlers is only looked at."""
        state, channels, step = self.state, self._channels, self._process_function
        get_started, get_completed = self._batch_channels()
        started, completed = channels[Events.ITERATION_STARTED], channels[Events.ITERATION_COMPLETED]
        end = self._end()
        self._restore_random_state()
        if state.iteration >= end:  # the loaded state is at the end of its epoch
            return
        if self._iterator is None:
            self._begin_pass()
        restarted_at = None
        state.batch = None
        if get_started.heard:
            self._fire(get_started)
            if self._asked:
                end = yield from self._obey(get_started)
        while True:
            data_pass = self._pass
            if data_pass is not None:
                data_pass.begin_at(state.iteration)
            for state.batch in self._iterator:  # type: ignore[union-attr]  # there is a pass
                state.output = None
                if get_completed.heard:
                    self._fire(get_completed)
                    if self._asked:
                        end = yield from self._obey(get_completed)
                state.iteration = iteration = state.iteration + 1
                if started.heard:
                    self._fire(started)
                    if self._asked:
                        end = yield from self._obey(started)
                state.output = step(self, state.batch)
                self._stepped = iteration
                if completed.heard:
                    self._fire(completed)
                if self._asked:
                    end = yield from self._obey(completed)
                if state.iteration >= end:
                    if self._is_cut_short():
                        raise _EndRun
                    return
                state.batch = None  # noqa: PLW2901 - so that the batch is not kept while the next one is got (E-118)
                if get_started.heard:
                    self._fire(get_started)
                    if self._asked:
                        end = yield from self._obey(get_started)
                if self._pass is not data_pass:  # set_data() was called
                    if get_started is not channels[Events.GET_BATCH_STARTED]:  # there was no data
                        yield from self._event(Events.GET_BATCH_STARTED)
                        end = self._end()
                    get_started, get_completed = self._batch_channels()
                    break
            else:
                if not (yield from self._refill(dry=restarted_at == state.iteration)):
                    return
                restarted_at, end = state.iteration, self._end()

    def _batch_channels(self) -> tuple[Channel, Channel]:
        """Return what fires when a batch is got: nothing where there is no data (E-018)."""
        if self.state.dataloader is None:
            return Channel("no data"), Channel("no data")
        return self._channels[Events.GET_BATCH_STARTED], self._channels[Events.GET_BATCH_COMPLETED]

    def _end(self) -> float:
        """Return the iteration after which this epoch, or the run, ends."""
        state = self.state
        end = math.inf if state.epoch_length is None else self._epoch_start + state.epoch_length
        return end if state.max_iters is None else min(end, state.max_iters)

    def _refill(self, *, dry: bool) -> Generator[None, None, bool]:
        """Go on after the end of the data, and return whether there is a new pass to go on with (E-015, E-110)."""
        state, done = self.state, self.state.iteration - self._epoch_start
        if state.epoch_length is None:
            state.epoch_length = done
            if state.max_iters is not None:
                state.max_epochs = math.ceil(state.max_iters / done) if done else state.epoch
            return False
        if dry:
            warnings.warn(
                f"epoch {state.epoch} ends after {done} of {state.epoch_length} iterations: the data "
                f"({type(state.dataloader).__name__}) gives no more batches. A generator can be used only once; give "
                "something that can be iterated anew, or a smaller epoch_length= or max_epochs=",
                stacklevel=5,
            )
            if state.max_epochs is None and not done:  # max_iters would never be reached
                self.terminate()
                raise _EndRun
            return False
        yield from self._event(Events.DATALOADER_STOP_ITERATION)
        self._iterator = None
        self._begin_pass()
        return True

    def _event(self, event: Events, *payload: Any) -> Generator[None, None, None]:
        """Fire an event, and do what its handlers asked for."""
        channel = self._channels[event]
        if payload:
            with self._firing(channel) as calls:
                for call in calls:
                    call(self, *payload)
        else:
            self._fire(channel)
        if self._asked:
            yield from self._obey(channel)

    def _obey(self, channel: Channel) -> Generator[None, None, float]:
        """Do what terminate(), terminate_epoch() or interrupt() asked for, in this order (E-137).

        Returns where the epoch ends now: after an interruption the run may go on with another limit (E-139).
        """
        while self._asked:
            if self.should_terminate:
                raise _EndRun
            if self.should_terminate_single_epoch:
                if channel.key in (Events.STARTED, Events.EPOCH_STARTED):
                    raise RuntimeError(
                        f"terminate_epoch() was called at {channel.key}, where no epoch is under way yet; call it at "
                        "one of the iteration events, or use terminate()"
                    )
                if channel.key is Events.EPOCH_COMPLETED:
                    self.should_terminate_single_epoch = False
                elif channel.key is not Events.TERMINATE_SINGLE_EPOCH:
                    raise _EndEpoch
            self._asked = False
            if self.should_interrupt:
                self._fire(self._channels[Events.INTERRUPT])
                self.should_interrupt = False
                yield
        if channel.key in _BEFORE_A_STEP and self._is_cut_short():  # going on was given a lower limit
            raise _EndRun
        return self._end()

    # After the loop

    @runs_others
    def _tell(self, error: BaseException) -> BaseException | None:
        """Tell each EXCEPTION_RAISED handler once, and return what run() has to raise (E-151 to E-156)."""
        suppressed, other = False, None
        with self._firing(self._channels[Events.EXCEPTION_RAISED]) as calls:
            for call in calls:
                try:
                    suppressed |= call(self, error) is True
                except BaseException as raised:  # noqa: BLE001 - the other handlers are told too, then it is raised
                    if raised is not error:
                        other = other or raised
        return other or (None if suppressed else error)

    @runs_others
    def _tear_down(self, problem: BaseException | None) -> BaseException | None:
        """Run all TEARDOWN handlers, and return what run() has to raise: the first problem there was."""
        with self._firing(self._channels[Events.TEARDOWN]) as calls:
            for call in calls:
                try:
                    call(self)
                except BaseException as error:  # the other handlers must run too, then it is raised
                    self.state.outcome = RunOutcome.FAILED
                    if problem is None:
                        problem = error
                    else:
                        self.logger.exception(
                            "a handler of %s failed, after another failure", Events.TEARDOWN
                        )
        return problem

    @property
    def logger(self) -> logging.Logger:
        """The engine's logger, named after its class unless another one is set (E-004)."""
        return self._logger or logging.getLogger(f"{type(self).__module__}.{type(self).__qualname__}")

    @logger.setter
    def logger(self, logger: logging.Logger) -> None:
        self._logger = logger

    def __getstate__(self) -> dict[str, Any]:
        if self._loop is not None:
            raise TypeError(
                "a running or interrupted engine cannot be pickled or copied (E-141): its loop is suspended in the "
                "middle; save engine.state_dict() and load it into a new engine"
            )
        return self.__dict__


@runs_others
def _advance(loop: Loop) -> RunOutcome:
    """Run the loop to its end, or to the next interrupt()."""
    try:
        next(loop)
    except StopIteration as end:
        outcome: RunOutcome = end.value
        return outcome
    except RuntimeError as error:
        if str(error) != "generator raised StopIteration":  # so Python calls one that leaves the loop (E-120)
            raise
        raise RuntimeError(
            "StopIteration was raised by the step or by a handler, where it does not end the data; catch it there, or "
            "call engine.terminate_epoch()"
        ) from error.__cause__
    return RunOutcome.INTERRUPTED
