"""Fault injection between a logger and its backend."""

from __future__ import annotations

import errno
import functools
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from types import TracebackType
from typing import Any, NamedTuple

from glowplug.loggers import Logger, Writer

__all__ = ["FlakyBackend"]

WRITES = tuple(name for name in vars(Writer) if name.startswith("write_"))
METHODS = ("open_backend", *WRITES, "flush_backend", "close_backend")


class Call(NamedTuple):
    """One recorded call of a ``Writer`` method."""

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    thread: int


class FlakyBackend:
    """Inject faults into the backend of a logger during a ``with`` block.

    A ``FlakyBackend`` works with any logger: it wraps the methods of ``glowplug.loggers.Writer`` that the logger's class
    implements, such as ``write_scalars``. A call that fails does not reach the wrapped method.

    Create a ``FlakyBackend`` with :meth:`refusing`, :meth:`hanging`, :meth:`slow`, :meth:`failing`, :meth:`full_disk` or
    :meth:`watching`.

    Args:
        logger: The logger; other loggers of the same class are not affected.
        fault: Function that causes one fault: the function raises an exception, or waits and then returns. ``None`` injects
            no faults.
        methods: Names of the methods that fail. Defaults to all ``write_*`` methods.
        every: With the value n, each n-th call of these methods fails. Defaults to 1, so that each call fails.
        times: Maximum number of faults. Unlimited by default.

    Raises:
        ValueError: If ``methods`` contains a name that is not a method of ``Writer``.

    Attributes:
        calls: All calls so far, including failed calls, each with its arguments and its thread.
        faults: Number of faults so far.

    Example:
        >>> from glowplug.loggers import Logger
        >>> class Printer(Logger):
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         print(step, scalars)
        >>> logger = Printer()
        >>> with FlakyBackend.failing(logger, every=2) as backend:
        ...     for step in range(4):
        ...         logger.log_scalars({"loss": 0.5}, step)
        ...     delivered = logger.flush()
        0 {'loss': 0.5}
        2 {'loss': 0.5}
        >>> backend.faults, logger.counts
        (2, Counts(sent=2, dropped=2, pending=0))
        >>> logger.close()
    """

    def __init__(
        self,
        logger: Logger,
        fault: Callable[[], None] | None = None,
        *,
        methods: tuple[str, ...] = WRITES,
        every: int = 1,
        times: int | None = None,
    ) -> None:
        _check_methods(methods)
        self.calls: list[Call] = []
        self.faults = 0
        self._logger = logger
        self._fault = fault
        self._methods = methods
        self._every = every
        self._times = times
        # Number of calls of ``methods`` so far.
        self._due = 0
        self._healed = threading.Event()
        # A write method that calls another write method counts as one call.
        self._nested = threading.local()
        self._must_close = False
        self._replaced: dict[str, Any] = {}

    @classmethod
    def refusing(cls, logger: Logger, *methods: str, times: int | None = None) -> FlakyBackend:
        """Refuse connections: each call raises ``ConnectionRefusedError``.

        Args:
            logger: The logger.
            *methods: Names of the methods that fail. Defaults to all methods of the backend.
            times: Maximum number of faults. Unlimited by default.
        """
        where = methods or METHODS
        return cls(
            logger, _raising(ConnectionRefusedError("the backend is down")), methods=where, times=times
        )

    @classmethod
    def hanging(cls, logger: Logger, *methods: str) -> FlakyBackend:
        """Make each call hang until :meth:`heal` is called or the ``with`` block ends, but at most 300 seconds.

        Args:
            logger: The logger.
            *methods: Names of the methods that hang. Defaults to all ``write_*`` methods.
        """
        made = cls(logger, methods=methods or WRITES)
        made._fault = made._hang
        return made

    @classmethod
    def slow(cls, logger: Logger, seconds: float = 0.05, *methods: str) -> FlakyBackend:
        """Delay each call.

        Args:
            logger: The logger.
            seconds: Delay of each call, in seconds. Defaults to 0.05.
            *methods: Names of the methods that are slow. Defaults to all ``write_*`` methods.
        """
        return cls(logger, functools.partial(time.sleep, seconds), methods=methods or WRITES)

    @classmethod
    def failing(
        cls, logger: Logger, every: int = 3, error: Exception | None = None, *methods: str
    ) -> FlakyBackend:
        """Make each n-th call fail.

        Args:
            logger: The logger.
            every: With the value n, each n-th call fails. Defaults to 3.
            error: Exception that a failing call raises. Defaults to a ``RuntimeError``: the logger then drops the record and
                continues with the next one. After a ``ConnectionError``, the logger reopens the backend and writes the record
                again.
            *methods: Names of the methods that fail. Defaults to all ``write_*`` methods.
        """
        fault = _raising(error or RuntimeError("the backend refused this record"))
        return cls(logger, fault, methods=methods or WRITES, every=every)

    @classmethod
    def full_disk(cls, logger: Logger) -> FlakyBackend:
        """Simulate a full disk: writes and flushes raise ``OSError`` with the error number ``ENOSPC``."""
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return cls(logger, _raising(error), methods=(*WRITES, "flush_backend"))

    @classmethod
    def watching(cls, logger: Logger) -> FlakyBackend:
        """Record calls without injecting faults."""
        return cls(logger)

    def heal(self) -> None:
        """Stop injecting faults; hanging calls then continue and reach the backend."""
        self._healed.set()

    def calls_of(self, *methods: str) -> list[Call]:
        """Return the recorded calls of these methods, oldest first."""
        return [call for call in self.calls.copy() if call.method in methods]

    def __enter__(self) -> FlakyBackend:  # noqa: PYI034 - Self needs Python 3.11
        kind = type(self._logger)
        for name in METHODS:
            if name not in WRITES or kind.implements(name):
                self._replaced[name] = vars(kind).get(name)
                setattr(kind, name, self._wrapped(name, getattr(kind, name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.heal()
        if self._must_close:
            self._must_close = False
            # The fault prevented the logger from closing its files and connections.
            with suppress(Exception):
                self._logger.close_backend(None)
        for name, own in self._replaced.items():
            if own is None:
                delattr(type(self._logger), name)
            else:
                setattr(type(self._logger), name, own)
        self._replaced = {}

    def _wrapped(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(logger: Logger, *args: Any, **kwargs: Any) -> Any:
            if logger is not self._logger or getattr(self._nested, "active", False):
                return method(logger, *args, **kwargs)
            self._nested.active = True
            try:
                self.calls.append(Call(name, args, kwargs, threading.get_ident()))
                self._strike(name)
                return method(logger, *args, **kwargs)
            finally:
                self._nested.active = False

        return call

    def _hang(self) -> None:
        # The limit ends the call if a test never heals the fault.
        self._healed.wait(300.0)

    def _strike(self, name: str) -> None:
        if self._fault is None or self._healed.is_set() or name not in self._methods:
            return
        self._due += 1
        if self._due % self._every == 0 and (self._times is None or self.faults < self._times):
            self.faults += 1
            try:
                self._fault()
            except Exception:
                self._must_close |= name == "close_backend"
                raise


def _check_methods(methods: tuple[str, ...]) -> None:
    for method in methods:
        if method not in METHODS:
            close = get_close_matches(method, METHODS, n=1, cutoff=0.5)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"FlakyBackend: {method!r} is not a method of glowplug.loggers.Writer; use one of {', '.join(METHODS)}.{hint}"
            )


def _raising(error: Exception) -> Callable[[], None]:
    def fault() -> None:
        raise error

    return fault
