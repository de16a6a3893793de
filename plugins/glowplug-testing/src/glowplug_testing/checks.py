"""What a check is: a plain function with a name and a purpose, which pytest classes and ``check_*`` run alike."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Callable, Iterable, Mapping
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
"""How long a check may take before what it checks is said to hang."""


class CheckFailed(AssertionError):  # noqa: N818 - it is what a test's failure is, not an error of the kit
    """What was checked is wrong; the text says what, and what to do about it."""


class CheckSkipped(Exception):  # noqa: N818 - not an error
    """The check cannot be made here; the text says why."""


@dataclass(frozen=True)
class Check:
    """One check of a contract.

    Args:
        name: by which a failure is expected; the name of the test has ``test_`` before it.
        purpose: one sentence: what holds where the check passes.
        function: takes the case; raises :class:`CheckFailed` or :class:`CheckSkipped`.
    """

    name: str
    purpose: str
    function: Callable[[Any], None]


@dataclass(frozen=True)
class Result:
    """What came of a check.

    Args:
        name: the check's name.
        status: what became of it.
        message: why it failed, or was skipped.
    """

    name: str
    status: Literal["passed", "failed", "failed as expected", "skipped"]
    message: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.status}" + (f": {self.message}" if self.message else "")


def require(condition: object, message: str) -> None:
    """Fail the check with this message if the condition does not hold."""
    if not condition:
        raise CheckFailed(message)


def checks_of(*functions: Callable[[Any], None]) -> tuple[Check, ...]:
    """Make checks of functions: the name is the function's, the purpose the first line of its docstring."""
    return tuple(
        Check(function.__name__, (function.__doc__ or "").strip().splitlines()[0], function)
        for function in functions
    )


def known_failures(
    checks: Iterable[Check], expected_failures: Mapping[str, str] | None, owner: str
) -> Mapping[str, str]:
    """Return the reasons by name of check, if each is a reason and each name that of a check.

    Raises:
        ValueError: an empty reason, or a name that no check has.
    """
    names = [check.name for check in checks]
    for name, reason in (expected_failures or {}).items():
        if name not in names:
            close = difflib.get_close_matches(name.removeprefix("test_"), names, n=3) or names
            raise ValueError(
                f"{owner}: expected_failures names {name!r}, which is no check; did you mean {', '.join(close)}?"
            )
        if not str(reason or "").strip():
            raise ValueError(
                f"{owner}: expected_failures[{name!r}] must say why the check fails, for whoever reads it later; got {reason!r}"
            )
    return expected_failures or {}


def run_check(check: Check, case: Any, reason: str | None = None) -> Result:
    """Run a check, within :data:`SECONDS`, and tell what came of it.

    Args:
        check: the check.
        case: what it is given.
        reason: why it is expected to fail; ``None``: it is not.
    """
    try:
        with time_limit(SECONDS):
            check.function(case)
    except CheckSkipped as skipped:
        return Result(check.name, "skipped", str(skipped))
    except Exception as error:  # noqa: BLE001 - whatever it raises, the thing under check did not pass
        message = _told(error)
        if reason is not None:
            return Result(check.name, "failed as expected", f"{reason} ({message})")
        return Result(check.name, "failed", message)
    if reason is not None:
        told = f"it is expected to fail ({reason}), and passes: take it out of expected_failures"
        return Result(check.name, "failed", told)
    return Result(check.name, "passed")


def _told(error: Exception) -> str:
    """Return a failure as text; with the traceback of what the author's own code raised."""
    told = str(error) if isinstance(error, CheckFailed) else f"it raised {type(error).__name__}: {error}"
    cause = error.__cause__ if isinstance(error, CheckFailed) else error
    return told if cause is None else f"{told}\n\n{''.join(traceback.format_exception(cause))}"
