"""A limit on how long something may take on the thread that waits for it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class TooSlowError(Exception):
    """It took longer than it may."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TooSlowError` in the block after some seconds, also where it waits for a lock.

    It needs the main thread and a system with ``SIGALRM``; elsewhere there is no limit. A timer that is running, such as
    that of pytest-timeout, is put aside and goes on afterwards.

    Args:
        seconds: how long the block may take.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TooSlowError(
            f"it was not done within {seconds:g} s: something waits on the caller's thread, which must never wait for a backend"
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
