"""Time limit of a block of code."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class TooSlowError(Exception):
    """The block exceeded its time limit."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TooSlowError` in the block after a number of seconds, even if the block waits for a lock.

    The limit works only on the main thread and only on a system with ``SIGALRM``; otherwise it has no effect. A timer that is
    already running, such as the timer of pytest-timeout, does not fire during the block. After the block, the suspended
    timer resumes; the time spent in the block counts as elapsed.

    Args:
        seconds: Time limit of the block, in seconds.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TooSlowError(
            f"the check exceeded its limit of {seconds:g} s; the code under test must not block the calling thread while it "
            "waits for a backend or a lock"
        )

    began = time.monotonic()
    former = signal.signal(signal.SIGALRM, stop)
    delay, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        if delay:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, delay - (time.monotonic() - began)), interval)
