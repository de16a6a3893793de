"""Checks of a logger whose backend fails: training continues and no record is lost silently."""

from __future__ import annotations

import itertools
import re
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from glowplug import Events, RunOutcome
from glowplug_testing.cases import LoggerCase
from glowplug_testing.checks import CheckFailed, require
from glowplug_testing.flaky_backend import WRITES, FlakyBackend
from glowplug_testing.logger_trial import Trial, run_logging, wait_for
from glowplug_testing.surroundings import full_disk, no_files_or_connections

# Maximum time in seconds that logging may add to an iteration; logging usually takes a hundredth of this time.
CALLER_SECONDS = 0.002


def constructor_opens_nothing(case: LoggerCase) -> None:
    """The constructor opens no file or connection and returns at once, even if the backend is down."""
    with Trial(case) as trial:
        # The first logger may import a library, so only the second one is timed.
        trial.make()
        began = time.monotonic()
        try:
            with no_files_or_connections():
                trial.make()
        except OSError as error:
            raise CheckFailed(
                f"the constructor raised {type(error).__name__} ({error}) while the backend was down; move the code "
                "that opens files and connections to open_backend(self), which Logger calls before it writes the first record"
            ) from error
        _require_quick(time.monotonic() - began, 1.0, "the constructor")


def backend_down_from_the_start(case: LoggerCase) -> None:
    """A run with an unreachable backend completes; the fault is reported once, and every lost record is counted."""
    with Trial(case) as trial:
        logger = trial.make(timeout=0.5)
        with FlakyBackend.refusing(logger), _no_exception_from("a backend that refuses connections"):
            engine = run_logging(trial, logger, [0.5, 0.25, 0.125])
            logger.close()
        _require_untouched(engine, 3)
        trial.require_counted(logger, 3, len(trial.stored()))
        _require_reported(trial)


def backend_that_comes_back(case: LoggerCase) -> None:
    """Records wait until the backend is reachable and are then stored once, in order."""
    with Trial(case) as trial:
        logger = trial.make()
        with FlakyBackend.refusing(logger, "open_backend", times=2):
            logged = trial.log(logger, [("loss", step, 0.5 * step) for step in range(4)])
            wait_for(lambda: logger.flush(5.0), 10.0)
            logged += trial.log(logger, [("loss", 4, 2.0)])
            logger.close()
        trial.require_stored(
            logged,
            "after the backend became reachable",
            "Raise an exception in open_backend() while the backend is unreachable",
        )
        _require_reported(trial)


def connection_lost_in_a_write(case: LoggerCase) -> None:
    """After a write raises a ConnectionError, the backend is reopened, and all records are stored once, in order."""
    with Trial(case) as trial:
        logger = trial.make()
        logged = trial.log(logger, [("loss", step, 0.5 * step) for step in range(3)])
        logger.flush()
        error = ConnectionResetError("the connection was lost")
        with (
            FlakyBackend.failing(logger, 2, error, *WRITES) as backend,
            _ignore_resource_warnings(),
        ):
            for step in range(3, 6):
                logged += trial.log(logger, [("loss", step, 0.5 * step)])
                wait_for(lambda: logger.flush(5.0), 10.0)
            reopened = len(backend.calls_of("open_backend"))
        logger.close()
        require(
            reopened,
            "open_backend() was not called again after a ConnectionError; do not override the methods of Logger "
            "that call open_backend()",
        )
        trial.require_stored(
            logged,
            "after a lost connection and a second open_backend()",
            "open_backend() must keep stored records (append, do not truncate) and must not write records itself",
        )


def occasional_errors_lose_one_record(case: LoggerCase) -> None:
    """Records that the backend refuses are counted as dropped and reported once; all other records are stored."""
    with Trial(case) as trial:
        logger = trial.make()
        logged = []
        with (
            FlakyBackend.failing(logger, every=3) as backend,
            _no_exception_from("a backend that refuses a record"),
        ):
            for step in range(10):
                before = backend.faults
                row = trial.log(logger, [("loss", step, 0.5 * step)])
                logger.flush()
                logged += row if backend.faults == before else []
            logger.close()
        trial.require_stored(
            logged, "after every third write failed", "Write each record when the write method receives it"
        )
        trial.require_counted(logger, 10, len(logged))
        _require_reported(trial)


def error_at_close(case: LoggerCase) -> None:
    """Errors in flush_backend() and close_backend() are reported, not raised."""
    with Trial(case) as trial:
        logger = trial.make()
        trial.log(logger, [("loss", 1, 0.5)])
        logger.flush()
        fault = FlakyBackend.failing(
            logger, 1, RuntimeError("cannot be closed"), "flush_backend", "close_backend"
        )
        with fault, _no_exception_from("a backend that fails in close()"):
            logger.close()
        _require_reported(trial)


def slow_backend_does_not_block(case: LoggerCase) -> None:
    """A slow backend does not delay the training loop, and no record is lost."""
    seconds, iterations = 0.05, 30
    with Trial(case) as trial:
        logger = trial.make()
        times: list[float] = []
        with FlakyBackend.slow(logger, seconds) as backend:

            def watch(_: object) -> None:
                times.append(time.monotonic())
                if len(times) == iterations:
                    backend.heal()

            batches = [0.5 * number for number in range(iterations)]
            run_logging(
                trial,
                logger,
                batches,
                lambda engine: engine.add_event_handler(Events.ITERATION_STARTED, watch),
            )
            logger.close()
        held = times[-1] - times[0]
        usual = statistics.median(later - earlier for earlier, later in itertools.pairwise(times))
        require(
            held < seconds * iterations / 3 and usual < CALLER_SECONDS,
            f"{iterations} iterations took {held:.2f} s (median {1000 * usual:.1f} ms) with a backend that needs {seconds} s per "
            "record; write to the backend only in write_scalars(), because it runs on the worker thread",
        )
        logged = [(trial.name("loss"), number + 1, batch) for number, batch in enumerate(batches)]
        trial.require_stored(
            logged, "with a slow backend", "Wait for unfinished writes in close_backend(outcome)"
        )


def hanging_backend_times_out(case: LoggerCase) -> None:
    """If the backend hangs, run() and close() each wait no longer than the timeout, and the fault is reported."""
    timeout = 0.3
    for methods in (("open_backend",), WRITES, ("flush_backend",), ("close_backend",)):
        with Trial(case) as trial:
            logger = trial.make(timeout=timeout)
            if methods != ("open_backend",):
                # Opening a working backend may take longer than the timeout.
                logger.ensure_open()
            with FlakyBackend.hanging(logger, *methods) as backend:
                began = time.monotonic()
                engine = run_logging(trial, logger, [0.5, 0.25])
                logger.close()
                took = time.monotonic() - began
                struck = backend.faults
            where = "a write" if methods is WRITES else methods[0]
            _require_untouched(engine, 2)
            _require_quick(
                took,
                2 * timeout + 1.5,
                f"a run and close() with timeout={timeout} and a backend that hangs in {where}",
            )
            require(
                struck and trial.warnings,
                f"a backend that hangs in {where} was not reported; do not override close() and flush()",
            )


def full_disk_does_not_end_the_run(case: LoggerCase) -> None:
    """While the disk is full, records are delayed or counted as dropped; afterwards logging continues."""
    with Trial(case) as trial:
        logger = trial.make()
        trial.log(logger, [("loss", step, 0.5) for step in range(3)])
        logger.flush()
        with full_disk(), _no_exception_from("a full disk"):
            for step in range(3, 6):
                trial.log(logger, [("loss", step, 0.5)])
                logger.flush(1.0)
        trial.log(logger, [("loss", step, 0.5) for step in range(6, 9)])
        wait_for(lambda: logger.flush(5.0), 10.0)
        logger.close()
        steps = [step for _, step, _ in trial.stored()]
        require(
            steps[:3] == [0, 1, 2] and steps[-3:] == [6, 7, 8] and len(steps) == len(set(steps)),
            "steps 0 to 8 were logged, and the disk was full during steps 3 to 5. Every step before and after the fault must be "
            f"stored once, but the stored steps are {steps}{trial.report()}",
        )
        trial.require_counted(logger, 9, len(steps))


def no_files_or_connections_do_not_end_the_run(case: LoggerCase) -> None:
    """While no file or connection can be opened, records are delayed or counted as dropped; afterwards logging continues."""
    with Trial(case) as trial:
        logger = trial.make()
        with no_files_or_connections(on_all_threads=True), _no_exception_from("an unreachable backend"):
            engine = run_logging(trial, logger, [0.5, 0.25, 0.125])
        _require_untouched(engine, 3)
        trial.log(logger, [("after", 4, 1.0)])
        wait_for(lambda: logger.flush(5.0), 10.0)
        logger.close()
        stored = trial.stored()
        require(
            stored[-1:] and stored[-1][1] == 4,
            f"no record was stored after files and connections could be opened again{trial.report()}",
        )
        trial.require_counted(logger, 4, len(stored))


def refused_writes_are_counted(case: LoggerCase) -> None:
    """While writes and flushes raise ENOSPC (disk full), training continues, and every lost record is counted."""
    with Trial(case) as trial:
        logger = trial.make()
        with FlakyBackend.full_disk(logger), _no_exception_from("a full disk"):
            engine = run_logging(trial, logger, [0.5, 0.25, 0.125])
        _require_untouched(engine, 3)
        logged = trial.log(logger, [("loss", 4, 1.0)])
        logger.close()
        trial.require_stored(
            logged, "after writes succeeded again", "Discard a record that could not be written"
        )
        trial.require_counted(logger, 4, 1)
        _require_reported(trial)


def on_error_raise_raises(case: LoggerCase) -> None:
    """With on_error="raise", an error of the backend reaches the caller."""
    with Trial(case) as trial:
        logger = trial.make(on_error="raise")
        error = RuntimeError("the backend refused this record")
        with FlakyBackend.failing(logger, 1, error):
            try:
                trial.log(logger, [("loss", 1, 0.5)])
                logger.flush()
            except RuntimeError as raised:
                require(raised is error, f"flush() raised {raised!r} instead of the backend's error")
                return
        raise CheckFailed(
            'a write failed with on_error="raise", but the logger raised no exception; pass on_error to super().__init__()'
        )


@contextmanager
def _ignore_resource_warnings() -> Iterator[None]:
    # A second open_backend() may replace a file that is still open; Python warns when it closes that file.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


@contextmanager
def _no_exception_from(fault: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise CheckFailed(
            f"with {fault}, the logger raised {type(error).__name__} on the training thread; use the backend only in "
            "open_backend(), flush_backend(), close_backend() and the write methods, because Logger catches and reports the "
            "errors of these methods"
        ) from error


def _require_untouched(engine: object, iterations: int) -> None:
    state = engine.state  # type: ignore[attr-defined]  # an Engine
    require(
        state.outcome is RunOutcome.COMPLETED and state.iteration == iterations,
        f"because the backend failed, a run of {iterations} iterations ended at iteration {state.iteration} with "
        f"the outcome {state.outcome}",
    )


def _require_quick(took: float, limit: float, what: str) -> None:
    require(
        took < limit,
        f"{what} took {took:.2f} s, more than {limit:g} s; wait for the backend only in open_backend(), flush_backend(), "
        "close_backend() and the write methods",
    )


def _require_reported(trial: Trial) -> None:
    require(
        trial.warnings, "the backend failed but nothing was reported; do not catch its errors in the logger"
    )
    # Reports of one fault differ in numbers, such as steps and times.
    kinds = Counter(re.sub(r"\d+", "", warning) for warning in trial.warnings)
    repeated, times = kinds.most_common(1)[0]
    require(
        times == 1,
        f"one fault was reported {times} times; report each kind of fault once: {repeated}{trial.report()}",
    )


FAULT_CHECKS = (
    constructor_opens_nothing,
    backend_down_from_the_start,
    backend_that_comes_back,
    connection_lost_in_a_write,
    occasional_errors_lose_one_record,
    error_at_close,
    slow_backend_does_not_block,
    hanging_backend_times_out,
    full_disk_does_not_end_the_run,
    no_files_or_connections_do_not_end_the_run,
    refused_writes_are_counted,
    on_error_raise_raises,
)
