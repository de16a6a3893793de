"""Functions that run the checks of the contracts without pytest."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from glowplug_testing.cases import HandlerCase, LoggerCase, MetricCase, SaveHandlerCase
from glowplug_testing.check_lists import HANDLER_CHECKS, LOGGER_CHECKS, METRIC_CHECKS, SAVE_HANDLER_CHECKS
from glowplug_testing.checks import Check, CheckFailed, Result, known_failures, run_check

__all__ = ["check_handler", "check_logger", "check_metric", "check_save_handler"]


def check_handler(obj: Any, expected_failures: Mapping[str, str] | None = None) -> list[Result]:
    """Run the checks of ``HandlerContract``.

    Args:
        obj: A handler, a :class:`HandlerCase`, or a class or function that returns a new handler when called without
            arguments. If ``obj`` is a handler, the checks use deep copies of this handler.
        expected_failures: Reason for each expected failure, keyed by the name of the check.

    Returns:
        The result of each check.

    Raises:
        CheckFailed: If a check fails unexpectedly, or if a check passes although it is expected to fail. The message lists all
            such checks.
        ValueError: If an expected failure has no reason or names an unknown check.

    Example:
        >>> from glowplug import Events
        >>> class Shout:
        ...     def attach(self, engine):
        ...         return engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        ...
        ...     def __call__(self, engine): ...
        >>> results = check_handler(Shout)
        >>> "failed" in {result.status for result in results}
        False
    """
    return _check(_handler_case(obj), HANDLER_CHECKS, expected_failures)


def check_logger(case: LoggerCase, expected_failures: Mapping[str, str] | None = None) -> list[Result]:
    """Run the checks of ``LoggerContract``.

    Args:
        case: The logger to check: how to create the logger, and how to read the scalars that it stores.
        expected_failures: Reason for each expected failure, keyed by the name of the check.

    Returns:
        The result of each check.

    Raises:
        CheckFailed: If a check fails unexpectedly, or if a check passes although it is expected to fail. The message lists all
            such checks.
        ValueError: If an expected failure has no reason or names an unknown check.
        TypeError: If ``case`` is not a :class:`LoggerCase`.

    Example:
        >>> from glowplug.loggers import Logger
        >>> class Quiet(Logger):
        ...     def __init__(self):  # does not accept **options
        ...         super().__init__()
        ...
        ...     def write_scalars(self, scalars, step, timestamp): ...
        >>> try:
        ...     check_logger(LoggerCase(make=Quiet, read=list))
        ... except CheckFailed as error:
        ...     print(str(error).splitlines()[2].partition(":")[0])
        options_are_passed_on
    """
    return _check(_of_type(LoggerCase, case), LOGGER_CHECKS, expected_failures)


def check_metric(case: MetricCase, expected_failures: Mapping[str, str] | None = None) -> list[Result]:
    """Run the checks of ``MetricContract``.

    Args:
        case: The metric to check, with data and the expected value.
        expected_failures: Reason for each expected failure, keyed by the name of the check.

    Returns:
        The result of each check.

    Raises:
        CheckFailed: If a check fails unexpectedly, or if a check passes although it is expected to fail. The message lists all
            such checks.
        ValueError: If an expected failure has no reason or names an unknown check.
        TypeError: If ``case`` is not a :class:`MetricCase`.

    Example:
        >>> import torch
        >>> from glowplug import Metric
        >>> class MeanOfBatchMeans(Metric):
        ...     def reset(self):
        ...         self._means = []
        ...
        ...     def update(self, output):
        ...         self._means.append(output.mean().item())
        ...
        ...     def compute(self):
        ...         return sum(self._means) / len(self._means)
        >>> batches = [torch.tensor([0.0, 0.0, 0.0]), torch.tensor([6.0]), torch.tensor([0.0, 0.0])]
        >>> try:
        ...     check_metric(MetricCase(make=MeanOfBatchMeans, outputs=batches, expected=1.0))
        ... except CheckFailed as error:
        ...     print(str(error).splitlines()[2])
        value_covers_all_data: failed: after an update with each output, the value is 2.0 instead of 1.0.
    """
    return _check(_of_type(MetricCase, case), METRIC_CHECKS, expected_failures)


def check_save_handler(
    case: SaveHandlerCase, expected_failures: Mapping[str, str] | None = None
) -> list[Result]:
    """Run the checks of ``SaveHandlerContract``.

    Args:
        case: The save handler to check: how to create it, and the folder to which it writes.
        expected_failures: Reason for each expected failure, keyed by the name of the check.

    Returns:
        The result of each check.

    Raises:
        CheckFailed: If a check fails unexpectedly, or if a check passes although it is expected to fail. The message lists all
            such checks.
        ValueError: If an expected failure has no reason or names an unknown check.
        TypeError: If ``case`` is not a :class:`SaveHandlerCase`.

    Example:
        >>> class AcmeSaver:
        ...     def save(self, checkpoint, filename, metadata=None): ...
        >>> try:
        ...     check_save_handler(SaveHandlerCase(make=AcmeSaver))
        ... except CheckFailed as error:
        ...     print(str(error).splitlines()[2].partition("; ")[2])
        missing: load, list, remove, locate
    """
    return _check(_of_type(SaveHandlerCase, case), SAVE_HANDLER_CHECKS, expected_failures)


def _check(case: Any, checks: tuple[Check, ...], expected_failures: Mapping[str, str] | None) -> list[Result]:
    reasons = known_failures(checks, expected_failures, "glowplug_testing")
    results = [run_check(check, case, reasons.get(check.name)) for check in checks]
    failed = [result for result in results if result.status == "failed"]
    if failed:
        details = "\n\n".join(map(str, failed))
        raise CheckFailed(f"{len(failed)} of {len(results)} checks failed:\n\n{details}")
    return results


def _handler_case(obj: Any) -> HandlerCase:
    if isinstance(obj, HandlerCase):
        return obj
    if isinstance(obj, type) or inspect.isfunction(obj):
        return HandlerCase(make=obj)
    return HandlerCase(make=lambda: copy.deepcopy(obj))


def _of_type(kind: type, case: Any) -> Any:
    if not isinstance(case, kind):
        raise TypeError(f"the argument 'case' must be a {kind.__name__}(make=...), got {case!r}")
    return case
