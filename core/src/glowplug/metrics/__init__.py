"""Base classes of metrics, and the metrics of the installed plugins.

The core defines names such as ``Metric``; plugins provide names such as ``Accuracy``. Type checkers find the metrics of
first-party plugins in ``__init__.pyi``.
"""

from __future__ import annotations

from glowplug.plugins import plugin_exports

__all__ = [
    "BatchFiltered",
    "BatchWise",
    "EpochWise",
    "Metric",
    "MetricUsage",
    "MetricsLambda",
    "NotComputableError",
    "RunningBatchWise",
    "RunningEpochWise",
    "SingleEpochRunningBatchWise",
    "identity",
    "reinit__is_reduced",
    "sync_all_reduce",
]

__getattr__, __dir__ = plugin_exports(
    __name__,
    "metric",
    {
        "glowplug.exceptions": ("NotComputableError",),
        "glowplug.metrics._metric": ("Metric", "MetricsLambda", "identity"),
        "glowplug.metrics._reduce": ("reinit__is_reduced", "sync_all_reduce"),
        "glowplug.metrics._usage": (
            "BatchFiltered",
            "BatchWise",
            "EpochWise",
            "MetricUsage",
            "RunningBatchWise",
            "RunningEpochWise",
            "SingleEpochRunningBatchWise",
        ),
    },
)
