"""Base classes of metrics, and the metrics of the installed plugins.

The core defines names such as ``Metric``; plugins provide names such as ``Accuracy``. Type checkers find the metrics of
first-party plugins in ``__init__.pyi``.
"""

from __future__ import annotations

from typing import Any

from glowplug.plugins import create_offer, plugin_exports

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
    "create",
    "identity",
    "reinit__is_reduced",
    "sync_all_reduce",
    "without_padding",
]

__getattr__, __dir__ = plugin_exports(
    __name__,
    "metric",
    {
        "glowplug.exceptions": ("NotComputableError",),
        "glowplug.metrics._metric": ("Metric", "MetricsLambda", "identity"),
        "glowplug.metrics._padding": ("without_padding",),
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


def create(name: str, /, **options: Any) -> Any:
    """Create a metric from its name and its options, for example from the entries of a configuration file.

    Args:
        name: Name that a plugin offers, such as ``"Accuracy"``.
        **options: Keyword arguments of the metric's constructor.

    Returns:
        The metric.

    Raises:
        PluginNotFoundError: If no loaded plugin offers the name.
        PluginLoadError: If the plugin that offers the name is faulty.
        PluginConflictError: If several plugins offer the name.
        TypeError: If an option is unknown, or if a required option is missing.

    Example:
        >>> try:
        ...     create("NoSuchMetric")
        ... except ImportError as error:
        ...     print(str(error)[:42])
        no plugin offers the metric 'NoSuchMetric'
    """
    return create_offer("metric", name, options)
