"""The contracts as pytest classes: subclass one, say with the fixture ``case`` what to check, and run pytest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from glowplug_testing.cases import HandlerCase, LoggerCase, MetricCase, SaveHandlerCase
from glowplug_testing.checks import Check, known_failures, run_check
from glowplug_testing.contents import HANDLER_CHECKS, LOGGER_CHECKS, METRIC_CHECKS, SAVE_HANDLER_CHECKS

__all__ = ["HandlerContract", "LoggerContract", "MetricContract", "SaveHandlerContract"]


class Contract:
    """What the contracts have in common: their checks as test methods, and a guard against silently losing one."""

    checks: ClassVar[tuple[Check, ...]] = ()
    """The checks, each of which is a test."""

    case_type: ClassVar[type] = object

    expected_failures: ClassVar[Mapping[str, str]] = {}
    """Name of a check to the reason why it fails; one that passes is an error."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "checks" in vars(cls):
            for check in cls.checks:
                setattr(cls, f"test_{check.name}", _test_of(check))
        for check in cls.checks:
            name = f"test_{check.name}"
            if getattr(getattr(cls, name), "check", None) is not check:
                raise TypeError(
                    f"{cls.__name__} replaces {name}, so that nobody would notice what it no longer checks. Give your own test "
                    f"another name; if the check cannot pass, state why: expected_failures = {{{check.name!r}: 'the reason'}}"
                )
        known_failures(cls.checks, cls.expected_failures, cls.__name__)

    @pytest.fixture
    def case(self) -> Any:
        """Return what is checked; a subclass overrides this."""
        kind, name = self.case_type.__name__, type(self).__name__
        raise NotImplementedError(
            f"{name} needs a fixture that says what to check:\n\n    @pytest.fixture\n    def case(self, tmp_path):\n"
            f"        return {kind}(make=...)\n\nSee help(glowplug.testing.{kind})."
        )


def _test_of(check: Check) -> Callable[[Any, Any], None]:
    def test(self: Contract, case: Any) -> None:
        if not isinstance(case, self.case_type):
            pytest.fail(
                f"the fixture case of {type(self).__name__} must return a {self.case_type.__name__}, got {case!r}",
                pytrace=False,
            )
        result = run_check(check, case, self.expected_failures.get(check.name))
        if result.status == "skipped":
            pytest.skip(result.message)
        if result.status == "failed as expected":
            pytest.xfail(result.message)
        if result.status == "failed":
            pytest.fail(f"{check.purpose}\nThis does not hold: {result.message}", pytrace=False)

    test.__name__ = test.__qualname__ = f"test_{check.name}"
    test.__doc__ = check.purpose
    test.check = check  # type: ignore[attr-defined]  # by which the guard knows it
    return test


class HandlerContract(Contract):
    """Checks of a handler: subclass it, and say with the fixture ``case`` how one is made.

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
    """Checks of a logger: subclass it, and say with the fixture ``case`` how one is made and how its place is read.

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
    """Checks of a metric: subclass it, and say with the fixture ``case`` how one is made, and what its value is.

    Example:
        >>> import torch
        >>> import pytest
        >>> from glowplug import Metric
        >>> from glowplug.distributed import all_reduce
        >>> class Count(Metric):
        ...     _state_dict_all_req_keys = ("count",)
        ...
        ...     def reset(self):
        ...         self.count = 0
        ...
        ...     def update(self, output):
        ...         self.count += len(output)
        ...
        ...     def compute(self):
        ...         return all_reduce(self.count)
        >>> class TestCount(MetricContract):
        ...     @pytest.fixture
        ...     def case(self):
        ...         batches = [torch.ones(2), torch.ones(1), torch.ones(3)]
        ...         return MetricCase(make=Count, outputs=batches, expected=6)
    """

    checks = METRIC_CHECKS
    case_type = MetricCase


class SaveHandlerContract(Contract):
    """Checks of a save handler: subclass it, and say with the fixture ``case`` how one is made.

    Example:
        >>> import pytest
        >>> class TestAcmeSaver(SaveHandlerContract):
        ...     @pytest.fixture
        ...     def case(self, tmp_path):
        ...         return SaveHandlerCase(make=lambda: AcmeSaver(tmp_path), folder=tmp_path)
    """

    checks = SAVE_HANDLER_CHECKS
    case_type = SaveHandlerCase
