"""Base class of loggers."""

from __future__ import annotations

import atexit
import itertools
import os
import time
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex, TypeVar

from glowplug import distributed
from glowplug.engine import check_function
from glowplug.events import AnyEvent
from glowplug.handles import RemovableEventHandle
from glowplug.loggers._attachment import attach_log_handler
from glowplug.loggers._backend_calls import missing_attribute
from glowplug.loggers._delivery import Counts, Delivery, OnError, log
from glowplug.loggers._flatten import checked_scalars
from glowplug.loggers._optimizer_handler import OptimizerParamsHandler
from glowplug.loggers._output_handler import OutputHandler
from glowplug.loggers._pickling import attributes_of, can_be_pickled
from glowplug.loggers._record import Kind, Record
from glowplug.loggers._snapshot import PLAIN, HostCopy, plain, snapshot
from glowplug.loggers._step import checked_step
from glowplug.loggers._writer import Writer
from glowplug.phase import Phase
from glowplug.stash import StashKey
from glowplug.state import RunOutcome
from glowplug.typing import EngineProtocol

OwnType = TypeVar("OwnType", bound="Logger")

_open_loggers: weakref.WeakSet[Logger] = weakref.WeakSet()


class Logger(Writer):
    """Base class for loggers, which send values to a backend in the background.

    Users may call the ``log_*`` methods from any thread. Each ``log_*`` call checks, copies and queues its arguments and returns
    immediately, so a slow backend does not delay the run. The author of a logger implements methods of :class:`Writer`, at
    least ``write_scalars`` or ``write_scalars_batch``. One worker thread calls these methods in the order of the ``log_*`` calls.

    Args:
        on_error: ``"warn"`` reports a failing backend in the log, at most once a minute; ``"raise"`` raises the backend's
            exception at the next call of ``log_*``, :meth:`flush` or :meth:`close`. Defaults to ``"warn"``.
        capacity: Maximum number of records in the queue; further records are dropped and counted. Defaults to
            100,000.
        timeout: Maximum number of seconds that :meth:`flush` and :meth:`close` wait. Defaults to 10.
        all_ranks: ``True`` logs on every rank of ``torch.distributed``; ``False`` logs on rank 0 only. Defaults to
            ``False``.

    Raises:
        TypeError: If the class implements neither ``write_scalars`` nor ``write_scalars_batch``, or if a backend method is an
            ``async`` function or a generator function.
        ValueError: If ``on_error`` is neither ``"warn"`` nor ``"raise"``.

    Example:
        >>> class Printer(Logger):
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         print(step, scalars)
        >>> from glowplug import Engine, Events
        >>> engine = Engine(lambda engine, batch: 2.0 * batch)
        >>> with Printer() as printer:
        ...     _ = printer.attach_output_handler(
        ...         engine,
        ...         Events.ITERATION_COMPLETED,
        ...         tag="training",
        ...         output_transform=lambda loss: {"loss": loss},
        ...     )
        ...     _ = engine.run([1, 2])
        1 {'training/loss': 2.0}
        2 {'training/loss': 4.0}
    """

    phase = Phase.LOGGING

    def __init__(
        self,
        *,
        on_error: OnError = "warn",
        capacity: int = 100_000,
        timeout: float = 10.0,
        all_ranks: bool = False,
    ) -> None:
        if not self.takes("log_scalars"):
            raise TypeError(
                f"{type(self).__name__} must implement write_scalars(scalars, step, timestamp) or "
                "write_scalars_batch(rows)"
            )
        for method in filter(self.implements, vars(Writer)):
            check_function(getattr(type(self), method), f"{type(self).__name__}.{method}")
        if on_error not in ("warn", "raise"):
            raise ValueError(f'on_error must be "warn" or "raise", got {on_error!r}')
        self.on_error: OnError = on_error
        self.capacity = capacity
        self.timeout = timeout
        self.all_ranks = all_ranks
        self.state_key = type(self).__name__
        self._outcome: RunOutcome | None = None
        self._last_number = 0
        self._connect()

    def _connect(self) -> None:
        self._numbers = itertools.count(self._last_number + 1)
        self._before_open: dict[str, Any] = {}
        self._stash_key: StashKey[Any] = StashKey()
        self._delivery = Delivery(
            self,
            connect=self._open,
            disconnect=lambda: self.close_backend(self._outcome),
            on_error=self.on_error,
            capacity=self.capacity,
        )
        _open_loggers.add(self)

    def log_scalars(
        self, scalars: Mapping[str, SupportsFloat], step: SupportsIndex, timestamp: float | None = None
    ) -> None:
        """Log numbers.

        Args:
            scalars: Mapping of names to numbers. A ``/`` in a name separates levels, as in ``training/loss``. A number may
                be a zero-dimensional tensor or array.
            step: Epoch or iteration.
            timestamp: Unix time in seconds. Defaults to the current time.

        Raises:
            TypeError: If ``scalars`` is not a mapping of strings to numbers, if the step is not an integer, or if the
                timestamp is not a number.
        """
        checked = checked_scalars(scalars, f"{type(self).__name__}.log_scalars")
        self._put("scalars", None, step, timestamp, checked)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log hyperparameters.

        Args:
            params: Mapping of names to values. Values may be numbers, strings, ``None``, lists, tuples and nested mappings.
                Tensors and arrays are logged as numbers or lists, and all other objects as ``str(value)``.

        Raises:
            TypeError: If ``params`` is not a mapping, or if the logger does not implement ``write_params``.
        """
        self._require("params")
        if not isinstance(params, Mapping):
            raise TypeError(f"{type(self).__name__}.log_params: params must be a mapping, got {params!r}")
        self._put("params", None, None, None, plain(params))

    def log_text(self, name: str, text: str, step: SupportsIndex, timestamp: float | None = None) -> None:
        """Log text.

        Args:
            name: Name of the text.
            text: The text to log.
            step: Epoch or iteration.
            timestamp: Unix time in seconds. Defaults to the current time.

        Raises:
            TypeError: If an argument has the wrong type, or if the logger does not implement ``write_text``.
        """
        self._require("text", name)
        if not isinstance(text, str):
            raise TypeError(f"{type(self).__name__}.log_text: text must be a string, got {text!r}")
        self._put("text", name, step, timestamp, text)

    def log_histogram(
        self, name: str, values: Any, step: SupportsIndex, timestamp: float | None = None
    ) -> None:
        """Log the distribution of values.

        Args:
            name: Name of the histogram.
            values: Numbers as a tensor, array, list or tuple of any shape.
            step: Epoch or iteration.
            timestamp: Unix time in seconds. Defaults to the current time.

        Raises:
            TypeError: If an argument has the wrong type, or if the logger does not implement ``write_histogram``.
        """
        self._require("histogram", name)
        if not hasattr(values, "ndim") and not isinstance(values, (list, tuple)):
            raise TypeError(
                f"{type(self).__name__}.log_histogram: values must be a tensor, array or list, got {values!r}"
            )
        self._put("histogram", name, step, timestamp, snapshot(values))

    def log_image(self, name: str, image: Any, step: SupportsIndex, timestamp: float | None = None) -> None:
        """Log an image.

        Args:
            name: Name of the image.
            image: Tensor, array or PIL image. The supported shapes depend on the logger.
            step: Epoch or iteration.
            timestamp: Unix time in seconds. Defaults to the current time.

        Raises:
            TypeError: If an argument has the wrong type, or if the logger does not implement ``write_image``.
        """
        self._require("image", name)
        pixels = snapshot(image)
        if not hasattr(pixels, "ndim") and not isinstance(pixels, HostCopy):
            raise TypeError(
                f"{type(self).__name__}.log_image: image must be a tensor, array or PIL image, got {image!r}"
            )
        self._put("image", name, step, timestamp, pixels)

    def log_figure(self, name: str, figure: Any, step: SupportsIndex, timestamp: float | None = None) -> None:
        """Log a figure.

        Args:
            name: Name of the figure.
            figure: Matplotlib figure, or a figure of another library that the backend supports.
            step: Epoch or iteration.
            timestamp: Unix time in seconds. Defaults to the current time.

        Raises:
            TypeError: If an argument has the wrong type, or if the logger does not implement ``write_figure``.
        """
        self._require("figure", name)
        if figure.__class__ in PLAIN:
            raise TypeError(
                f"{type(self).__name__}.log_figure: figure must be a figure object, such as a matplotlib Figure, got {figure!r}"
            )
        self._put("figure", name, step, timestamp, snapshot(figure))

    def log_artifact(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        """Log a file or folder, which the worker thread reads later.

        Args:
            path: Path of the file or folder on this machine.
            name: Destination folder in the run's artifact store. Defaults to the root of the store.

        Raises:
            TypeError: If an argument has the wrong type, or if the logger does not implement ``write_artifact``.
        """
        self._require("artifact", "" if name is None else name)
        self._put("artifact", name, None, None, os.fspath(path))

    def attach(
        self,
        engine: EngineProtocol,
        event_name: AnyEvent,
        log_handler: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> RemovableEventHandle:
        """Attach a log handler, which is called as ``log_handler(engine, logger, event_name)`` at an event.

        Log handlers run in the phase ``LOGGING``, after metrics and user handlers of the same event.

        Args:
            engine: The engine.
            event_name: The event, plain or filtered, or a list of events.
            log_handler: A log handler of ``glowplug.loggers``, or any callable that accepts ``(engine, logger, event_name)``.
            *args: Further positional arguments that are passed to ``log_handler``.
            **kwargs: Keyword arguments that are passed to ``log_handler``.

        Returns:
            A handle that removes everything that this call attached.

        Raises:
            TypeError: If ``log_handler`` has an unsupported type, such as an event, a class, an ``async`` function or a generator
                function. The same error is raised if ``log_handler`` cannot be called with the given arguments, or if the logger
                does not support the records that ``log_handler`` logs.
            ValueError: If the engine does not know the event.
        """
        return attach_log_handler(self, engine, event_name, log_handler, args, kwargs)

    def attach_output_handler(
        self, engine: EngineProtocol, event_name: AnyEvent, *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Attach an :class:`OutputHandler`.

        Args:
            engine: The engine.
            event_name: The event.
            *args: Positional arguments of the :class:`OutputHandler`.
            **kwargs: Keyword arguments of the :class:`OutputHandler`.
        """
        return self.attach(engine, event_name, OutputHandler(*args, **kwargs))

    def attach_opt_params_handler(
        self, engine: EngineProtocol, event_name: AnyEvent, *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Attach an :class:`OptimizerParamsHandler`.

        Args:
            engine: The engine.
            event_name: The event.
            *args: Positional arguments of the :class:`OptimizerParamsHandler`.
            **kwargs: Keyword arguments of the :class:`OptimizerParamsHandler`.
        """
        return self.attach(engine, event_name, OptimizerParamsHandler(*args, **kwargs))

    @property
    def counts(self) -> Counts:
        """Counts of the sent, dropped and pending records."""
        return self._delivery.counts

    @property
    def is_logging_rank(self) -> bool:
        """Whether this logger logs on the current rank."""
        return self.all_ranks or distributed.rank() == 0

    def ensure_open(self, timeout: float = 60.0) -> None:
        """Open the backend and wait until it is open.

        A logger calls this method before it uses the backend directly, for example to read the id of the run.

        Args:
            timeout: Maximum number of seconds to wait. Defaults to 60.

        Raises:
            ConnectionError: If opening the backend fails or takes longer than ``timeout`` seconds; ``__cause__`` is the
                original error, if there is one.
            RuntimeError: If the logger is closed, or if it does not log on this rank.
        """
        if not self.is_logging_rank:
            raise RuntimeError(
                f"{type(self).__name__} logs on rank 0 only, and this is rank {distributed.rank()}; decorate the calling "
                "function with glowplug.distributed.rank_zero_only, or create the logger with all_ranks=True"
            )
        self._delivery.open_now(timeout)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything logged so far is delivered.

        Args:
            timeout: Maximum number of seconds to wait. Defaults to the logger's ``timeout``.

        Returns:
            ``True`` if everything was delivered in time, otherwise ``False``.
        """
        return self._delivery.flush(self.timeout if timeout is None else timeout)

    def close(self, outcome: RunOutcome | None = None) -> None:
        """Deliver waiting records and disconnect from the backend.

        Loggers that are still open are closed when the interpreter exits.

        Args:
            outcome: How the run ended. Defaults to the outcome of the last run of an attached engine.
        """
        if self in _open_loggers:
            self._delivery.refuse_worker("close")
            _open_loggers.discard(self)
            self._outcome = outcome or self._outcome
            self._delivery.close(self.timeout)

    def state_dict(self) -> dict[str, Any]:
        """Return the sequence number of the last record."""
        return {"last_number": self._last_number}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the sequence numbers of a saved run.

        Args:
            state_dict: State returned by :meth:`state_dict`.
        """
        self._last_number = max(self._last_number, int(state_dict["last_number"]))
        self._numbers = itertools.count(self._last_number + 1)

    def __enter__(self: OwnType) -> OwnType:  # noqa: PYI019 - Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(RunOutcome.FAILED if error is not None else None)

    def _require(self, kind: Kind, name: object = "") -> None:
        if not self.takes(f"log_{kind}"):
            raise self._unsupported(f"write_{kind}")
        if not isinstance(name, str):
            raise TypeError(f"{type(self).__name__}.log_{kind}: name must be a string, got {name!r}")

    def _put(
        self,
        kind: Kind,
        name: str | None,
        step: Any,
        timestamp: float | None,
        payload: Any,
    ) -> None:
        if step.__class__ is not int and (step is not None or kind not in ("params", "artifact")):
            step = checked_step(step, f"{type(self).__name__}.log_{kind}")
        if timestamp is None:
            timestamp = time.time()
        elif not isinstance(timestamp, (int, float)):
            raise TypeError(
                f"{type(self).__name__}.log_{kind}: timestamp must be a number, got {timestamp!r}"
            )
        if self.all_ranks or distributed.rank() == 0:
            number = self._last_number = next(self._numbers)
            self._delivery.put(Record(number, kind, name, step, timestamp, payload))

    def _open(self) -> None:
        before = attributes_of(self)
        try:
            self.open_backend()
        finally:
            changed = {
                name: before.get(name)
                for name, value in attributes_of(self).items()
                if before.get(name) is not value
            }
            # If an attribute cannot be pickled, the pickle contains its value from before the first call of open_backend.
            # Later calls must not replace these values.
            self._before_open = changed | self._before_open
        # A library that open_backend imported may have registered an exit hook. Loggers must be closed before that hook runs.
        atexit.unregister(_close_open_loggers)
        atexit.register(_close_open_loggers)

    def _run_ended(self, engine: EngineProtocol, outcome: RunOutcome | None = None) -> None:
        """Deliver waiting records when a run ends or is interrupted."""
        # The records of an evaluator that runs in a trainer's handler are delivered when the trainer's run ends.
        if engine.parent is not None:
            return
        self._outcome = outcome or engine.state.outcome
        if not self._delivery.is_stuck:
            self._delivery.flush(self.timeout)

    if not TYPE_CHECKING:
        # Hidden from type checkers, which would otherwise accept any attribute.
        def __getattr__(self, name: str) -> Any:
            raise missing_attribute(self, name)

    def __getstate__(self) -> dict[str, Any]:
        state = attributes_of(self)
        for name in ("_delivery", "_before_open", "_numbers", "_stash_key"):
            del state[name]
        for name, before in self._before_open.items():
            if name in state and not can_be_pickled(state[name]):
                state[name] = before
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._connect()


def _close_open_loggers() -> None:
    for logger in list(_open_loggers):
        try:
            logger.close()
        except Exception:  # noqa: BLE001 - the other loggers are closed too
            log.exception("%s could not be closed", type(logger).__name__)


atexit.register(_close_open_loggers)


def _abandon_open_loggers() -> None:
    for logger in list(_open_loggers):
        logger._delivery.abandon()  # noqa: SLF001 - part of the logger
    _open_loggers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_open_loggers)
