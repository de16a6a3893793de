"""Loggers, and the log handlers that work with any of them."""

from glowplug.loggers.delivery import Counts, OnError
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
from glowplug.loggers.values import flatten_params

__all__ = [
    "Counts",
    "GradsHistHandler",
    "GradsScalarHandler",
    "Logger",
    "OnError",
    "OptimizerParamsHandler",
    "OutputHandler",
    "WeightsHistHandler",
    "WeightsScalarHandler",
    "flatten_params",
    "global_step_from_engine",
]
