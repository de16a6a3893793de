"""Checks, their results, and the function that runs a check."""

from __future__ import annotations

import difflib
import os
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from glowplug_testing.time_limit import time_limit

__all__ = [
    "Check",
    "CheckFailed",
    "CheckSkipped",
    "Result",
    "checks_of",
    "known_failures",
    "require",
    "run_check",
]

SECONDS = 60.0
"""Time limit of a check, in seconds; a check that exceeds it fails."""


class CheckFailed(AssertionError):  # noqa: N818 - a test failure, not an error of this package
    """The object under test failed a check; the message states the fault and how to fix it.

    Example:
        >>> issubclass(CheckFailed, AssertionError)  # pytest reports a failure, not an error
        True
    """


class CheckSkipped(Exception):  # noqa: N818 - not an error
    """The check does not apply or cannot run on this system; the message states the reason."""


@dataclass(frozen=True)
class Check:
    """One check of a contract.

    Args:
        name: Name of the check, which is its key in ``expected_failures``. The pytest test is called ``test_<name>``.
        purpose: One sentence that states what is true of the object if the check passes.
        function: Function that takes the case. The function raises :class:`CheckFailed` if the check fails, or
            :class:`CheckSkipped` if the check cannot run.
    """

    name: str
    purpose: str
    function: Callable[[Any], None]


@dataclass(frozen=True)
class Result:
    """Result of a check.

    Args:
        name: Name of the check.
        status: Outcome of the check.
        message: Reason why the check failed or was skipped; empty if the check passed.
    """

    name: str
    status: Literal["passed", "failed", "failed as expected", "skipped"]
    message: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.status}" + (f": {self.message}" if self.message else "")


def require(condition: object, message: str) -> None:
    """Raise :class:`CheckFailed` with the message if the condition is false."""
    if not condition:
        raise CheckFailed(message)


def checks_of(*functions: Callable[[Any], None]) -> tuple[Check, ...]:
    """Make a check from each function; the first line of the function's docstring is the purpose of the check."""
    return tuple(
        Check(function.__name__, (function.__doc__ or "").strip().splitlines()[0], function)
        for function in functions
    )


def known_failures(
    checks: Iterable[Check], expected_failures: Mapping[str, str] | None, owner: str
) -> Mapping[str, str]:
    """Return the expected failures after checking their names and reasons.

    Raises:
        ValueError: If a reason is empty, or if a check name is unknown.
    """
    names = [check.name for check in checks]
    for name, reason in (expected_failures or {}).items():
        if name not in names:
            close = difflib.get_close_matches(name.removeprefix("test_"), names, n=3) or names
            raise ValueError(
                f"{owner}: expected_failures names an unknown check {name!r}; did you mean {', '.join(close)}?"
            )
        if not str(reason or "").strip():
            raise ValueError(
                f"{owner}: expected_failures[{name!r}] must be the reason why the check fails, got {reason!r}"
            )
    return expected_failures or {}


def run_check(check: Check, case: Any, reason: str | None = None) -> Result:
    """Run a check with a time limit of :data:`SECONDS` seconds and return its result.

    Args:
        check: The check.
        case: The case to check.
        reason: Reason why the check is expected to fail. Defaults to ``None``: the check is expected to pass.
    """
    try:
        with _own_state_folder(), time_limit(SECONDS):
            check.function(case)
    except CheckSkipped as skipped:
        return Result(check.name, "skipped", str(skipped))
    except Exception as error:  # noqa: BLE001 - an error of the object under test is a failure
        message = _describe(error)
        if reason is not None:
            return Result(check.name, "failed as expected", f"{reason} ({message})")
        return Result(check.name, "failed", message)
    if reason is not None:
        message = f"the check passes but is expected to fail ({reason}); remove it from expected_failures"
        return Result(check.name, "failed", message)
    return Result(check.name, "passed")


@contextmanager
def _own_state_folder() -> Iterator[None]:
    """Use a temporary state folder for a check, so that undelivered records do not remain in the user's state folder."""
    before = os.environ.get("GLOWPLUG_HOME")
    with tempfile.TemporaryDirectory(prefix="glowplug-", ignore_cleanup_errors=True) as folder:
        os.environ["GLOWPLUG_HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["GLOWPLUG_HOME"]
            else:
                os.environ["GLOWPLUG_HOME"] = before


def _describe(error: Exception) -> str:
    """Describe a failure; if the code under test raised an exception, include the traceback."""
    message = (
        str(error) if isinstance(error, CheckFailed) else f"the check raised {type(error).__name__}: {error}"
    )
    cause = error.__cause__ if isinstance(error, CheckFailed) else error
    return message if cause is None else f"{message}\n\n{''.join(traceback.format_exception(cause))}"
