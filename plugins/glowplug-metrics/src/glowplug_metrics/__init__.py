"""The named metrics for glowplug engines."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glowplug_metrics.accumulation import Average, GeometricAverage, VariableAccumulation
    from glowplug_metrics.accuracy import Accuracy
    from glowplug_metrics.classification_report import ClassificationReport
    from glowplug_metrics.confusion_matrix import (
        ConfusionMatrix,
        DiceCoefficient,
        IoU,
        JaccardIndex,
        cmAccuracy,
        cmPrecision,
        cmRecall,
        mIoU,
    )
    from glowplug_metrics.confusion_table import ConfusionTable
    from glowplug_metrics.curves import ROC_AUC, AveragePrecision, PrecisionRecallCurve, RocCurve
    from glowplug_metrics.epoch_metric import EpochMetric, EpochMetricWarning
    from glowplug_metrics.fbeta import F1, Fbeta
    from glowplug_metrics.frequency import Frequency
    from glowplug_metrics.loss import Loss
    from glowplug_metrics.metric_group import MetricGroup
    from glowplug_metrics.multilabel_confusion_matrix import MultiLabelConfusionMatrix
    from glowplug_metrics.precision import Precision
    from glowplug_metrics.recall import Recall
    from glowplug_metrics.regression import MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError
    from glowplug_metrics.running_average import RunningAverage
    from glowplug_metrics.top_k_categorical_accuracy import TopKCategoricalAccuracy

__all__ = [
    "F1",
    "ROC_AUC",
    "Accuracy",
    "Average",
    "AveragePrecision",
    "ClassificationReport",
    "ConfusionMatrix",
    "ConfusionTable",
    "DiceCoefficient",
    "EpochMetric",
    "EpochMetricWarning",
    "Fbeta",
    "Frequency",
    "GeometricAverage",
    "IoU",
    "JaccardIndex",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MetricGroup",
    "MultiLabelConfusionMatrix",
    "Precision",
    "PrecisionRecallCurve",
    "Recall",
    "RocCurve",
    "RootMeanSquaredError",
    "RunningAverage",
    "TopKCategoricalAccuracy",
    "VariableAccumulation",
    "cmAccuracy",
    "cmPrecision",
    "cmRecall",
    "mIoU",
]

# Discovery imports this package on the way to its _plugin module: a name's own module waits until the name is used.
_HOMES = {
    "Accuracy": "accuracy",
    "Average": "accumulation",
    "AveragePrecision": "curves",
    "ClassificationReport": "classification_report",
    "ConfusionMatrix": "confusion_matrix",
    "ConfusionTable": "confusion_table",
    "DiceCoefficient": "confusion_matrix",
    "EpochMetric": "epoch_metric",
    "EpochMetricWarning": "epoch_metric",
    "F1": "fbeta",
    "Fbeta": "fbeta",
    "Frequency": "frequency",
    "GeometricAverage": "accumulation",
    "IoU": "confusion_matrix",
    "JaccardIndex": "confusion_matrix",
    "Loss": "loss",
    "MeanAbsoluteError": "regression",
    "MeanSquaredError": "regression",
    "MetricGroup": "metric_group",
    "MultiLabelConfusionMatrix": "multilabel_confusion_matrix",
    "Precision": "precision",
    "PrecisionRecallCurve": "curves",
    "ROC_AUC": "curves",
    "Recall": "recall",
    "RocCurve": "curves",
    "RootMeanSquaredError": "regression",
    "RunningAverage": "running_average",
    "TopKCategoricalAccuracy": "top_k_categorical_accuracy",
    "VariableAccumulation": "accumulation",
    "cmAccuracy": "confusion_matrix",
    "cmPrecision": "confusion_matrix",
    "cmRecall": "confusion_matrix",
    "mIoU": "confusion_matrix",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
