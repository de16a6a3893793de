"""Checks of a logger whose backend fails: no fault reaches the training, and nothing goes missing in silence."""

from __future__ import annotations

import itertools
import statistics
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from glowplug import Events, RunOutcome
from glowplug_testing.cases import LoggerCase
from glowplug_testing.checks import CheckFailed, require
from glowplug_testing.flaky_backend import WRITES, FlakyBackend
from glowplug_testing.logger_trial import Trial, run_logging, wait_for
from glowplug_testing.surroundings import full_disk, unreachable_world

A_MOMENT = 0.002  # seconds that logging may take in an iteration; it takes a hundredth of that
REPORTS = 2  # one while it lasts, one at close() that tells how much was lost


def constructor_opens_nothing(case: LoggerCase) -> None:
    """A logger can be made while its backend is down, at once: it is reached in open_backend()."""
    with Trial(case) as trial:
        trial.make()  # may import a library
        began = time.monotonic()
        try:
            with unreachable_world():
                trial.make()
        except OSError as error:
            raise CheckFailed(
                f"the constructor raised {type(error).__name__} ({error}) where nothing can be reached. That would end a script "
                "before its training has begun, and happen on every rank. Move what reaches the backend to open_backend(self), which is "
                "called before the first record, on a thread of its own"
            ) from error
        _require_quick(time.monotonic() - began, 1.0, "making a logger")


def backend_down_from_the_start(case: LoggerCase) -> None:
    """With a backend that cannot be reached a run completes; it is reported once, and every record is counted."""
    with Trial(case) as trial:
        logger = trial.make(timeout=0.5)
        with FlakyBackend.refusing(logger), _training_goes_on("a backend that refuses connections"):
            engine = run_logging(trial, logger, [0.5, 0.25, 0.125])
            logger.close()
        _require_untouched(engine, 3)
        trial.require_counted(logger, 3, len(trial.stored()))
        _require_reported(trial)


def backend_that_comes_back(case: LoggerCase) -> None:
    """Records wait for a backend that cannot be reached at first, and are stored once, in order."""
    with Trial(case) as trial:
        logger = trial.make()
        with FlakyBackend.refusing(logger, "open_backend", times=2):
            logged = trial.log(logger, [("loss", step, 0.5 * step) for step in range(4)])
            wait_for(lambda: logger.flush(5.0), 10.0)
            logged += trial.log(logger, [("loss", 4, 2.0)])
            logger.close()
        trial.require_stored(
            logged,
            "with a backend that came up late",
            "Let open_backend() raise until the backend can be reached",
        )
        _require_reported(trial)


def connection_lost_in_a_write(case: LoggerCase) -> None:
    """After a ConnectionError in a write the backend is opened again, and all records are stored once, in order."""
    with Trial(case) as trial:
        logger = trial.make()
        logged = trial.log(logger, [("loss", step, 0.5 * step) for step in range(3)])
        logger.flush()
        error = ConnectionResetError("the connection was lost")
        with (
            FlakyBackend.failing(logger, 2, error, *WRITES) as backend,
            _leaks_are_no_matter(),
        ):
            for step in range(3, 6):
                logged += trial.log(logger, [("loss", step, 0.5 * step)])
                wait_for(lambda: logger.flush(5.0), 10.0)
            reopened = len(backend.calls_of("open_backend"))
        logger.close()
        require(
            reopened,
            "open_backend() was not called again; leave it to Logger when a backend is opened and written to",
        )
        trial.require_stored(
            logged,
            "after the connection was lost and open_backend() called again",
            "open_backend() is called a second time then: it must keep what is stored (append, do not truncate) and write nothing itself",
        )


def occasional_errors_lose_one_record(case: LoggerCase) -> None:
    """A record that the backend refuses is counted as lost and reported once, and all others are stored."""
    with Trial(case) as trial:
        logger = trial.make()
        logged = []
        with (
            FlakyBackend.failing(logger, every=3) as backend,
            _training_goes_on("a backend that refuses a record"),
        ):
            for step in range(10):
                before = backend.faults
                row = trial.log(logger, [("loss", step, 0.5 * step)])
                logger.flush()
                logged += row if backend.faults == before else []
            logger.close()
        trial.require_stored(
            logged, "after every third write had failed", "Write each record by itself, as it comes"
        )
        trial.require_counted(logger, 10, len(logged))
        _require_reported(trial)


def error_at_close(case: LoggerCase) -> None:
    """A backend that fails in flush and close is reported, and raises nothing."""
    with Trial(case) as trial:
        logger = trial.make()
        trial.log(logger, [("loss", 1, 0.5)])
        logger.flush()
        fault = FlakyBackend.failing(
            logger, 1, RuntimeError("cannot be closed"), "flush_backend", "close_backend"
        )
        with fault, _training_goes_on("a backend that fails in close()"):
            logger.close()
        _require_reported(trial)


def slow_backend_does_not_block(case: LoggerCase) -> None:
    """Logging to a slow backend costs the caller nothing, and loses nothing."""
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
            held < seconds * iterations / 3 and usual < A_MOMENT,
            f"{iterations} iterations took {held:.2f} s, each {1000 * usual:.1f} ms, with a backend that needs {seconds} s for a "
            "record: the training waits for it. Leave attach, the queue and flush() to Logger; write in write_scalars, which runs on the worker thread",
        )
        logged = [(trial.name("loss"), number + 1, batch) for number, batch in enumerate(batches)]
        trial.require_stored(
            logged, "with a backend that was slow", "Wait for what is on its way in close_backend(outcome)"
        )


def hanging_backend_times_out(case: LoggerCase) -> None:
    """With a backend that hangs, the end of a run and close() take no longer than the timeout, and it is reported."""
    timeout = 0.3
    for methods in (("open_backend",), WRITES, ("flush_backend",), ("close_backend",)):
        with Trial(case) as trial:
            logger = trial.make(timeout=timeout)
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
                f"a run and close(), with a backend that hangs in {where} and timeout={timeout},",
            )
            require(
                struck and trial.warnings,
                f"a backend that hangs in {where} was given up on, and nobody was told; leave close() and flush() to Logger",
            )


def full_disk_does_not_end_the_run(case: LoggerCase) -> None:
    """While the disk is full records are stored later or counted as lost; afterwards logging goes on."""
    with Trial(case) as trial:
        logger = trial.make()
        trial.log(logger, [("loss", step, 0.5) for step in range(3)])
        logger.flush()
        with full_disk(), _training_goes_on("a full disk"):
            for step in range(3, 6):
                trial.log(logger, [("loss", step, 0.5)])
                logger.flush(1.0)
        trial.log(logger, [("loss", step, 0.5) for step in range(6, 9)])
        wait_for(lambda: logger.flush(5.0), 10.0)
        logger.close()
        steps = [step for _, step, _ in trial.stored()]
        require(
            steps[:3] == [0, 1, 2] and steps[-3:] == [6, 7, 8] and len(steps) == len(set(steps)),
            f"9 records were logged, the disk being full for the middle three; stored are the steps {steps}. What was stored "
            f"before must stay, and what comes afterwards must be stored, once{trial.told()}",
        )
        trial.require_counted(logger, 9, len(steps))


def no_files_or_connections_do_not_end_the_run(case: LoggerCase) -> None:
    """While no file can be opened and nothing connected to, records are stored later or counted; then logging goes on."""
    with Trial(case) as trial:
        logger = trial.make()
        with unreachable_world(everywhere=True), _training_goes_on("a world that cannot be reached"):
            engine = run_logging(trial, logger, [0.5, 0.25, 0.125])
        _require_untouched(engine, 3)
        trial.log(logger, [("after", 4, 1.0)])
        wait_for(lambda: logger.flush(5.0), 10.0)
        logger.close()
        stored = trial.stored()
        require(
            stored[-1:] and stored[-1][1] == 4,
            f"when files could be opened and connections made again, nothing was stored any more{trial.told()}",
        )
        trial.require_counted(logger, 4, len(stored))


def refused_writes_are_counted(case: LoggerCase) -> None:
    """While writes and flushes raise "no space left on device", training goes on and every record is counted."""
    with Trial(case) as trial:
        logger = trial.make()
        with FlakyBackend.full_disk(logger), _training_goes_on("a full disk"):
            engine = run_logging(trial, logger, [0.5, 0.25, 0.125])
        _require_untouched(engine, 3)
        logged = trial.log(logger, [("loss", 4, 1.0)])
        logger.close()
        trial.require_stored(
            logged, "after writes were possible again", "Keep nothing of a record that could not be written"
        )
        trial.require_counted(logger, 4, 1)
        _require_reported(trial)


def on_error_raise_raises(case: LoggerCase) -> None:
    """With on_error="raise" the error of the backend reaches the caller."""
    with Trial(case) as trial:
        logger = trial.make(on_error="raise")
        error = RuntimeError("the backend refused this record")
        with FlakyBackend.failing(logger, 1, error):
            try:
                trial.log(logger, [("loss", 1, 0.5)])
                logger.flush()
            except RuntimeError as raised:
                require(raised is error, f"flush() raised {raised!r} instead of the backend's own error")
                return
        raise CheckFailed(
            'a write failed with on_error="raise", and nothing was raised: hand on_error on to super().__init__'
        )


@contextmanager
def _leaks_are_no_matter() -> Iterator[None]:
    # open_backend() may put a handle in the place of one that is broken or not; Python closes the former, and says so.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


@contextmanager
def _training_goes_on(fault: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise CheckFailed(
            f"{type(error).__name__} was raised into the training by {fault}. Reach the backend in open_backend() and in the write methods "
            "only; what these raise is reported, and the training goes on"
        ) from error


def _require_untouched(engine: object, iterations: int) -> None:
    state = engine.state  # type: ignore[attr-defined]  # an Engine
    require(
        state.outcome is RunOutcome.COMPLETED and state.iteration == iterations,
        f"a run of {iterations} iterations ended after {state.iteration}, as {state.outcome}, since its backend failed",
    )


def _require_quick(took: float, limit: float, what: str) -> None:
    require(
        took < limit,
        f"{what} took {took:.2f} s, and may take {limit:g} s; only open_backend(), close_backend() and write methods may wait",
    )


def _require_reported(trial: Trial) -> None:
    require(
        trial.warnings, "the backend failed, and nothing was reported: do not catch its errors in the logger"
    )
    require(
        len(trial.warnings) <= REPORTS, f"one fault was reported {len(trial.warnings)} times{trial.told()}"
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
