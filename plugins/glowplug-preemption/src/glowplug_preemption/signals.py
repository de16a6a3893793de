"""Receive signals during a run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any


class SignalWatch:
    """Receives the first of some signals; a second one ends the process at once.

    Python runs a signal handler on the main thread between two instructions, which may be in the middle of a save, so this
    handler only records the signal.

    Args:
        names: Names of signals, such as ``"SIGTERM"``. Names of signals that this operating system lacks are ignored.

    Attributes:
        received: The first signal that arrived; ``None`` if none arrived.

    Raises:
        ValueError: If a name is not the name of a signal, or of a signal that cannot be received.

    Example:
        >>> watch = SignalWatch(["SIGTERM"])
        >>> watch.install()
        True
        >>> signal.raise_signal(signal.SIGTERM)
        >>> watch.received
        <Signals.SIGTERM: 15>
        >>> watch.restore()
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.signals = tuple(found for name in names if (found := _signal_of(name)) is not None)
        self.received: signal.Signals | None = None
        self._former: dict[signal.Signals, Any] = {}
        self._process = os.getpid()

    def install(self) -> bool:
        """Receive the signals from now on; return ``False`` if this is not the main thread, where Python allows no handlers.

        A signal that the process ignores, as SIGINT in a background job of a shell, stays ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        self.received, self._process = None, os.getpid()
        for each in self.signals:
            former = signal.getsignal(each)
            # None stands for a handler in C, which could not be restored.
            if each not in self._former and former not in (None, signal.SIG_IGN):
                self._former[each] = signal.signal(each, self._receive)
        return True

    def end_at_next(self) -> None:
        """Give the signals their default effect, so that the next one ends the process at once, even in the middle of a write."""
        if threading.current_thread() is threading.main_thread():
            for each in self._former:
                signal.signal(each, signal.SIG_DFL)

    def restore(self) -> None:
        """Restore the former handlers, except where another handler was installed in the meantime."""
        if threading.current_thread() is not threading.main_thread():
            return
        for each, former in self._former.items():
            if signal.getsignal(each) in (self._receive, signal.SIG_DFL):
                signal.signal(each, former)
        self._former.clear()

    def _receive(self, signum: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            _receive_in_child(signum)
            return
        if self.received is not None:
            # The first signal arrived while the handlers were being installed.
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        self.received = signal.Signals(signum)
        self.end_at_next()


def _receive_in_child(signum: int) -> None:
    """Handle a signal in a process that was forked during the run, such as a data worker."""
    # The parent ends its workers with SIGTERM. They outlive the other signals, which a terminal or a cluster sends to all
    # processes, because the run needs them until it has saved.
    if signum == signal.SIGTERM:
        signal.signal(signum, signal.SIG_DFL)
        signal.raise_signal(signum)


_UNCATCHABLE = {"SIGKILL", "SIGSTOP"}


def _signal_of(name: str) -> signal.Signals | None:
    known = getattr(signal.Signals, str(name), None)
    is_elsewhere = name in {"SIGUSR1", "SIGUSR2", "SIGHUP", "SIGXCPU"}
    if name in _UNCATCHABLE or (known is None and not is_elsewhere):
        raise ValueError(
            f"Preemption: signals must be names of signals that a process can receive, such as 'SIGTERM'; got {name!r}"
        )
    return known
