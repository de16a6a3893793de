"""Close the loggers that are still open when the process ends, and pass them the outcome of the process."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import weakref
from types import FrameType
from typing import Protocol

from glowplug.loggers._delivery import Counts, log, stuck
from glowplug.loggers._signal_gate import gate
from glowplug.state import RunOutcome


class Open(Protocol):
    """The interface of a logger that this module uses."""

    @property
    def counts(self) -> Counts:
        """The numbers of records."""

    def close(self, outcome: RunOutcome | None = None) -> None:
        """Deliver waiting records and disconnect from the backend."""

    def abandon(self) -> None:
        """Discard the queued records in a forked process; the parent process delivers them."""


open_loggers: weakref.WeakSet[Open] = weakref.WeakSet()


def watch() -> None:
    """Arrange that loggers are closed before existing exit hooks run, and before SIGTERM ends the process."""
    # A library that open_backend imported may have registered an exit hook. Loggers must be closed before that hook runs.
    atexit.unregister(_close_at_exit)
    atexit.register(_close_at_exit)
    # The worker thread of a logger calls this function, but only the main thread may set a signal handler.
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, _close_at_sigterm)


def unwatch() -> None:
    """Restore the default effect of SIGTERM if no logger is open any more."""
    # Loggers that were just garbage-collected count in the length of the set.
    is_any_open = any(True for _ in open_loggers)
    if (
        not is_any_open
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is _close_at_sigterm
    ):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def close_loggers(outcome: RunOutcome | None = None) -> None:
    """Close all open loggers of this process.

    Call this function before the process ends without its usual cleanup, as with ``os._exit``.

    Args:
        outcome: How the process ends. With ``None`` (the default), each logger uses the outcome of the runs of its engines.

    Example:
        >>> close_loggers(RunOutcome.INTERRUPTED)
    """
    for logger in list(open_loggers):
        try:
            logger.close(outcome)
        except Exception:  # noqa: BLE001 - the other loggers are closed too
            # A logger whose constructor has failed is incomplete. It has no records, and the user sees the error of the constructor.
            if any(logger.counts):
                log.exception("%s could not be closed", type(logger).__name__)


def _close_at_exit() -> None:
    # Python keeps the exception that ends a script. In an interactive session, it is that of any earlier statement.
    has_failed = hasattr(sys, "last_value") and not hasattr(sys, "ps1")
    close_loggers(RunOutcome.FAILED if has_failed else None)
    for delivery in stuck:
        delivery.park()


def _close_at_sigterm(signum: int, _frame: FrameType | None) -> None:
    if gate.holds_back(signum):
        return
    close_loggers(RunOutcome.INTERRUPTED)
    # End as the process would have ended without this handler.
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def _abandon() -> None:
    for logger in list(open_loggers):
        logger.abandon()
    open_loggers.clear()


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon)
