"""The engine: one loop over data that fires events."""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from numbers import Integral
from time import perf_counter
from typing import Any, Literal, TypeAlias

from glowplug.dispatch import Channel, Dispatcher
from glowplug.events import Events
from glowplug.state import RunOutcome, State

ProcessFunction: TypeAlias = Callable[[Any, Any], Any]
Loop: TypeAlias = Generator[None, None, RunOutcome]

_running: ContextVar[Engine | None] = ContextVar("glowplug_running_engine", default=None)


class _EndRun(Exception):  # noqa: N818 - a jump out of nested loops, not an error
    """terminate() was called."""


class _EndEpoch(Exception):  # noqa: N818 - the same
    """terminate_epoch() was called."""


class Engine(Dispatcher):
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
        _check_process_function(process_function)
        super().__init__()
        self._process_function = process_function
        self.should_terminate: bool | Literal["skip_completed"] = False
        self.should_terminate_single_epoch: bool | Literal["skip_epoch_completed"] = False
        self.should_interrupt = False
        self._asked = False  # whether any of the three is set: all that the loop looks at
        self.state_dict_user_keys: list[str] = []
        self._iterator: Iterator[Any] | None = None
        self._iterations_done = 0  # of the current epoch
        self._loop: Loop | None = None  # suspended by interrupt()
        self._is_running = False
        self._was_loaded = False
        self._parent: Engine | None = None

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
            raise problem
        return self.state

    def terminate(self, skip_completed: bool = False) -> None:
        """Ask for the end of the run: after the handlers of the current event (E-130, E-131).

        Args:
            skip_completed: do not fire ``COMPLETED``; ``TERMINATE`` and ``TEARDOWN`` fire all the same.
        """
        self.should_terminate = "skip_completed" if skip_completed else True
        self._asked = True

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """Ask for the end of the current epoch: after the handlers of the current event (E-135).

        Args:
            skip_epoch_completed: do not fire ``EPOCH_COMPLETED``.
        """
        self.should_terminate_single_epoch = "skip_epoch_completed" if skip_epoch_completed else True
        self._asked = True

    def interrupt(self) -> None:
        """Ask run() to return after the handlers of the current event; the next run() goes on right there (E-138)."""
        self.should_interrupt = True
        self._asked = True

    def set_data(self, data: Iterable[Any]) -> None:
        """Take the next batches from other data; the length of an epoch stays (E-117).

        Raises:
            TypeError: ``data`` is not iterable.
        """
        _check_data(data)
        self.state.dataloader = data
        self._iterator = iter(data)

    # State of the run

    def state_dict(self) -> dict[str, Any]:
        """Return what a later run needs to go on: counters, limits, the state of stateful handlers (E-180).

        Example:
            >>> from glowplug import Engine
            >>> engine = Engine(lambda engine, batch: batch)
            >>> _ = engine.run([1, 2], max_epochs=3)
            >>> engine.state_dict()
            {'epoch_length': 2, 'iteration': 6, 'max_epochs': 3}
        """
        state = self.state
        limit = "max_epochs" if state.max_iters is None else "max_iters"
        handlers = self._stateful.state_dict()
        return {
            "epoch_length": state.epoch_length,
            "iteration": state.iteration,
            limit: getattr(state, limit),
            **{key: getattr(state, key) for key in self.state_dict_user_keys},
            **({"handlers": handlers} if handlers else {}),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a state that :meth:`state_dict` returned; the next run() goes on from there (E-181, E-182).

        Args:
            state_dict: needs ``epoch_length``, one of ``iteration`` and ``epoch``, one of ``max_epochs`` and
                ``max_iters``, and each of ``state_dict_user_keys``; further keys are ignored.

        Raises:
            TypeError: not a mapping.
            ValueError: a key is missing, or the numbers contradict each other. Nothing has been loaded then.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"an engine's state is a mapping, got {type(state_dict).__name__}")
        for group in (("epoch_length",), ("iteration", "epoch"), ("max_epochs", "max_iters")):
            if sum(key in state_dict for key in group) != 1:
                raise ValueError(
                    f"an engine's state must have exactly one of {' and '.join(group)}; got the keys {list(state_dict)}"
                )
        missing = [key for key in self.state_dict_user_keys if key not in state_dict]
        if missing:
            raise ValueError(
                f"state_dict_user_keys asks for {', '.join(missing)}, which the state does not have; got the keys "
                f"{list(state_dict)}"
            )
        iteration, epoch = _position(state_dict)
        state = self.state
        self._loop = self._iterator = None
        state.epoch_length = state_dict["epoch_length"]
        state.iteration, state.epoch = iteration, epoch
        state.max_epochs, state.max_iters = state_dict.get("max_epochs"), state_dict.get("max_iters")
        state.outcome = None
        self._was_loaded = True
        for key in self.state_dict_user_keys:
            setattr(state, key, state_dict[key])
        self._stateful.load_state_dict(state_dict.get("handlers", {}))

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
        _check_data(data)
        limits = _limits(state, max_epochs, max_iters)
        if state.max_epochs is None and state.max_iters is None:  # also how a user forces a new run (E-096)
            fresh = True
        else:  # a loaded state is gone on with even where nothing is left to do (E-185)
            fresh = self._loop is None and not self._was_loaded and _is_done(state, *limits)
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
            self.should_terminate = self.should_terminate_single_epoch = self.should_interrupt = (
                self._asked
            ) = False
            state.times = dict.fromkeys(state.times, 0.0)
            self._loop = self._run()
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
        length = _epoch_length(data, epoch_length)
        if length is None and data is None:
            length = state.epoch_length
        _check_length(data, length)
        self._loop = self._iterator = None
        self._iterations_done = 0
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
            state.epoch_length = _epoch_length(data, epoch_length)
            _check_length(data, state.epoch_length)
        if self._was_loaded:
            self._iterations_done = state.iteration
        self._iterations_done %= state.epoch_length or 1  # an epoch that failed is gone on with (E-158)
        state.dataloader = data

    # The loop

    def _run(self) -> Loop:
        """Run the epochs: the one loop of the library. Yields at each interrupt(), returns how the run ended."""
        state, begin = self.state, perf_counter()
        try:
            yield from self._event(Events.STARTED)
            while not _is_done(state, state.max_epochs, state.max_iters):
                state.epoch += 1
                epoch_begin = perf_counter()
                yield from self._event(Events.EPOCH_STARTED)
                skip_completed = False
                try:
                    yield from self._iterations()
                except _EndEpoch:
                    self._iterator = None
                    yield from self._event(Events.TERMINATE_SINGLE_EPOCH, self._iterations_done)
                    skip_completed = self.should_terminate_single_epoch == "skip_epoch_completed"
                    self.should_terminate_single_epoch = False
                self._iterations_done = 0
                state.times["EPOCH_COMPLETED"] = perf_counter() - epoch_begin
                if not skip_completed:
                    yield from self._event(Events.EPOCH_COMPLETED)
                    state.times["EPOCH_COMPLETED"] = perf_counter() - epoch_begin
        except _EndRun:
            self._iterations_done = 0  # what is left of this epoch is not made up for (E-134)
            self._fire(self._channels[Events.TERMINATE])
        state.times["COMPLETED"] = perf_counter() - begin
        if self.should_terminate != "skip_completed":
            self._fire(self._channels[Events.COMPLETED])
            state.times["COMPLETED"] = perf_counter() - begin
        return RunOutcome.TERMINATED if self.should_terminate else RunOutcome.COMPLETED

    def _iterations(self) -> Generator[None, None, None]:  # noqa: C901, PLR0912 - the loop stands in one place
        """Run one epoch's iterations: each microsecond counts here, so an event without handlers is only looked at."""
        state, channels, step = self.state, self._channels, self._process_function
        get_started, get_completed = channels[Events.GET_BATCH_STARTED], channels[Events.GET_BATCH_COMPLETED]
        started, completed = channels[Events.ITERATION_STARTED], channels[Events.ITERATION_COMPLETED]
        if self._iterator is None and state.dataloader is not None:
            self._iterator = iter(state.dataloader)
        while self._iterations_done != state.epoch_length:
            if self._iterator is not None:
                state.batch = None
                if get_started.calls:
                    self._fire(get_started)
                    if self._asked:
                        yield from self._obey(get_started)
                try:
                    state.batch = next(self._iterator)
                except StopIteration:
                    if not (yield from self._refill()):
                        return
                state.output = None
                if get_completed.calls:
                    self._fire(get_completed)
                    if self._asked:
                        yield from self._obey(get_completed)
            else:
                state.batch = state.output = None
            state.iteration += 1
            self._iterations_done += 1
            if started.calls:
                self._fire(started)
                if self._asked:
                    yield from self._obey(started)
            state.output = step(self, state.batch)
            if completed.calls:
                self._fire(completed)
            if self._asked:
                yield from self._obey(completed)
            if state.iteration == state.max_iters and self._iterations_done != state.epoch_length:
                raise _EndRun

    def _refill(self) -> Generator[None, None, bool]:
        """Go on after the end of the data, and return whether there is a batch to go on with (E-015, E-110)."""
        state = self.state
        if state.epoch_length is None:
            state.epoch_length = length = self._iterations_done
            if state.max_iters is not None:
                state.max_epochs = math.ceil(state.max_iters / length) if length else state.epoch
            return False
        yield from self._event(Events.DATALOADER_STOP_ITERATION)
        self._iterator = iter(state.dataloader)
        try:
            state.batch = next(self._iterator)
        except StopIteration:
            warnings.warn(
                f"epoch {state.epoch} ends after {self._iterations_done} of {state.epoch_length} iterations: the data "
                f"({type(state.dataloader).__name__}) gives no more batches. A generator can be used only once; give "
                "something that can be iterated anew, or a smaller epoch_length= or max_epochs=",
                stacklevel=5,
            )
            if state.max_epochs is None and not self._iterations_done:  # max_iters would never be reached
                self.terminate()
                raise _EndRun from None
            return False
        return True

    def _event(self, event: Events, *payload: Any) -> Generator[None, None, None]:
        """Fire an event, and do what its handlers asked for."""
        channel = self._channels[event]
        if payload:
            for call in self._due(channel):
                call(self, *payload)
        else:
            self._fire(channel)
        if self._asked:
            yield from self._obey(channel)

    def _obey(self, channel: Channel) -> Generator[None, None, None]:
        """Do what terminate(), terminate_epoch() or interrupt() asked for, in this order (E-137)."""
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

    # After the loop

    def _tell(self, error: BaseException) -> BaseException | None:
        """Tell each EXCEPTION_RAISED handler once, and return what run() has to raise (E-151 to E-156)."""
        suppressed, other = False, None
        for call in self._due(self._channels[Events.EXCEPTION_RAISED]):
            try:
                suppressed |= call(self, error) is True
            except BaseException as raised:  # noqa: BLE001 - the other handlers are told too, then it is raised
                if raised is not error:
                    other = other or raised
        return other or (None if suppressed else error)

    def _tear_down(self, problem: BaseException | None) -> BaseException | None:
        """Run all TEARDOWN handlers, and return what run() has to raise: the first problem there was."""
        for call in self._due(self._channels[Events.TEARDOWN]):
            try:
                call(self)
            except BaseException as error:  # the other handlers must run too, then it is raised
                self.state.outcome = RunOutcome.FAILED
                if problem is None:
                    problem = error
                else:
                    self.logger.exception("a handler of %s failed, after another failure", Events.TEARDOWN)
        return problem

    @property
    def logger(self) -> logging.Logger:
        """The engine's logger, named after its class (E-004)."""
        return logging.getLogger(f"{type(self).__module__}.{type(self).__qualname__}")

    def __getstate__(self) -> dict[str, Any]:
        if self._loop is not None:
            raise TypeError(
                "a running or interrupted engine cannot be pickled or copied (E-141): its loop is suspended in the "
                "middle; save engine.state_dict() and load it into a new engine"
            )
        return self.__dict__


def _advance(loop: Loop) -> RunOutcome:
    """Run the loop to its end, or to the next interrupt()."""
    try:
        next(loop)
    except StopIteration as end:
        outcome: RunOutcome = end.value
        return outcome
    return RunOutcome.INTERRUPTED


def _is_done(state: State, max_epochs: int | None, max_iters: int | None) -> bool:
    if max_iters is not None and state.iteration >= max_iters:
        return True
    if max_epochs is None:
        return False
    if state.epoch_length is not None and state.iteration >= state.epoch_length * max_epochs:
        return True
    return state.epoch >= max_epochs


def _limits(state: State, max_epochs: Any, max_iters: Any) -> tuple[int | None, int | None]:
    """Return the limits that a run with these arguments has (E-095, E-097)."""
    if max_epochs is not None and max_iters is not None:
        raise ValueError(f"give max_epochs or max_iters, not both; got {max_epochs!r} and {max_iters!r}")
    for name, limit, reached in (
        ("max_epochs", max_epochs, state.epoch),
        ("max_iters", max_iters, state.iteration),
    ):
        if limit is None:
            continue
        if not isinstance(limit, Integral) or limit < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {limit!r}")
        mode = None
        if state.max_iters is not None:
            mode = "max_iters"
        elif state.max_epochs is not None:
            mode = "max_epochs"
        if mode not in (None, name):
            raise ValueError(
                f"this engine's run is limited by {mode}={getattr(state, mode)}; to limit it by {name}, start anew: set "
                f"engine.state.{mode} = None before run()"
            )
        if mode and limit < reached:
            raise ValueError(
                f"{name}={limit} is below what the state has reached already, {reached}; give more, or set "
                f"engine.state.{name} = None before run() to start anew"
            )
    if max_epochs is None and max_iters is None:
        return state.max_epochs, state.max_iters
    return max_epochs, max_iters


def _position(state_dict: Mapping[str, Any]) -> tuple[int, int]:
    """Return iteration and epoch of a saved state (E-182, E-183)."""
    least = {"epoch_length": 1, "iteration": 0, "epoch": 0, "max_epochs": 1, "max_iters": 1}
    for name in state_dict.keys() & least.keys():
        value = state_dict[name]
        if value is None and least[name]:  # lengths and limits may be unknown, counters not
            continue
        if not isinstance(value, Integral) or value < least[name]:
            raise ValueError(
                f"{name} of an engine's state must be an integer of at least {least[name]}, got {value!r}"
            )
    length = state_dict["epoch_length"]
    counter = "iteration" if "iteration" in state_dict else "epoch"
    value = state_dict[counter]
    if length is None:
        if value != 0:
            raise ValueError(
                f"an engine's state with epoch_length=None can only be at {counter} 0, got {counter}={value!r}"
            )
        return 0, 0
    iteration, epoch = (value, value // length) if counter == "iteration" else (value * length, value)
    for limit, at, reached in (("max_epochs", "epoch", epoch), ("max_iters", "iteration", iteration)):
        maximum = state_dict.get(limit)
        if maximum is not None and maximum < reached:
            raise ValueError(f"an engine's state at {at} {reached} cannot have {limit}={maximum}")
    return iteration, epoch


def _epoch_length(data: Iterable[Any] | None, epoch_length: int | None) -> int | None:
    if epoch_length is not None:
        return epoch_length
    try:
        return len(data)  # type: ignore[arg-type]  # whether it has a length is the question
    except TypeError:  # also that of a DataLoader over an IterableDataset (E-099)
        return None


def _check_length(data: Iterable[Any] | None, length: object) -> None:
    if length is None and data is None:
        raise ValueError("run() without data needs epoch_length=, the number of iterations of an epoch")
    if length is not None and (not isinstance(length, Integral) or length < 1):
        raise ValueError(
            f"nothing to run over: an epoch has zero size ({length!r} iterations); give data with at least one batch, "
            "or an epoch_length= of at least 1"
        )


def _check_data(data: object) -> None:
    if data is not None and not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise TypeError(f"data must be something that can be iterated over, batch after batch; got {data!r}")


def _check_process_function(process_function: object) -> None:
    if process_function is None:
        raise ValueError("Engine needs a process_function, called as f(engine, batch); got None")
    if not callable(process_function):
        raise ValueError(  # noqa: TRY004 - ignite's type for all misfits (E-002)
            f"Engine needs a function, called as f(engine, batch); got {process_function!r}"
        )
    try:
        inspect.signature(process_function).bind(None, None)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the process_function is called as f(engine, batch), which {process_function!r} does not take: {error}"
        ) from None
