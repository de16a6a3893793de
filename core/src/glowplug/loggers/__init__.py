"""Loggers, and log handlers that work with every logger."""

from glowplug.loggers._delivery import Counts, OnError
from glowplug.loggers._exit import close_loggers
from glowplug.loggers._flatten import flatten, flatten_params
from glowplug.loggers._logger import Logger
from glowplug.loggers._model_handlers import (
    GradsHistHandler,
    GradsScalarHandler,
    WeightsHistHandler,
    WeightsScalarHandler,
)
from glowplug.loggers._optimizer_handler import OptimizerParamsHandler
from glowplug.loggers._options import LoggerOptions
from glowplug.loggers._output_handler import OutputHandler
from glowplug.loggers._payload import Histogram
from glowplug.loggers._setup import setup_logging
from glowplug.loggers._spool import Damaged, Spool, SpoolInUseError, read_content, spools_in
from glowplug.loggers._step import global_step_from_engine
from glowplug.loggers._writer import Writer

__all__ = [
    "Counts",
    "Damaged",
    "GradsHistHandler",
    "GradsScalarHandler",
    "Histogram",
    "Logger",
    "LoggerOptions",
    "OnError",
    "OptimizerParamsHandler",
    "OutputHandler",
    "Spool",
    "SpoolInUseError",
    "WeightsHistHandler",
    "WeightsScalarHandler",
    "Writer",
    "close_loggers",
    "flatten",
    "flatten_params",
    "global_step_from_engine",
    "read_content",
    "setup_logging",
    "spools_in",
]
