"""Every first-party metric, created through both import paths; mypy --strict checks it, pytest runs the imports."""

import torch

import glowplug as ignite
import glowplug_metrics
import glowplug_torchmetrics
from glowplug.metrics import (
    F1,
    ROC_AUC,
    Accuracy,
    Average,
    AveragePrecision,
    ClassificationReport,
    ConfusionMatrix,
    DiceCoefficient,
    EpochMetric,
    Fbeta,
    Frequency,
    GeometricAverage,
    IoU,
    JaccardIndex,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    MetricGroup,
    MultiLabelConfusionMatrix,
    Precision,
    PrecisionRecallCurve,
    Recall,
    RocCurve,
    RootMeanSquaredError,
    RunningAverage,
    TopKCategoricalAccuracy,
    TorchMetric,
    VariableAccumulation,
    cmAccuracy,
    cmPrecision,
    cmRecall,
    mIoU,
)


def score(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return a number."""
    return (y_pred - y).mean()


def create_from_core() -> list[Metric]:
    """Create each metric through glowplug.metrics."""
    accuracy: Accuracy = Accuracy()
    matrix: ConfusionMatrix = ConfusionMatrix(num_classes=3)
    return [
        accuracy,
        matrix,
        Accuracy(),
        Average(),
        AveragePrecision(),
        ClassificationReport(),
        EpochMetric(score),
        F1(),
        Fbeta(beta=2.0),
        Frequency(),
        GeometricAverage(),
        Loss(score),
        MeanAbsoluteError(),
        MeanSquaredError(),
        MetricGroup({"accuracy": Accuracy()}),
        MultiLabelConfusionMatrix(num_classes=3),
        Precision(),
        PrecisionRecallCurve(),
        Recall(),
        ROC_AUC(),
        RocCurve(),
        RootMeanSquaredError(),
        RunningAverage(Accuracy()),
        TopKCategoricalAccuracy(k=5),
        VariableAccumulation(lambda total, value: total + value),
        cmAccuracy(matrix),
        cmPrecision(matrix),
        cmRecall(matrix),
        DiceCoefficient(matrix),
        IoU(matrix),
        JaccardIndex(matrix),
        mIoU(matrix),
    ]


def create_from_plugins() -> list[Metric]:
    """Create each metric through the package of its plugin."""
    matrix = glowplug_metrics.ConfusionMatrix(num_classes=3)
    return [
        matrix,
        glowplug_metrics.Accuracy(),
        glowplug_metrics.Average(),
        glowplug_metrics.AveragePrecision(),
        glowplug_metrics.ClassificationReport(),
        glowplug_metrics.EpochMetric(score),
        glowplug_metrics.F1(),
        glowplug_metrics.Fbeta(beta=2.0),
        glowplug_metrics.Frequency(),
        glowplug_metrics.GeometricAverage(),
        glowplug_metrics.Loss(score),
        glowplug_metrics.MeanAbsoluteError(),
        glowplug_metrics.MeanSquaredError(),
        glowplug_metrics.MetricGroup({"accuracy": glowplug_metrics.Accuracy()}),
        glowplug_metrics.MultiLabelConfusionMatrix(num_classes=3),
        glowplug_metrics.Precision(),
        glowplug_metrics.PrecisionRecallCurve(),
        glowplug_metrics.Recall(),
        glowplug_metrics.ROC_AUC(),
        glowplug_metrics.RocCurve(),
        glowplug_metrics.RootMeanSquaredError(),
        glowplug_metrics.RunningAverage(glowplug_metrics.Accuracy()),
        glowplug_metrics.TopKCategoricalAccuracy(k=5),
        glowplug_metrics.VariableAccumulation(lambda total, value: total + value),
        glowplug_metrics.cmAccuracy(matrix),
        glowplug_metrics.cmPrecision(matrix),
        glowplug_metrics.cmRecall(matrix),
        glowplug_metrics.DiceCoefficient(matrix),
        glowplug_metrics.IoU(matrix),
        glowplug_metrics.JaccardIndex(matrix),
        glowplug_metrics.mIoU(matrix),
    ]


def test_both_paths_give_the_same_class() -> None:
    """A class is the same object through both import paths."""
    assert Accuracy is glowplug_metrics.Accuracy
    assert ignite.metrics.Recall is glowplug_metrics.Recall
    assert TorchMetric is glowplug_torchmetrics.TorchMetric
