"""Contracts as pytest classes; test modules subclass a contract and define the fixture ``case``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from glowplug_testing.cases import HandlerCase, LoggerCase, MetricCase, SaveHandlerCase
from glowplug_testing.check_lists import HANDLER_CHECKS, LOGGER_CHECKS, METRIC_CHECKS, SAVE_HANDLER_CHECKS
from glowplug_testing.checks import Check, known_failures, run_check

__all__ = ["HandlerContract", "LoggerContract", "MetricContract", "SaveHandlerContract"]


class Contract:
    """Base class that turns checks into test methods; subclasses must not replace these methods."""

    checks: ClassVar[tuple[Check, ...]] = ()
    """The checks of the contract; each check becomes a test."""

    case_type: ClassVar[type] = object

    expected_failures: ClassVar[Mapping[str, str]] = {}
    """Reason for each expected failure, keyed by the name of the check. If a listed check passes, its test fails."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "checks" in vars(cls):
            for check in cls.checks:
                setattr(cls, f"test_{check.name}", _test_of(check))
        for check in cls.checks:
            name = f"test_{check.name}"
            if getattr(getattr(cls, name), "check", None) is not check:
                raise TypeError(
                    f"{cls.__name__} must not replace {name}, which is a test of the contract. Give your test another name. If "
                    f"your object cannot pass the check, state the reason: expected_failures = {{{check.name!r}: 'the reason'}}"
                )
        known_failures(cls.checks, cls.expected_failures, cls.__name__)

    @pytest.fixture
    def case(self) -> Any:
        """Return the case to check; override this fixture in the subclass."""
        kind, name = self.case_type.__name__, type(self).__name__
        raise NotImplementedError(
            f"{name} needs a fixture that returns the case to check:\n\n    @pytest.fixture\n    def case(self, tmp_path):\n"
            f"        return {kind}(make=...)\n\nSee help(glowplug_testing.{kind})."
        )


def _test_of(check: Check) -> Callable[[Any, Any], None]:
    def test(self: Contract, case: Any) -> None:
        if not isinstance(case, self.case_type):
            pytest.fail(
                f"the fixture 'case' of {type(self).__name__} must return a {self.case_type.__name__}, got {case!r}",
                pytrace=False,
            )
        result = run_check(check, case, self.expected_failures.get(check.name))
        if result.status == "skipped":
            pytest.skip(result.message)
        if result.status == "failed as expected":
            pytest.xfail(result.message)
        if result.status == "failed":
            pytest.fail(f"Expected: {check.purpose}\nFound: {result.message}", pytrace=False)

    test.__name__ = test.__qualname__ = f"test_{check.name}"
    test.__doc__ = check.purpose
    # The guard in __init_subclass__ recognizes the test by this attribute.
    test.check = check  # type: ignore[attr-defined]
    return test


class HandlerContract(Contract):
    """Checks of a handler. Subclass this contract and return a :class:`HandlerCase` from the fixture ``case``.

    Example:
        >>> import pytest
        >>> from glowplug import Events
        >>> class Shout:
        ...     def attach(self, engine):
        ...         return engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        ...
        ...     def __call__(self, engine): ...
        >>> class TestShout(HandlerContract):
        ...     @pytest.fixture
        ...     def case(self):
        ...         return HandlerCase(make=Shout)
    """

    checks = HANDLER_CHECKS
    case_type = HandlerCase


class LoggerContract(Contract):
    """Checks of a logger. Subclass this contract and return a :class:`LoggerCase` from the fixture ``case``.

    Example:
        >>> import json, pytest
        >>> from glowplug.loggers import Logger
        >>> class JsonLines(Logger):
        ...     def __init__(self, path, **options):
        ...         super().__init__(**options)
        ...         self.path = path
        ...
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         with open(self.path, "a") as file:
        ...             for name, value in scalars.items():
        ...                 print(json.dumps([name, step, value]), file=file)
        >>> class TestJsonLines(LoggerContract):
        ...     @pytest.fixture
        ...     def case(self, tmp_path):
        ...         path = tmp_path / "run.jsonl"
        ...         return LoggerCase(
        ...             make=lambda **options: JsonLines(path, **options),
        ...             read=lambda: [json.loads(line) for line in path.read_text().splitlines()],
        ...         )
    """

    checks = LOGGER_CHECKS
    case_type = LoggerCase


class MetricContract(Contract):
    """Checks of a metric. Subclass this contract and return a :class:`MetricCase` from the fixture ``case``.

    Example:
        >>> import torch
        >>> import pytest
        >>> from glowplug import Metric, NotComputableError, sync_all_reduce
        >>> class Count(Metric):
        ...     _state_dict_all_req_keys = ("_count",)
        ...
        ...     def reset(self):
        ...         self._count = 0
        ...
        ...     def update(self, output):
        ...         self._count += len(output)
        ...
        ...     @sync_all_reduce("_count")
        ...     def compute(self):
        ...         if self._count == 0:
        ...             raise NotComputableError("Count needs data")
        ...         return self._count
        >>> class TestCount(MetricContract):
        ...     @pytest.fixture
        ...     def case(self):
        ...         batches = [torch.ones(2), torch.ones(1), torch.ones(3)]
        ...         return MetricCase(make=Count, outputs=batches, expected=6)
    """

    checks = METRIC_CHECKS
    case_type = MetricCase


class SaveHandlerContract(Contract):
    """Checks of a save handler. Subclass this contract and return a :class:`SaveHandlerCase` from the fixture ``case``.

    Example:
        >>> import pytest
        >>> class TestAcmeSaver(SaveHandlerContract):
        ...     @pytest.fixture
        ...     def case(self, tmp_path):
        ...         return SaveHandlerCase(make=lambda: AcmeSaver(tmp_path), folder=tmp_path)
    """

    checks = SAVE_HANDLER_CHECKS
    case_type = SaveHandlerCase
