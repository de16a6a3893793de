"""Postpone signal handlers while the main thread uses a spool."""

from __future__ import annotations

import signal
import threading


class SignalGate:
    """Context manager that postpones the work of a signal handler.

    Python may run a signal handler on the main thread between any two instructions. If the handler closed a logger while the
    main thread held the lock of the logger's spool, the main thread would wait for its own lock.

    Example:
        >>> gate = SignalGate()
        >>> gate.holds_back(signal.SIGTERM)
        False
    """

    def __init__(self) -> None:
        self._depth = 0
        self._waiting: int | None = None

    def holds_back(self, signum: int) -> bool:
        """Return whether the signal handler must return without doing its work.

        If so, the signal is raised again when the main thread leaves the context.
        """
        if self._depth:
            self._waiting = signum
        return self._depth > 0

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._depth -= 1
        if self._waiting is not None and not self._depth:
            signum, self._waiting = self._waiting, None
            signal.raise_signal(signum)


gate = SignalGate()
"""The signal gate that all loggers of this process share."""
