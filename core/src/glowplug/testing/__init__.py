"""What tests of handlers, loggers, metrics and save handlers are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowplug.testing.fake_engine import FakeEngine

if TYPE_CHECKING:
    from glowplug.testing.cases import HandlerCase, LoggerCase, MetricCase, SaveHandlerCase
    from glowplug.testing.checking import check_handler, check_logger, check_metric, check_save_handler
    from glowplug.testing.checks import CheckFailed
    from glowplug.testing.contracts import (
        HandlerContract,
        LoggerContract,
        MetricContract,
        SaveHandlerContract,
    )
    from glowplug.testing.engine_contract import EngineContract
    from glowplug.testing.flaky_backend import FlakyBackend

__all__ = [
    "CheckFailed",
    "EngineContract",
    "FakeEngine",
    "FlakyBackend",
    "HandlerCase",
    "HandlerContract",
    "LoggerCase",
    "LoggerContract",
    "MetricCase",
    "MetricContract",
    "SaveHandlerCase",
    "SaveHandlerContract",
    "check_handler",
    "check_logger",
    "check_metric",
    "check_save_handler",
]

# Imported when first asked for (PEP 562): who wants the fake does not pay for the checks, and contracts need pytest.
_LAZY = {
    "CheckFailed": "glowplug.testing.checks",
    "EngineContract": "glowplug.testing.engine_contract",
    "FlakyBackend": "glowplug.testing.flaky_backend",
    "HandlerCase": "glowplug.testing.cases",
    "HandlerContract": "glowplug.testing.contracts",
    "LoggerCase": "glowplug.testing.cases",
    "LoggerContract": "glowplug.testing.contracts",
    "MetricCase": "glowplug.testing.cases",
    "MetricContract": "glowplug.testing.contracts",
    "SaveHandlerCase": "glowplug.testing.cases",
    "SaveHandlerContract": "glowplug.testing.contracts",
    "check_handler": "glowplug.testing.checking",
    "check_logger": "glowplug.testing.checking",
    "check_metric": "glowplug.testing.checking",
    "check_save_handler": "glowplug.testing.checking",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'glowplug.testing' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
