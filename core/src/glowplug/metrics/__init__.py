"""Base classes of metrics, and the metrics of the installed plugins.

The core defines names such as ``Metric``; plugins provide names such as ``Accuracy``. Type checkers find the metrics of
first-party plugins in ``__init__.pyi``.
"""

from __future__ import annotations

from typing import Any

from glowplug._lazy import lazy_exports

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


_core, _ = lazy_exports(
    __name__,
    {
        "glowplug.exceptions": ("NotComputableError",),
        "glowplug.metrics._metric": ("Metric", "identity"),
        "glowplug.metrics._metrics_lambda": ("MetricsLambda",),
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


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in __all__:
        return _core(name)
    from glowplug.plugins import get_registry

    registry = get_registry()
    if name[0].islower() and name not in registry.names("metric"):
        # Tools probe modules for lower-case names such as pytest_plugins.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return registry.resolve("metric", name)


def __dir__() -> list[str]:
    from glowplug.plugins import get_registry

    return sorted({*__all__, *get_registry().names("metric")})
