"""Metrics: the core's classes to build them with, and those of the installed plugins by name.

``from glowplug.metrics import Metric`` is the core's own; ``from glowplug.metrics import Accuracy`` is looked up among
the plugins. Typed code imports the latter from its own package, as in ``from glowplug_metrics import Accuracy``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glowplug.exceptions import NotComputableError
    from glowplug.metrics._metric import Metric, identity
    from glowplug.metrics._metrics_lambda import MetricsLambda
    from glowplug.metrics._reduce import reinit__is_reduced, sync_all_reduce
    from glowplug.metrics._usage import (
        BatchFiltered,
        BatchWise,
        EpochWise,
        MetricUsage,
        RunningBatchWise,
        RunningEpochWise,
        SingleEpochRunningBatchWise,
    )

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


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in __all__:
        import glowplug

        return getattr(glowplug, name)
    from glowplug.plugins import get_registry

    registry = get_registry()
    if name[0].islower() and name not in registry.names("metric"):
        # Tools probe modules for lower-case names such as pytest_plugins.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return registry.resolve("metric", name)


def __dir__() -> list[str]:
    from glowplug.plugins import get_registry

    return sorted({*__all__, *get_registry().names("metric")})
