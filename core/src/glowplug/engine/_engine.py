"""Engine: runs a process function and holds the state of its runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

from glowplug.distributed import world_size
from glowplug.engine._call import check_process_function
from glowplug.engine._handler_table import HandlerTable
from glowplug.engine._loop import Loop
from glowplug.engine._optional import mark_as_foreign
from glowplug.engine._position import RunPosition
from glowplug.engine._rank_watch import explain, watched
from glowplug.engine._run_plan import (
    RunKind,
    RunPlan,
    check_data,
    check_rank_options,
    check_state_dict,
    plan_run,
    position_of,
)
from glowplug.engine._stop import EpochEnd, RunEnd, StopRequests
from glowplug.engine._votes import Votes
from glowplug.events import Events
from glowplug.exceptions import PreemptionExit
from glowplug.state import RunOutcome, RunStart, State

ProcessFunction: TypeAlias = Callable[[Any, Any], Any]

_running: ContextVar[Engine | None] = ContextVar("glowplug_running_engine", default=None)


class Engine(HandlerTable):
    """Run a process function over data, epoch after epoch, and fire events.

    Args:
        process_function: The step, a function that is called as ``f(engine, batch)`` for each batch. Its return value becomes
            ``state.output``. If it is an object whose class has a method ``attach(engine)``, the engine calls this method.

    Raises:
        ValueError: If ``process_function`` cannot be called as ``f(engine, batch)``.
        TypeError: If ``process_function`` is an ``async`` function or a generator function, because a call would not run its
            code. ``run()`` raises ``TypeError`` at the first iteration if ``process_function`` returns a coroutine or generator.

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

    # Class attributes keep the constructor fast.
    _is_running = False
    _loop: Loop | None = None
    # The current run; after interrupt(), it is suspended until the next call of run().
    _progress: Generator[None, None, RunOutcome] | None = None
    _parent: Engine | None = None
    _logger: logging.Logger | None = None

    def __init__(self, process_function: ProcessFunction) -> None:
        check_process_function(process_function)
        super().__init__()
        self._process_function = process_function
        self._stop = StopRequests(self._slow_path)
        self._position = RunPosition()
        self.state_dict_user_keys: list[str] = []
        # The attribute of the class, because a mock has every attribute.
        attach: Callable[[ProcessFunction, Engine], object] | None = getattr(
            type(process_function), "attach", None
        )
        if attach is not None:
            attach(process_function, self)

    @property
    def parent(self) -> Engine | None:
        """The engine whose step or handler called this engine's ``run()``; ``None`` outside such a call."""
        return self._parent

    def run(
        self,
        data: Iterable[Any] | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
        *,
        agree_every: int | None = None,
        uneven: Literal["shortest", "error"] = "shortest",
    ) -> State:
        """Start a new run, or continue a run that has not reached its limit.

        If an exception ended the last run within an epoch, this run continues after the last completed iteration. If the data
        cannot be resumed at this iteration, the epoch starts again from its beginning, and :attr:`logger` reports the reason. A
        run with ``max_epochs=1`` does not continue after an exception; a new run starts instead.

        Args:
            data: The batches. If ``None``, the step is called ``epoch_length`` times per epoch with ``batch=None``.
            max_epochs: Total number of epochs. If the run continues, the epochs that are already completed count too. Defaults
                to 1 for a new run without ``max_iters``.
            max_iters: Total number of iterations. If the run continues, the iterations that are already completed count too.
                Cannot be combined with ``max_epochs``.
            epoch_length: Number of iterations per epoch. If the data has more than ``epoch_length`` batches, the next epoch
                continues with the remaining batches. If the data has fewer than ``epoch_length`` batches, another pass over the
                data begins within the epoch. By default, each epoch is one pass over the data.
            agree_every: With several ranks, the number of iterations between two votes, in which the ranks agree on stop requests.
                By default, the number follows from the time of an iteration: votes take at most 1 % of the time, and a request
                takes effect within a second. Pass 0 if only some ranks run this engine: a request then takes effect at once, on
                this rank. With one rank, there are no votes.
            uneven: What happens if the ranks have different numbers of batches. ``"shortest"`` ends each epoch on all ranks with
                the shortest data, with one warning, because ranks that continued would wait for the others in the collective
                operations of the step. If the iterations contain no such operations, as in most evaluations, each rank uses all
                its batches. ``"error"`` raises ``ValueError`` on all ranks.

        Returns:
            ``engine.state``, which is always the same object. Its attribute ``outcome`` shows how the run ended.

        Raises:
            TypeError: If ``data`` is not iterable.
            ValueError: If ``max_epochs``, ``max_iters`` or ``epoch_length`` is not an integer of at least 1, if both
                ``max_epochs`` and ``max_iters`` are given, or if ``agree_every`` or ``uneven`` is invalid. ``run()`` also raises
                ``ValueError`` if an argument conflicts with the run that is to be continued, or if the engine is already running.
                ``run()`` raises ``ValueError`` as well if ``len(data)`` is 0, or if ``data`` is ``None`` and the epoch length is
                unknown.
            RankFailedError: If the run ended because another rank failed.

        Example:
            >>> from glowplug import Engine
            >>> Engine(lambda engine, batch: batch).run([1, 2, 3], max_epochs=2).iteration
            6
        """
        if self._is_running:
            raise ValueError(
                "this engine is already running, so its step and handlers cannot call run(). Use another engine in the step or "
                "handler. Alternatively, call engine.terminate(), and call run() again after the current run() has returned"
            )
        check_rank_options(agree_every, uneven)
        parent = _running.get()
        # An engine within the run of one rank alone does not wait for other ranks either.
        is_alone = parent is not None and not parent._stop.needs_vote  # noqa: SLF001 - also an engine
        if world_size() == 1 or agree_every == 0 or (agree_every is None and is_alone):
            return self._run(None, data, max_epochs, max_iters, epoch_length)
        with watched(self) as watch:
            # An interrupted run continues its votes.
            former = None if self._progress is None or self._loop is None else self._loop.votes
            votes = former or Votes(self._stop)
            votes.begin(watch, agree_every, fails_if_uneven=uneven == "error")
            return self._run(votes, data, max_epochs, max_iters, epoch_length)

    def _run(
        self,
        votes: Votes | None,
        data: Iterable[Any] | None,
        max_epochs: int | None,
        max_iters: int | None,
        epoch_length: int | None,
    ) -> State:
        self._stop.needs_vote = votes is not None
        self._prepare(data, max_epochs, max_iters, epoch_length)
        self._loop.votes = votes  # type: ignore[union-attr]  # _prepare() created the loop
        self._is_running = True
        self._parent = _running.get()
        if self._parent is not None:
            self._stateful.share_with(self._parent._stateful)  # noqa: SLF001 - also an engine
        token = _running.set(self)
        problem: BaseException | None = None
        try:
            self.state.outcome = self._advance()
        except BaseException as error:  # noqa: BLE001 - passed to the handlers and raised below
            self.current_event = None
            problem = self._handle_end(self._explain(error))
        finally:
            # A run that a handler interrupted is suspended.
            if problem is not None or self.state.outcome is not RunOutcome.INTERRUPTED:
                self._progress = None
                self._position.release()
                problem = self._tear_down(problem)
                self._loop.votes = None  # type: ignore[union-attr]  # _prepare() created the loop
            _running.reset(token)
            self._parent = self._stateful.outer = None
            self._is_running = False
        if problem is not None:
            mark_as_foreign(problem)
            try:
                raise problem
            finally:
                # Break the reference cycle of exception, traceback and frame, which would keep the data's workers alive.
                del problem
        return self.state

    def set_data(self, data: Iterable[Any]) -> None:
        """Take the next batches from other data; the length of the current epoch does not change.

        Each later epoch is one pass over the new data, unless ``run()`` was called with ``epoch_length``.

        Raises:
            TypeError: If ``data`` is not iterable.
        """
        check_data(data)
        if data is None:
            raise TypeError("set_data() needs an iterable, got None")
        self.state.dataloader = data
        # If no run is in progress, there is no pass to replace; the next run() begins one.
        if self._progress is not None:
            self._position.replace_data(self.state)
            self._stop.request("has_new_data", True)

    # Stopping

    def terminate(self, skip_completed: bool = False) -> None:
        """Request the end of the run; the run ends after the handlers of the current event.

        Args:
            skip_completed: Whether to omit the event ``COMPLETED``. The events ``TERMINATE`` and ``TEARDOWN`` always fire.
        """
        self._stop.request("run", "skip_completed" if skip_completed else True)

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """Request the end of the current epoch; the epoch ends after the handlers of the current event.

        Args:
            skip_epoch_completed: Whether to omit the event ``EPOCH_COMPLETED``.
        """
        self._stop.request("epoch", "skip_epoch_completed" if skip_epoch_completed else True)

    def interrupt(self) -> None:
        """Interrupt the run after the handlers of the current event; the next call of ``run()`` continues from that point."""
        self._stop.request("interrupt", True)

    @property
    def should_terminate(self) -> RunEnd:
        """Whether the end of the run is requested. Assign ``True`` to request the end of the run."""
        value: RunEnd = self._stop.requested("run")
        return value

    @should_terminate.setter
    def should_terminate(self, value: RunEnd) -> None:
        self._stop.request("run", value)

    @property
    def should_terminate_single_epoch(self) -> EpochEnd:
        """Whether the end of the epoch is requested. Assign ``True`` to request the end of the epoch."""
        value: EpochEnd = self._stop.requested("epoch")
        return value

    @should_terminate_single_epoch.setter
    def should_terminate_single_epoch(self, value: EpochEnd) -> None:
        self._stop.request("epoch", value)

    @property
    def should_interrupt(self) -> bool:
        """Whether an interruption is requested. Assign ``True`` to request an interruption."""
        return bool(self._stop.requested("interrupt"))

    @should_interrupt.setter
    def should_interrupt(self, value: bool) -> None:
        self._stop.request("interrupt", value)

    # Saving and loading

    def state_dict(self) -> dict[str, Any]:
        """Return a state from which a later run can continue with the next batch.

        The result contains counters, limits, the state attributes named in ``state_dict_user_keys``, the states of stateful
        handlers, the position in the data, and the states of the random number generators. ``torch.load(weights_only=True)``
        can load the result. If the step of the current iteration has not completed, the result describes the state before that
        iteration.

        Example:
            >>> from glowplug import Engine
            >>> engine = Engine(lambda engine, batch: batch)
            >>> _ = engine.run([1, 2], max_epochs=3)
            >>> state = engine.state_dict()
            >>> state["iteration"], state["epoch_length"], state["max_epochs"], state["resume"]["epoch"]
            (6, 2, 3, 3)
        """
        state = self.state
        limit = "max_epochs" if state.max_iters is None else "max_iters"
        handlers = self._stateful.state_dict(self)
        iteration = self._position.saved_iteration(state)
        has_begun = iteration or state.epoch or state.epoch_length is not None
        resume = self._position.state_dict(state)
        # Mark only a run that was terminated between epochs; a run that was terminated within an epoch can continue there.
        resume["terminated"] = resume["epoch_iterations"] is None and (
            bool(self._stop.requested("run")) or self._position.was_terminated
        )
        return {
            # load_state_dict() does not accept an epoch length of 0.
            "epoch_length": state.epoch_length or None,
            "iteration": iteration,
            limit: getattr(state, limit),
            **{key: getattr(state, key) for key in self.state_dict_user_keys},
            **({"handlers": handlers} if handlers else {}),
            **({"resume": resume} if has_begun else {}),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state that :meth:`state_dict` returned, so that the next run continues from it.

        Args:
            state_dict: A mapping that contains ``epoch_length``, either ``iteration`` or ``epoch``, either ``max_epochs`` or
                ``max_iters``, and all keys in ``state_dict_user_keys``. The keys ``handlers`` and ``resume`` are optional. Other
                keys are ignored.

        Raises:
            TypeError: If ``state_dict`` is not a mapping.
            ValueError: If a required key is missing, if two mutually exclusive keys are present, if a number is invalid or
                contradicts another number, if an incompatible version of glowplug wrote the state, or if the state of a handler
                does not fit it. After each of these errors, the engine is unchanged, but handlers that come before this handler
                have loaded their states.
            RuntimeError: If the engine is running.
        """
        if self._is_running:
            raise RuntimeError(
                "load_state_dict() was called while this engine is running; call it before run(), or call engine.terminate() "
                "and load the state after run() returns"
            )
        check_state_dict(state_dict, self.state_dict_user_keys)
        iteration, epoch = position_of(state_dict)
        state = self.state
        # The first step that can fail, so that the engine itself is never loaded in part.
        self._stateful.load_state_dict(state_dict.get("handlers", {}))
        self._progress = None
        self._position.load_state_dict(state, state_dict.get("resume"), iteration, state_dict["epoch_length"])
        state.epoch_length = state_dict["epoch_length"]
        state.iteration, state.epoch = iteration, epoch
        state.max_epochs, state.max_iters = state_dict.get("max_epochs"), state_dict.get("max_iters")
        state.outcome = None
        for key in self.state_dict_user_keys:
            setattr(state, key, state_dict[key])

    # Before and after the loop

    def _prepare(
        self,
        data: Iterable[Any] | None,
        max_epochs: int | None,
        max_iters: int | None,
        epoch_length: int | None,
    ) -> None:
        """Check the arguments of ``run()``, and create a loop unless an interrupted run continues."""
        state, position = self.state, self._position
        # A preempted run continues like a failed one; an interrupted one is suspended.
        is_broken = state.outcome in {RunOutcome.FAILED, RunOutcome.INTERRUPTED} and self._progress is None
        # After terminate(), the epoch has ended even if a later handler fails.
        has_failed = is_broken and not self._stop.run
        plan = plan_run(
            state,
            data,
            max_epochs,
            max_iters,
            epoch_length,
            forecast=position.forecast,
            is_suspended=self._progress is not None,
            was_loaded=position.was_loaded,
            has_open_epoch=position.in_epoch and has_failed,
        )
        if plan.kind is RunKind.NEW:
            self._start_new(plan, data)
            state.run_start = RunStart.NEW
        else:
            state.run_start = RunStart.LOADED if position.was_loaded else RunStart.CONTINUED
        if plan.kind is RunKind.CONTINUED:
            state.epoch_length = plan.epoch_length
            reason = position.start_again(state, data, within_epoch=has_failed)
            if reason is not None:
                self.logger.warning(reason)
            state.dataloader = data
        former = state.max_epochs if plan.max_iters is None else state.max_iters
        position.forecast = plan.forecast
        state.max_epochs, state.max_iters = plan.max_epochs, plan.max_iters
        if plan.kind is RunKind.CONTINUED:
            self._report_finished(former)
        if self._progress is None:
            self._stop.clear()
            state.times = dict.fromkeys(state.times, 0.0)
            if self._loop is None:
                self._loop = Loop(self._channels, self._position, self._stop, self._slow_path)
            self._progress = self._loop.run(self._process_function)
        position.was_loaded = False
        state.outcome = None

    def _report_finished(self, former: int | None) -> None:
        """Log a warning if a loaded run has nothing left to do; say how to continue the run or start a new one."""
        state, position = self.state, self._position
        name = "max_epochs" if state.max_iters is None else "max_iters"
        limit = getattr(state, name)
        if former is not None and limit is not None and limit > former:
            position.was_terminated = False
        if position.was_terminated or (position.was_loaded and not position.has_epoch_to_do(state)):
            how = "was already terminated" if position.was_terminated else "has already ended"
            self.logger.warning(
                "the loaded run %s after epoch %d (iteration %d), so run() has no iterations left to run. To continue "
                "the loaded run, call run() with %s above %d; to start a new run, set engine.state.%s = None before run()",
                how, state.epoch, state.iteration, name, limit, name,
            )  # fmt: skip

    def _start_new(self, plan: RunPlan, data: Iterable[Any] | None) -> None:
        state = self.state
        self._progress = None
        self._position.start_new(state)
        state.iteration = state.epoch = 0
        state.epoch_length = plan.epoch_length
        state.output = state.batch = None
        state.metrics = {}
        state.dataloader = data
        self._begin_run()

    def _advance(self) -> RunOutcome:
        """Run the loop until it ends or is interrupted."""
        loop, progress = self._loop, self._progress
        loop.engine = self  # type: ignore[union-attr]  # _prepare() created the loop
        try:
            next(progress)  # type: ignore[arg-type]  # _prepare() created the loop
        except StopIteration as end:
            outcome: RunOutcome = end.value
            return outcome
        finally:
            del loop.engine  # type: ignore[union-attr]  # _prepare() created the loop
        return RunOutcome.INTERRUPTED

    def _explain(self, error: BaseException) -> BaseException:
        """Return the exception that the run raises; with several ranks, the cause may be on another rank."""
        return explain(self, error) if self._stop.needs_vote else error

    def _handle_end(self, error: BaseException) -> BaseException | None:
        """Set the outcome of a run that an exception ended, and return the exception that run() raises, if any."""
        problem: BaseException | None = error
        if not isinstance(error, PreemptionExit):
            self.state.outcome = RunOutcome.FAILED
            problem = self._handle_exception(error)
        if isinstance(problem, PreemptionExit):
            self.state.outcome = RunOutcome.INTERRUPTED
        return problem

    def _handle_exception(self, error: BaseException) -> BaseException | None:
        """Call each EXCEPTION_RAISED handler once and return the exception that run() raises, if any."""
        suppressed, other = False, None
        with self._firing(self._channels[Events.EXCEPTION_RAISED]) as calls:
            for call in calls:
                try:
                    suppressed |= call(self, error) is True
                except BaseException as raised:  # noqa: BLE001 - raised after the other handlers have run
                    if raised is not error:
                        other = other or raised
        return other or (None if suppressed else error)

    def _tear_down(self, problem: BaseException | None) -> BaseException | None:
        """Run all TEARDOWN handlers, and return the first exception of the run, if any; ``run()`` raises this exception."""
        channel = self._channels[Events.TEARDOWN]
        if not channel.has_handlers:
            self._fire(channel)
            return problem
        with self._firing(channel) as calls:
            for call in calls:
                try:
                    call(self)
                except BaseException as raised:
                    error = self._explain(raised)
                    is_preempted = isinstance(error, PreemptionExit)
                    self.state.outcome = RunOutcome.INTERRUPTED if is_preempted else RunOutcome.FAILED
                    if problem is None:
                        problem = error
                    else:
                        self.logger.exception(
                            "a handler of %s raised this exception after an earlier exception in the same run; run() raises the "
                            "earlier exception",
                            Events.TEARDOWN,
                        )
        return problem

    @property
    def logger(self) -> logging.Logger:
        """The engine's logger. Defaults to a logger named after the engine's class."""
        return self._logger or logging.getLogger(f"{type(self).__module__}.{type(self).__qualname__}")

    @logger.setter
    def logger(self, logger: logging.Logger) -> None:
        self._logger = logger

    def __getstate__(self) -> dict[str, Any]:
        if self._progress is not None:
            raise TypeError(
                "a running or interrupted engine cannot be pickled or copied, because its run is not finished; save "
                "engine.state_dict() and load it into a new engine"
            )
        return self.__dict__
