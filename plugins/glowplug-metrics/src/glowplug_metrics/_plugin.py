"""What this distribution offers to glowplug; imports nothing but the hooks."""

from glowplug.hookspecs import MetricSpec, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_metrics() -> list[MetricSpec]:
    """Offer the metrics of this distribution."""
    return [
        MetricSpec(
            name="Accuracy",
            target="glowplug_metrics.accuracy:Accuracy",
            summary="Share of right predictions: binary, multiclass or multilabel.",
        ),
        MetricSpec(
            name="Average",
            target="glowplug_metrics.accumulation:Average",
            summary="Mean of a number or tensor over the samples.",
        ),
        MetricSpec(
            name="AveragePrecision",
            target="glowplug_metrics.curves:AveragePrecision",
            summary="Average precision of scores and labels, through scikit-learn.",
        ),
        MetricSpec(
            name="ClassificationReport",
            target="glowplug_metrics.classification_report:ClassificationReport",
            summary="Precision, recall and F-score of each class, by name.",
        ),
        MetricSpec(
            name="cmAccuracy",
            target="glowplug_metrics.confusion_matrix:cmAccuracy",
            summary="Share of right predictions, of a ConfusionMatrix.",
        ),
        MetricSpec(
            name="cmPrecision",
            target="glowplug_metrics.confusion_matrix:cmPrecision",
            summary="Precision, of a ConfusionMatrix.",
        ),
        MetricSpec(
            name="cmRecall",
            target="glowplug_metrics.confusion_matrix:cmRecall",
            summary="Recall, of a ConfusionMatrix.",
        ),
        MetricSpec(
            name="ConfusionMatrix",
            target="glowplug_metrics.confusion_matrix:ConfusionMatrix",
            summary="How often each class was predicted as each.",
        ),
        MetricSpec(
            name="DiceCoefficient",
            target="glowplug_metrics.confusion_matrix:DiceCoefficient",
            summary="Dice coefficient of each class, of a ConfusionMatrix.",
        ),
        MetricSpec(
            name="EpochMetric",
            target="glowplug_metrics.epoch_metric:EpochMetric",
            summary="Any function of all predictions and targets of an epoch.",
        ),
        MetricSpec(
            name="F1",
            target="glowplug_metrics.fbeta:F1",
            summary="Precision and recall in one number.",
        ),
        MetricSpec(
            name="Fbeta",
            target="glowplug_metrics.fbeta:Fbeta",
            summary="Precision and recall in one number, recall counted beta times.",
        ),
        MetricSpec(
            name="Frequency",
            target="glowplug_metrics.frequency:Frequency",
            summary="Items per second, over all processes.",
        ),
        MetricSpec(
            name="GeometricAverage",
            target="glowplug_metrics.accumulation:GeometricAverage",
            summary="Geometric mean of a number or tensor over the samples.",
        ),
        MetricSpec(
            name="IoU",
            target="glowplug_metrics.confusion_matrix:IoU",
            summary="Intersection over union of each class, of a ConfusionMatrix.",
        ),
        MetricSpec(
            name="JaccardIndex",
            target="glowplug_metrics.confusion_matrix:JaccardIndex",
            summary="IoU by its other name.",
        ),
        MetricSpec(
            name="Loss",
            target="glowplug_metrics.loss:Loss",
            summary="Mean of a loss function over the samples.",
        ),
        MetricSpec(
            name="MeanAbsoluteError",
            target="glowplug_metrics.regression:MeanAbsoluteError",
            summary="Mean absolute error of predicted numbers.",
        ),
        MetricSpec(
            name="MeanSquaredError",
            target="glowplug_metrics.regression:MeanSquaredError",
            summary="Mean squared error of predicted numbers.",
        ),
        MetricSpec(
            name="MetricGroup",
            target="glowplug_metrics.metric_group:MetricGroup",
            summary="Several metrics attached as one, with one output_transform.",
        ),
        MetricSpec(
            name="mIoU",
            target="glowplug_metrics.confusion_matrix:mIoU",
            summary="Mean intersection over union, of a ConfusionMatrix.",
        ),
        MetricSpec(
            name="MultiLabelConfusionMatrix",
            target="glowplug_metrics.multilabel_confusion_matrix:MultiLabelConfusionMatrix",
            summary="A confusion matrix for each label of multilabel data.",
        ),
        MetricSpec(
            name="Precision",
            target="glowplug_metrics.precision:Precision",
            summary="Share of right ones among the predictions of each class.",
        ),
        MetricSpec(
            name="PrecisionRecallCurve",
            target="glowplug_metrics.curves:PrecisionRecallCurve",
            summary="Precisions, recalls and thresholds, through scikit-learn.",
        ),
        MetricSpec(
            name="Recall",
            target="glowplug_metrics.recall:Recall",
            summary="Share of right ones among the targets of each class.",
        ),
        MetricSpec(
            name="ROC_AUC",
            target="glowplug_metrics.curves:ROC_AUC",
            summary="Area under the ROC curve, through scikit-learn.",
        ),
        MetricSpec(
            name="RocCurve",
            target="glowplug_metrics.curves:RocCurve",
            summary="Rates of false and true positives and thresholds, through scikit-learn.",
        ),
        MetricSpec(
            name="RootMeanSquaredError",
            target="glowplug_metrics.regression:RootMeanSquaredError",
            summary="Root of the mean squared error of predicted numbers.",
        ),
        MetricSpec(
            name="RunningAverage",
            target="glowplug_metrics.running_average:RunningAverage",
            summary="Exponential moving average of a metric or of the output.",
        ),
        MetricSpec(
            name="TopKCategoricalAccuracy",
            target="glowplug_metrics.top_k_categorical_accuracy:TopKCategoricalAccuracy",
            summary="How often the right class is among the k with the highest scores.",
        ),
        MetricSpec(
            name="VariableAccumulation",
            target="glowplug_metrics.accumulation:VariableAccumulation",
            summary="Accumulates a number or tensor with any operation.",
        ),
    ]
