"""Helpers for the checks of a logger: create loggers, read stored scalars, capture warnings."""

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
"""Timeout for a working backend, in seconds; some backends take a long time to import."""

_numbers = itertools.count(1)
_log = logging.getLogger("glowplug.loggers")


class WarningCapture(logging.Handler):
    """Collects logged warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Store a warning."""
        self.messages.append(record.getMessage())


class Trial:
    """Context manager for one check of a logger; closes all loggers of the check at the end of the block.

    The names of all scalars begin with a tag, because several checks may write to the same file.

    Args:
        case: The case that describes the logger.
    """

    def __init__(self, case: LoggerCase) -> None:
        self.case = case
        self.tag = f"check{next(_numbers)}"
        self._capture = WarningCapture()
        self.warnings = self._capture.messages
        self._made: list[Logger] = []

    def make(self, **options: Any) -> Any:
        """Return a new logger, with a timeout of :data:`LONG` seconds by default."""
        options.setdefault("timeout", LONG)
        try:
            logger = self.case.make(**options)
        except TypeError as error:
            raise CheckFailed(
                f"LoggerCase.make({', '.join(f'{name}={value!r}' for name, value in options.items())}) raised TypeError: "
                f"{error}. Pass the options to your logger with make=lambda **options: AcmeLogger(path, **options). In your "
                "logger, pass the options on with super().__init__(**options)"
            ) from error
        require(
            isinstance(logger, Logger),
            f"LoggerCase.make() must return a glowplug.loggers.Logger, got {logger!r}; derive your class from Logger",
        )
        require(
            hasattr(logger, "on_error"),
            f"{type(logger).__name__}.__init__() must call super().__init__(**options)",
        )
        self._made.append(logger)
        return logger

    def name(self, name: str) -> str:
        """Return the name with the tag of this check as its prefix."""
        return f"{self.tag}/{name}"

    def log(self, logger: Any, rows: Iterable[tuple[str, int, float]]) -> list[Row]:
        """Log each row as a separate record and return the rows with tagged names."""
        logged = [(self.name(name), step, value) for name, step, value in rows]
        for name, step, value in logged:
            logger.log_scalars({name: value}, step)
        return logged

    def stored(self) -> list[Row]:
        """Return the stored scalars of this check."""
        try:
            rows: list[Any] = list(self.case.read())
        # Nothing was written yet.
        except FileNotFoundError:
            return []
        except Exception as error:
            raise CheckFailed(
                f"LoggerCase.read() raised {type(error).__name__}; it must return every stored scalar as "
                f"(name, step, value){self.report()}"
            ) from error
        for row in rows:
            require(
                isinstance(row, Sequence) and len(row) == FIELDS,
                f"LoggerCase.read() must return every stored scalar as (name, step, value), got {row!r}",
            )
        return [(name, step, value) for name, step, value in rows if str(name).startswith(f"{self.tag}/")]

    def require_stored(self, logged: Iterable[Row], when: str, advice: str) -> None:
        """Require that exactly these rows are stored, and that rows with the same name are stored in this order."""
        expected, stored = list(logged), self.stored()
        problem = _difference(expected, stored)
        require(not problem, f"{when}, {problem}. {advice}{self.report()}")

    def require_counted(self, logger: Any, logged: int, stored: int) -> None:
        """Require that every record is counted, and that the number counted as sent equals the number stored."""
        counts = logger.counts
        require(
            sum(counts) == logged and counts.sent == stored,
            f"{logged} records were logged and {stored} are stored, but the counts are {counts}; do not catch errors of the "
            f"backend, so that Logger can count and report lost records{self.report()}",
        )

    def report(self) -> str:
        """Return the warnings of the logger as text to append to a message."""
        return f"\nWarnings of the logger: {'; '.join(self.warnings)}" if self.warnings else ""

    def __enter__(self) -> Trial:  # noqa: PYI034 - Self needs Python 3.11
        self._workers = _workers()
        _log.addHandler(self._capture)
        self._propagate, _log.propagate = _log.propagate, False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for logger in self._made:
                logger.timeout = min(logger.timeout, 5.0)
                # The checks of close() have run already.
                with suppress(Exception):
                    logger.close()
            wait_for(lambda: _workers() <= self._workers, 5.0)
        finally:
            _log.removeHandler(self._capture)
            _log.propagate = self._propagate


def run_logging(
    trial: Trial, logger: Any, batches: Iterable[float], prepare: Callable[[Engine], object] | None = None
) -> Engine:
    """Run an engine, log its output at each iteration as ``loss``, and return the engine.

    Args:
        trial: The running check.
        logger: The logger.
        batches: The data; each batch is also the output of its iteration.
        prepare: Function that is called with the engine before the run.
    """
    engine = Engine(lambda _, batch: batch)
    attach(trial, logger, engine)
    if prepare is not None:
        prepare(engine)
    engine.run(list(batches))
    return engine


def attach(trial: Trial, logger: Any, engine: Any, event: Any = Events.ITERATION_COMPLETED) -> Any:
    """Attach the logger so that it logs the engine's output at an event, under the name ``loss`` with the check's tag."""
    return logger.attach(
        engine, event, OutputHandler(trial.tag, output_transform=lambda value: {"loss": value})
    )


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition is true or the time limit expires; return whether the condition became true."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def same(expected: Any, value: Any) -> bool:
    """Return whether a stored value equals the logged value within float32 precision."""
    if isinstance(value, (str, bytes, type(None))):
        return False
    return math.isclose(float(expected), float(value), rel_tol=1e-6, abs_tol=1e-30)


def _workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("glowplug ")}


def _difference(expected: list[Row], stored: list[Row]) -> str:
    """Describe how the stored rows differ from the logged rows; return an empty string if they are equal."""
    wanted = Counter((name, step) for name, step, _ in expected)
    found = Counter((str(name), step) for name, step, _ in stored)
    for what, difference in (
        ("missing", wanted - found),
        ("stored more than once or without being logged", found - wanted),
    ):
        if difference:
            shown = ", ".join(f"{name} at step {step!r}" for name, step in list(difference)[:3])
            return f"{difference.total()} scalars are {what}, such as {shown}; {len(expected)} scalars were logged"
    for name in {name for name, _, _ in expected}:
        of_name = [(step, value) for other, step, value in expected if other == name]
        rows = [(step, value) for other, step, value in stored if other == name]
        if [step for step, _ in of_name] != [step for step, _ in rows]:
            return f"{name} was logged as {of_name[:8]} but is stored in another order: {rows[:8]}"
        for (step, value), (_, other_value) in zip(of_name, rows, strict=True):
            if not same(value, other_value):
                return f"{name} at step {step} was logged as {value!r} but is stored as {other_value!r}"
    return ""
