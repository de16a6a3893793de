"""The named metrics for glowplug engines: Accuracy, Loss, averages."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glowplug_metrics.accumulation import Average, GeometricAverage, VariableAccumulation
    from glowplug_metrics.accuracy import Accuracy
    from glowplug_metrics.curves import ROC_AUC, AveragePrecision, PrecisionRecallCurve, RocCurve
    from glowplug_metrics.epoch_metric import EpochMetric, EpochMetricWarning
    from glowplug_metrics.frequency import Frequency
    from glowplug_metrics.loss import Loss
    from glowplug_metrics.metric_group import MetricGroup
    from glowplug_metrics.regression import MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError
    from glowplug_metrics.running_average import RunningAverage

__all__ = [
    "ROC_AUC",
    "Accuracy",
    "Average",
    "AveragePrecision",
    "EpochMetric",
    "EpochMetricWarning",
    "Frequency",
    "GeometricAverage",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MetricGroup",
    "PrecisionRecallCurve",
    "RocCurve",
    "RootMeanSquaredError",
    "RunningAverage",
    "VariableAccumulation",
]

# Discovery imports this package on the way to its _plugin module: a name's own module waits until the name is used.
_HOMES = {
    "Accuracy": "accuracy",
    "Average": "accumulation",
    "AveragePrecision": "curves",
    "EpochMetric": "epoch_metric",
    "EpochMetricWarning": "epoch_metric",
    "Frequency": "frequency",
    "GeometricAverage": "accumulation",
    "Loss": "loss",
    "MeanAbsoluteError": "regression",
    "MeanSquaredError": "regression",
    "MetricGroup": "metric_group",
    "PrecisionRecallCurve": "curves",
    "ROC_AUC": "curves",
    "RocCurve": "curves",
    "RootMeanSquaredError": "regression",
    "RunningAverage": "running_average",
    "VariableAccumulation": "accumulation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
