"""Faults between a logger and its backend: refused, hanging, slow, full, failing now and then."""

from __future__ import annotations

import errno
import functools
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

from glowplug.loggers._logger import SINKS, Logger

__all__ = ["FlakyBackend"]

WRITES = (*SINKS, "log_scalars_batch")


class Call(NamedTuple):
    """One call of a method that faces the backend."""

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    thread: int


class FlakyBackend:
    """Lets the backend of a logger fail, for as long as a ``with`` block lasts.

    It stands before the methods that the logger's class defines for its backend: ``open``, the sinks such as
    ``log_scalars``, ``flush_backend`` and ``close``. Where the fault strikes, the method itself is not reached; else it is
    called as ever. So it works with every :class:`glowplug.loggers.Logger`, whatever its backend is.

    Usually it is made by :meth:`refusing`, :meth:`hanging`, :meth:`slow`, :meth:`failing`, :meth:`full_disk` or
    :meth:`watching`.

    Args:
        logger: whose backend; other loggers of the same class are left alone.
        fault: called where the fault strikes: raises, or waits and lets the call go on. ``None``: nothing strikes.
        methods: where it strikes; all writes by default.
        every: at each n-th of these calls.
        times: how often at most.

    Attributes:
        calls: what was called so far, with arguments and thread, faults included.
        faults: how often the fault has struck.

    Example:
        >>> from glowplug.loggers import Logger
        >>> class Printer(Logger):
        ...     def log_scalars(self, scalars, step, timestamp):
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
        self.calls: list[Call] = []
        self.faults = 0
        self._logger = logger
        self._fault = fault
        self._methods = methods
        self._every = every
        self._times = times
        self._due = 0  # calls at which the fault could have struck
        self._healed = threading.Event()
        self._nested = threading.local()  # one sink may be made of another, which is one call all the same
        self._must_close = False
        self._replaced: dict[str, Any] = {}

    @classmethod
    def refusing(cls, logger: Logger, *methods: str, times: int | None = None) -> FlakyBackend:
        """Make one that refuses connections: each call raises ``ConnectionRefusedError``.

        Args:
            logger: whose backend.
            *methods: where; ``open``, all writes, ``flush_backend`` and ``close`` by default.
            times: how often at most.
        """
        where = methods or ("open", *WRITES, "flush_backend", "close")
        return cls(
            logger, _raising(ConnectionRefusedError("the backend is down")), methods=where, times=times
        )

    @classmethod
    def hanging(cls, logger: Logger, *methods: str) -> FlakyBackend:
        """Make one whose calls do not come back until :meth:`heal`.

        Args:
            logger: whose backend.
            *methods: where; all writes by default.
        """
        made = cls(logger, methods=methods or WRITES)
        made._fault = made._hang
        return made

    @classmethod
    def slow(cls, logger: Logger, seconds: float = 0.05, *methods: str) -> FlakyBackend:
        """Make one whose calls take long.

        Args:
            logger: whose backend.
            seconds: how long each call waits before it goes on.
            *methods: where; all writes by default.
        """
        return cls(logger, functools.partial(time.sleep, seconds), methods=methods or WRITES)

    @classmethod
    def failing(
        cls, logger: Logger, every: int = 3, error: Exception | None = None, *methods: str
    ) -> FlakyBackend:
        """Make one that fails now and then.

        Args:
            logger: whose backend.
            every: at each n-th call.
            error: what is raised; a ``RuntimeError`` by default, after which a logger goes on with the next record. After a
                ``ConnectionError`` it opens its backend anew, and writes the record again.
            *methods: where; all writes by default.
        """
        fault = _raising(error or RuntimeError("the backend refused this record"))
        return cls(logger, fault, methods=methods or WRITES, every=every)

    @classmethod
    def full_disk(cls, logger: Logger) -> FlakyBackend:
        """Make one whose disk is full: writes and flushes raise ``OSError`` with ``ENOSPC``."""
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return cls(logger, _raising(error), methods=(*WRITES, "flush_backend"))

    @classmethod
    def watching(cls, logger: Logger) -> FlakyBackend:
        """Make one that lets everything through, and notes it in ``calls``."""
        return cls(logger)

    def heal(self) -> None:
        """End the fault: what hangs goes on, and further calls get through."""
        self._healed.set()

    def calls_of(self, *methods: str) -> list[Call]:
        """Return the calls of some methods, in order."""
        return [call for call in self.calls.copy() if call.method in methods]

    def __enter__(self) -> FlakyBackend:  # noqa: PYI034 - Self needs Python 3.11
        kind = type(self._logger)
        for name in ("open", *WRITES, "flush_backend", "close"):
            if hasattr(kind, name):
                self._replaced[name] = vars(kind).get(name)
                setattr(kind, name, self._standing_before(name, getattr(kind, name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.heal()
        if self._must_close:
            self._must_close = False
            with suppress(Exception):  # what it holds open is to be let go of, and that is all
                type(self._logger).close(self._logger)
        for name, own in self._replaced.items():
            if own is None:
                delattr(type(self._logger), name)
            else:
                setattr(type(self._logger), name, own)
        self._replaced = {}

    def _standing_before(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
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
        self._healed.wait(300.0)  # a limit, lest a test that does not heal it hang for ever

    def _strike(self, name: str) -> None:
        if self._fault is None or self._healed.is_set() or name not in self._methods:
            return
        self._due += 1
        if self._due % self._every == 0 and (self._times is None or self.faults < self._times):
            self.faults += 1
            try:
                self._fault()
            except Exception:
                self._must_close |= (
                    name == "close"
                )  # one that only hung goes on to close, and twice at once is no fault of ours
                raise


def _raising(error: Exception) -> Callable[[], None]:
    def fault() -> None:
        raise error

    return fault
