"""Monitors for glowplug engines: learning rates, gradient norms, throughput, waiting for data, memory, model summaries."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_monitors._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_monitors.data_wait import DataWait
    from glowplug_monitors.device_usage import DeviceUsage
    from glowplug_monitors.gradient_norm import GradientNorm
    from glowplug_monitors.learning_rate import LearningRate
    from glowplug_monitors.model_summary import ModelSummary
    from glowplug_monitors.throughput import Throughput

__all__ = ["DataWait", "DeviceUsage", "GradientNorm", "LearningRate", "ModelSummary", "Throughput"]

# Loading the plugin imports this package. To keep loading fast, each module is imported only when one of its names is used.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug_monitors.data_wait": ("DataWait",),
        "glowplug_monitors.device_usage": ("DeviceUsage",),
        "glowplug_monitors.gradient_norm": ("GradientNorm",),
        "glowplug_monitors.learning_rate": ("LearningRate",),
        "glowplug_monitors.model_summary": ("ModelSummary",),
        "glowplug_monitors.throughput": ("Throughput",),
    },
)
