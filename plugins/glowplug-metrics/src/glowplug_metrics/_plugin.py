"""Plugin hooks of this distribution.

This module imports no large libraries, so that plugins load fast.
"""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1

_METRICS = (
    ("Accuracy", "accuracy", "Fraction of correct predictions for binary, multiclass or multilabel data."),
    ("Average", "accumulation", "Mean of a number or tensor over the examples."),
    ("AveragePrecision", "curves", "Average precision of scores and labels, via scikit-learn."),
    (
        "ClassificationReport",
        "classification_report",
        "Precision, recall and F-score of each class, by name.",
    ),
    ("cmAccuracy", "confusion_matrix", "Fraction of correct predictions, from a ConfusionMatrix."),
    ("cmPrecision", "confusion_matrix", "Precision, from a ConfusionMatrix."),
    ("cmRecall", "confusion_matrix", "Recall, from a ConfusionMatrix."),
    ("ConfusionMatrix", "confusion_matrix", "Counts of actual and predicted classes."),
    ("DiceCoefficient", "confusion_matrix", "Dice coefficient of each class, from a ConfusionMatrix."),
    ("EpochMetric", "epoch_metric", "Custom function of all predictions and targets of an epoch."),
    ("F1", "fbeta", "Harmonic mean of precision and recall."),
    ("Fbeta", "fbeta", "Weighted harmonic mean of precision and recall."),
    ("Frequency", "frequency", "Items per second, over all processes."),
    ("GeometricAverage", "accumulation", "Geometric mean of a number or tensor over the examples."),
    ("IoU", "confusion_matrix", "Intersection over union of each class, from a ConfusionMatrix."),
    ("JaccardIndex", "confusion_matrix", "Alias of IoU."),
    ("Loss", "loss", "Mean of a loss function over the examples."),
    ("MeanAbsoluteError", "regression", "Mean absolute error of predicted numbers."),
    ("MeanSquaredError", "regression", "Mean squared error of predicted numbers."),
    ("MetricGroup", "metric_group", "Several metrics attached as one, with one output_transform."),
    ("mIoU", "confusion_matrix", "Mean intersection over union, from a ConfusionMatrix."),
    (
        "MultiLabelConfusionMatrix",
        "multilabel_confusion_matrix",
        "Confusion matrix of each label of multilabel data.",
    ),
    ("Precision", "precision", "Fraction of each class's predictions that are correct."),
    ("PrecisionRecallCurve", "curves", "Precisions, recalls and thresholds, via scikit-learn."),
    ("Recall", "recall", "Fraction of each class's examples that are predicted as this class."),
    ("ROC_AUC", "curves", "Area under the ROC curve, via scikit-learn."),
    ("RocCurve", "curves", "False and true positive rates and thresholds, via scikit-learn."),
    ("RootMeanSquaredError", "regression", "Root of the mean squared error of predicted numbers."),
    ("RunningAverage", "running_average", "Exponential moving average of a metric or of the output."),
    (
        "TopKCategoricalAccuracy",
        "top_k_categorical_accuracy",
        "Fraction of examples whose class has one of the k highest scores.",
    ),
    ("VariableAccumulation", "accumulation", "Accumulation of numbers or tensors with a custom operation."),
)
"""Name, module and summary of each metric."""


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Offer the metrics of this distribution, and the handler that stores outputs."""
    return [
        *(
            Offer(name, f"glowplug_metrics.{module}:{name}", "metric", summary)
            for name, module, summary in _METRICS
        ),
        Offer(
            "EpochOutputStore",
            "glowplug_metrics.epoch_output_store:EpochOutputStore",
            "handler",
            "Stores the outputs of all iterations of an epoch.",
        ),
    ]
