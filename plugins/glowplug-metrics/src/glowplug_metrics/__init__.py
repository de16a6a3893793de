"""Metrics for glowplug engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_metrics._version import __version__ as __version__

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
    from glowplug_metrics.epoch_output_store import EpochOutputStore
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
    "EpochOutputStore",
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

# Loading the plugin imports this package. To keep loading fast, each module is imported only when one of its names is used.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug_metrics.accumulation": (
            "Average",
            "GeometricAverage",
            "VariableAccumulation",
        ),
        "glowplug_metrics.accuracy": ("Accuracy",),
        "glowplug_metrics.classification_report": ("ClassificationReport",),
        "glowplug_metrics.confusion_matrix": (
            "ConfusionMatrix",
            "DiceCoefficient",
            "IoU",
            "JaccardIndex",
            "cmAccuracy",
            "cmPrecision",
            "cmRecall",
            "mIoU",
        ),
        "glowplug_metrics.confusion_table": ("ConfusionTable",),
        "glowplug_metrics.curves": (
            "AveragePrecision",
            "PrecisionRecallCurve",
            "ROC_AUC",
            "RocCurve",
        ),
        "glowplug_metrics.epoch_metric": (
            "EpochMetric",
            "EpochMetricWarning",
        ),
        "glowplug_metrics.epoch_output_store": ("EpochOutputStore",),
        "glowplug_metrics.fbeta": (
            "F1",
            "Fbeta",
        ),
        "glowplug_metrics.frequency": ("Frequency",),
        "glowplug_metrics.loss": ("Loss",),
        "glowplug_metrics.metric_group": ("MetricGroup",),
        "glowplug_metrics.multilabel_confusion_matrix": ("MultiLabelConfusionMatrix",),
        "glowplug_metrics.precision": ("Precision",),
        "glowplug_metrics.recall": ("Recall",),
        "glowplug_metrics.regression": (
            "MeanAbsoluteError",
            "MeanSquaredError",
            "RootMeanSquaredError",
        ),
        "glowplug_metrics.running_average": ("RunningAverage",),
        "glowplug_metrics.top_k_categorical_accuracy": ("TopKCategoricalAccuracy",),
    },
)
