"""Loggers, and the log handlers that work with any of them."""

from glowplug.loggers.delivery import Counts
from glowplug.loggers.log_handlers import (
    GradsHistHandler,
    GradsScalarHandler,
    OptimizerParamsHandler,
    OutputHandler,
    WeightsHistHandler,
    WeightsScalarHandler,
)
from glowplug.loggers.logger import Logger
from glowplug.loggers.steps import global_step_from_engine

__all__ = [
    "Counts",
    "GradsHistHandler",
    "GradsScalarHandler",
    "Logger",
    "OptimizerParamsHandler",
    "OutputHandler",
    "WeightsHistHandler",
    "WeightsScalarHandler",
    "global_step_from_engine",
]
