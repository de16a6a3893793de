"""Watch over the ranks: the failure of one rank ends the run of the others within seconds, whatever they are doing.

A rank that fails sets a key in the store of the process group. On each rank, a thread looks for this key. When the key is there, the
next vote raises :class:`~glowplug.exceptions.RankFailedError`. If no vote comes within a second, the thread takes one measure after
the other: it aborts the group of the votes if the rank waits for a vote; it aborts all process groups, so that collective operations
of the step fail; it sends a signal to the main thread, which may wait for data, and the signal's handler raises the error.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from glowplug.engine._handler_table import HandlerTable
from glowplug.engine._rank_link import OUTERMOST, Failure, RankLink, abort_groups, open_link
from glowplug.exceptions import PreemptionExit, RankFailedError

# Seconds between two looks at the store, between two measures of the thread, and for the handlers at the end of the run.
_POLL, _PATIENCE, _PATIENCE_AT_END = 0.5, 1.0, 5.0
# How long a rank whose collective operation has failed waits for the reason, and a failed rank for the others to read it.
_WAIT_FOR_REASON, _WAIT_FOR_OTHERS = 3.0, 3.0
# Ignored by default, and used by no shell, cluster or library of Python for something else.
_SIGNAL = getattr(signal, "SIGURG", None)
_MESSAGE_LENGTH = 2000
_MARKS = ("gloo", "nccl", "closed by peer", "reset by peer", "pair closure", "process group")


class RankWatch:
    """Watch of one rank, for as long as its outermost engine runs.

    Args:
        link: The connection between the ranks.
    """

    def __init__(self, link: RankLink) -> None:
        self.link = link
        self.failure: Failure | None = None
        # The number of runs that began, and the numbers of those that go on.
        self._count = 0
        self._runs: list[int] = []
        # Whether this rank's run is ending with an exception, and whether this rank waits for a vote.
        self.is_failed = self.is_voting = False
        # The numbers of the runs whose failure this rank has reported.
        self._reported: set[int] = set()
        self._is_over = threading.Event()
        self._has_signal = False
        self._main = threading.get_ident()
        self._thread = threading.Thread(target=self._look, name="glowplug rank watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self.link.begin_watch()
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and _SIGNAL is not None and signal.getsignal(_SIGNAL) is signal.SIG_DFL:
            signal.signal(_SIGNAL, self._on_signal)
            self._has_signal = True
        self._thread.start()

    def end(self) -> None:
        """Stop watching; a rank that has failed waits for a moment, until the other ranks have read why."""
        if OUTERMOST in self._reported:
            self._wait_for_others()
        self._is_over.set()
        if self._has_signal and signal.getsignal(_SIGNAL) == self._on_signal:  # type: ignore[arg-type]  # there is a signal
            signal.signal(_SIGNAL, signal.SIG_DFL)  # type: ignore[arg-type]
        self._thread.join()

    @property
    def run(self) -> int:
        """The number of the innermost run, which is the same on all ranks."""
        return self._runs[-1]

    def begin_run(self) -> None:
        """Begin a run of an engine, which all ranks begin."""
        self._count += 1
        self._runs.append(self._count)

    def end_run(self) -> None:
        """End the innermost run."""
        self._runs.pop()

    def check(self) -> None:
        """Raise an error if another rank has failed."""
        if self.failure is not None:
            raise RankFailedError(*self.failure)

    def explain(self, error: BaseException) -> BaseException:
        """Return the exception that a run raises instead of ``error``, which ended the run.

        If ``error`` is a consequence of the failure of another rank, this is an error that names that rank.
        """
        if isinstance(error, RankFailedError) or not _is_about_communication(error):
            return error
        failure = self._reason()
        if failure is None:
            return error
        explained = RankFailedError(*failure)
        explained.__cause__ = error
        return explained

    def report(self, error: BaseException, engine: HandlerTable) -> None:
        """Report the exception that ends the innermost run, unless it is a consequence or the end is agreed.

        The other ranks ignore the failure of a run within the outermost one if their run ends with an exception, too: if all ranks fail
        alike, the script may continue.
        """
        is_outermost = self.run == OUTERMOST
        self.is_failed = self.is_failed or is_outermost
        if self.run in self._reported or isinstance(error, (RankFailedError, PreemptionExit)):
            return
        self._reported.add(self.run)
        message = _text(error)[:_MESSAGE_LENGTH]
        if _is_about_communication(error):
            # No rank has reported a reason.
            message = f"it lost the connection to another rank, whose process has probably ended: {message}"
        failure = Failure(self.link.rank, type(error).__name__, message, engine.state.iteration)
        # The store may have ended with its process.
        with contextlib.suppress(Exception):
            self.link.publish(failure, self.run)

    def _reason(self) -> Failure | None:
        """Wait for the failure of another rank after a collective operation has failed."""
        limit = time.monotonic() + _WAIT_FOR_REASON
        while self.failure is None and self._thread.is_alive() and time.monotonic() < limit:
            time.sleep(0.05)
        return self.failure

    def _wait_for_others(self) -> None:
        limit = time.monotonic() + _WAIT_FOR_OTHERS
        with contextlib.suppress(Exception):
            while not self.link.is_broken and time.monotonic() < limit:
                time.sleep(0.05)
                self.link.is_broken = self.link.confirmations() == self.link.size - 1

    # On the thread

    def _look(self) -> None:
        while not self._is_over.wait(_POLL):
            try:
                failure = self.link.failure() or self._failure_of_inner_run()
                if failure is None:
                    continue
                is_own = failure.rank == self.link.rank and OUTERMOST in self._reported
                if not is_own:
                    self.failure, self.link.is_broken = failure, True
                    # The rank of an inner run that failed may have continued.
                    self.link.publish(failure)
                    self.link.confirm()
            except Exception:  # noqa: BLE001 - the store has ended with its process; collective operations fail then, too
                return
            self._unblock(has_signal=self._has_signal and not is_own)
            return

    def _failure_of_inner_run(self) -> Failure | None:
        """Return the failure of another rank in an inner run that does not end on this rank."""
        for run in self._runs[1:]:
            failure = self.link.failure(run)
            if failure is None or run in self._reported:
                continue
            if not self._is_over.wait(_PATIENCE) and run in self._runs and run not in self._reported:
                return failure
        return None

    def _unblock(self, *, has_signal: bool) -> None:
        """End what keeps this rank from noticing the failure."""
        for unblock in (self._abort_votes, abort_groups):
            if self._is_over.wait(_PATIENCE):
                return
            if not self.is_failed:
                unblock()
        # The code that the signal interrupts may suppress the error, for example to try again.
        while has_signal and not self.is_failed:
            if self._is_over.wait(_PATIENCE):
                return
            signal.pthread_kill(self._main, _SIGNAL)  # type: ignore[arg-type]  # there is a signal
        # The handlers at the end of the run may wait for other ranks, too.
        if not self._is_over.wait(_PATIENCE_AT_END):
            abort_groups()

    def _abort_votes(self) -> None:
        if self.is_voting:
            self.link.abort_votes()

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        if not self.is_failed:
            self.check()


def _text(error: BaseException) -> str:
    """Return the message of an exception, which must not be hidden by an error in its ``__str__``."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the method may raise anything
        # The words of Python's own tracebacks.
        return "<exception str() failed>"


def _is_about_communication(error: BaseException) -> bool:
    """Return whether an exception may be the consequence of the failure of another rank."""
    import torch.distributed as dist

    if isinstance(error, dist.DistError):
        return True
    text = _text(error).lower()
    return isinstance(error, (RuntimeError, OSError)) and any(mark in text for mark in _MARKS)


_current: RankWatch | None = None


@contextlib.contextmanager
def watched(engine: HandlerTable) -> Iterator[RankWatch]:
    """Watch over the ranks while an engine runs; an engine that runs within another engine's run uses the other engine's watch."""
    global _current  # noqa: PLW0603 - one watch in each process
    is_outermost = _current is None
    watch = _current = _current or RankWatch(open_link())
    if is_outermost:
        watch.start()
    watch.begin_run()
    try:
        yield watch
    except BaseException as error:
        watch.report(error, engine)
        raise
    finally:
        watch.end_run()
        if is_outermost:
            _current = None
            watch.end()


def explain(engine: HandlerTable, error: BaseException) -> BaseException:
    """Return the exception that the run of an engine raises after ``error``, and report it to the other ranks."""
    if _current is None:
        return error
    explained = _current.explain(error)
    _current.report(explained, engine)
    return explained
