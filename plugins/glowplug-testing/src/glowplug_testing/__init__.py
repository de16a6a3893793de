"""Contracts and checks for handlers, loggers, metrics and save handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_testing._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_testing.cases import HandlerCase, LoggerCase, MetricCase, SaveHandlerCase
    from glowplug_testing.checks import CheckFailed
    from glowplug_testing.contracts import (
        HandlerContract,
        LoggerContract,
        MetricContract,
        SaveHandlerContract,
    )
    from glowplug_testing.engine_contract import EngineContract
    from glowplug_testing.flaky_backend import FlakyBackend
    from glowplug_testing.standalone import check_handler, check_logger, check_metric, check_save_handler

__all__ = [
    "CheckFailed",
    "EngineContract",
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

# Import lazily: importing the checks takes time, and the contracts need pytest.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug_testing.cases": (
            "HandlerCase",
            "LoggerCase",
            "MetricCase",
            "SaveHandlerCase",
        ),
        "glowplug_testing.standalone": (
            "check_handler",
            "check_logger",
            "check_metric",
            "check_save_handler",
        ),
        "glowplug_testing.checks": ("CheckFailed",),
        "glowplug_testing.contracts": (
            "HandlerContract",
            "LoggerContract",
            "MetricContract",
            "SaveHandlerContract",
        ),
        "glowplug_testing.engine_contract": ("EngineContract",),
        "glowplug_testing.flaky_backend": ("FlakyBackend",),
    },
)
