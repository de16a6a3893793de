"""Offers of this distribution; imports nothing but the hooks."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1

_METRICS = (
    ("Accuracy", "accuracy", "Share of right predictions: binary, multiclass or multilabel."),
    ("Average", "accumulation", "Mean of a number or tensor over the samples."),
    ("AveragePrecision", "curves", "Average precision of scores and labels, through scikit-learn."),
    (
        "ClassificationReport",
        "classification_report",
        "Precision, recall and F-score of each class, by name.",
    ),
    ("cmAccuracy", "confusion_matrix", "Share of right predictions, of a ConfusionMatrix."),
    ("cmPrecision", "confusion_matrix", "Precision, of a ConfusionMatrix."),
    ("cmRecall", "confusion_matrix", "Recall, of a ConfusionMatrix."),
    ("ConfusionMatrix", "confusion_matrix", "How often each class was predicted as each."),
    ("DiceCoefficient", "confusion_matrix", "Dice coefficient of each class, of a ConfusionMatrix."),
    ("EpochMetric", "epoch_metric", "Any function of all predictions and targets of an epoch."),
    ("F1", "fbeta", "Precision and recall in one number."),
    ("Fbeta", "fbeta", "Precision and recall in one number, recall counted beta times."),
    ("Frequency", "frequency", "Items per second, over all processes."),
    ("GeometricAverage", "accumulation", "Geometric mean of a number or tensor over the samples."),
    ("IoU", "confusion_matrix", "Intersection over union of each class, of a ConfusionMatrix."),
    ("JaccardIndex", "confusion_matrix", "IoU by its other name."),
    ("Loss", "loss", "Mean of a loss function over the samples."),
    ("MeanAbsoluteError", "regression", "Mean absolute error of predicted numbers."),
    ("MeanSquaredError", "regression", "Mean squared error of predicted numbers."),
    ("MetricGroup", "metric_group", "Several metrics attached as one, with one output_transform."),
    ("mIoU", "confusion_matrix", "Mean intersection over union, of a ConfusionMatrix."),
    (
        "MultiLabelConfusionMatrix",
        "multilabel_confusion_matrix",
        "A confusion matrix for each label of multilabel data.",
    ),
    ("Precision", "precision", "Share of right ones among the predictions of each class."),
    ("PrecisionRecallCurve", "curves", "Precisions, recalls and thresholds, through scikit-learn."),
    ("Recall", "recall", "Share of right ones among the targets of each class."),
    ("ROC_AUC", "curves", "Area under the ROC curve, through scikit-learn."),
    ("RocCurve", "curves", "Rates of false and true positives and thresholds, through scikit-learn."),
    ("RootMeanSquaredError", "regression", "Root of the mean squared error of predicted numbers."),
    ("RunningAverage", "running_average", "Exponential moving average of a metric or of the output."),
    (
        "TopKCategoricalAccuracy",
        "top_k_categorical_accuracy",
        "How often the right class is among the k with the highest scores.",
    ),
    ("VariableAccumulation", "accumulation", "Accumulates a number or tensor with any operation."),
)
"""Name, module and summary of each metric."""


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Offer the metrics of this distribution."""
    return [
        Offer(name, f"glowplug_metrics.{module}:{name}", "metric", summary)
        for name, module, summary in _METRICS
    ]
