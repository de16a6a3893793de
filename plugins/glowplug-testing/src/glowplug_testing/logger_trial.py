"""What all checks of a logger use: how one is made, what is stored under names of this check, and what the log said."""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeAlias

from glowplug import Events
from glowplug.engine import Engine
from glowplug.loggers import Logger, OutputHandler
from glowplug_testing.cases import LoggerCase
from glowplug_testing.checks import CheckFailed, require

Row: TypeAlias = tuple[str, int, Any]

FIELDS = 3

LONG = 60.0
"""Seconds that a healthy backend is given: some take long to import."""

_numbers = itertools.count(1)
_log = logging.getLogger("glowplug.loggers")


class Ear(logging.Handler):
    """Keeps the warnings that a log is given."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning."""
        self.heard.append(record.getMessage())


class Trial:
    """One check of a logger, as a ``with`` block, after which all that was made is closed.

    Its names begin with a tag of their own, so that it can be told from what other checks stored in the same place.

    Args:
        case: the case.
    """

    def __init__(self, case: LoggerCase) -> None:
        self.case = case
        self.tag = f"check{next(_numbers)}"
        self._ear = Ear()
        self.warnings = self._ear.heard
        self._made: list[Logger] = []

    def make(self, **options: Any) -> Any:
        """Return a new logger; it has time enough for a healthy backend unless the options say otherwise."""
        options.setdefault("timeout", LONG)
        try:
            logger = self.case.make(**options)
        except TypeError as error:
            raise CheckFailed(
                f"LoggerCase.make({', '.join(f'{name}={value!r}' for name, value in options.items())}) raised {error}. A logger "
                "takes the options of glowplug.loggers.Logger and hands them on: def __init__(self, path, **options): "
                "super().__init__(**options); and the case does so too: make=lambda **options: AcmeLogger(path, **options)"
            ) from error
        require(
            isinstance(logger, Logger),
            f"LoggerCase.make() returned {logger!r}, which is no glowplug.loggers.Logger; derive your class from it",
        )
        require(
            hasattr(logger, "on_error"),
            f"{type(logger).__name__}.__init__ does not call super().__init__(**options), without which nothing is delivered",
        )
        self._made.append(logger)
        return logger

    def name(self, name: str) -> str:
        """Return a name of this check."""
        return f"{self.tag}/{name}"

    def log(self, logger: Any, rows: Iterable[tuple[str, int, float]]) -> list[Row]:
        """Log each row as a record of its own, and return them as a list, with this check's names."""
        logged = [(self.name(name), step, value) for name, step, value in rows]
        for name, step, value in logged:
            logger.log_scalars({name: value}, step)
        return logged

    def stored(self) -> list[Row]:
        """Return what is stored under this check's names."""
        try:
            rows: list[Any] = list(self.case.read())
        except FileNotFoundError:  # nothing was ever written
            return []
        except Exception as error:
            raise CheckFailed(
                f"LoggerCase.read() raised {type(error).__name__}; it returns every scalar that is stored, as "
                f"(name, step, value){self.told()}"
            ) from error
        for row in rows:
            require(
                isinstance(row, Sequence) and len(row) == FIELDS,
                f"LoggerCase.read() must return (name, step, value) for every scalar that is stored, got {row!r}",
            )
        return [(name, step, value) for name, step, value in rows if str(name).startswith(f"{self.tag}/")]

    def require_stored(self, logged: Iterable[Row], when: str, advice: str) -> None:
        """Require that exactly these rows are stored, those of one name in this order."""
        expected, stored = list(logged), self.stored()
        problem = _difference(expected, stored)
        require(not problem, f"{when}, {problem}. {advice}{self.told()}")

    def require_counted(self, logger: Any, logged: int, stored: int) -> None:
        """Require that what was logged is counted, and that what is counted as sent is stored."""
        counts = logger.counts
        require(
            sum(counts) == logged and counts.sent == stored,
            f"{logged} records were logged and {stored} of them are stored, but the counts are {counts}: some went missing in "
            "silence. A write method must raise what it cannot write: it is then counted as lost, and reported once. Do not "
            f"catch errors of the backend in the logger{self.told()}",
        )

    def told(self) -> str:
        """Return what the logger reported, to be added to a message."""
        return f"\nThe log says: {'; '.join(self.warnings)}" if self.warnings else ""

    def __enter__(self) -> Trial:  # noqa: PYI034 - Self needs Python 3.11
        self._workers = _workers()
        _log.addHandler(self._ear)
        self._propagate, _log.propagate = _log.propagate, False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for logger in self._made:
                logger.timeout = min(logger.timeout, 5.0)
                with suppress(Exception):  # the check has had its say about closing
                    logger.close()
            wait_for(lambda: _workers() <= self._workers, 5.0)
        finally:
            _log.removeHandler(self._ear)
            _log.propagate = self._propagate


def run_logging(
    trial: Trial, logger: Any, batches: Iterable[float], prepare: Callable[[Engine], object] | None = None
) -> Engine:
    """Run an engine whose outputs are logged at each iteration under the name ``loss``; return the engine.

    Args:
        trial: the check.
        logger: the logger.
        batches: the data, which are the outputs too.
        prepare: called with the engine before it runs.
    """
    engine = Engine(lambda _, batch: batch)
    attach(trial, logger, engine)
    if prepare is not None:
        prepare(engine)
    engine.run(list(batches))
    return engine


def attach(trial: Trial, logger: Any, engine: Any, event: Any = Events.ITERATION_COMPLETED) -> Any:
    """Log the engine's output at an event, under the check's name ``loss``."""
    return logger.attach(
        engine, event, OutputHandler(trial.tag, output_transform=lambda value: {"loss": value})
    )


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds, and return whether it came to."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def same(expected: Any, value: Any) -> bool:
    """Return whether a stored value is what was logged, as precisely as 32 bits tell."""
    if isinstance(value, (str, bytes, type(None))):
        return False
    return math.isclose(float(expected), float(value), rel_tol=1e-6, abs_tol=1e-30)


def _workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("glowplug ")}


def _difference(expected: list[Row], stored: list[Row]) -> str:
    """Return in words how what is stored differs from what was logged; the empty string if it does not."""
    wanted = Counter((name, step) for name, step, _ in expected)
    found = Counter((str(name), step) for name, step, _ in stored)
    for what, difference in (
        ("missing", wanted - found),
        ("stored too often, or never logged", found - wanted),
    ):
        if difference:
            shown = ", ".join(f"{name} at step {step!r}" for name, step in list(difference)[:3])
            return f"of {len(expected)} scalars {difference.total()} are {what}, such as {shown}"
    for name in {name for name, _, _ in expected}:
        of_name = [(step, value) for other, step, value in expected if other == name]
        rows = [(step, value) for other, step, value in stored if other == name]
        if [step for step, _ in of_name] != [step for step, _ in rows]:
            return f"{name} was logged at the steps {of_name[:8]} and is stored in another order: {rows[:8]}"
        for (step, value), (_, other_value) in zip(of_name, rows, strict=True):
            if not same(value, other_value):
                return f"{name} at step {step} was logged as {value!r} and is stored as {other_value!r}"
    return ""
