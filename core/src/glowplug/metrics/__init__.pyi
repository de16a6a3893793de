from typing import Any

from glowplug.exceptions import NotComputableError as NotComputableError
from glowplug.metrics._metric import Metric as Metric, MetricsLambda as MetricsLambda, identity as identity
from glowplug.metrics._padding import without_padding as without_padding
from glowplug.metrics._reduce import (
    reinit__is_reduced as reinit__is_reduced,
    sync_all_reduce as sync_all_reduce,
)
from glowplug.metrics._usage import (
    BatchFiltered as BatchFiltered,
    BatchWise as BatchWise,
    EpochWise as EpochWise,
    MetricUsage as MetricUsage,
    RunningBatchWise as RunningBatchWise,
    RunningEpochWise as RunningEpochWise,
    SingleEpochRunningBatchWise as SingleEpochRunningBatchWise,
)
from glowplug_metrics import (
    F1 as F1,
    ROC_AUC as ROC_AUC,
    Accuracy as Accuracy,
    Average as Average,
    AveragePrecision as AveragePrecision,
    ClassificationReport as ClassificationReport,
    ConfusionMatrix as ConfusionMatrix,
    DiceCoefficient as DiceCoefficient,
    EpochMetric as EpochMetric,
    Fbeta as Fbeta,
    Frequency as Frequency,
    GeometricAverage as GeometricAverage,
    IoU as IoU,
    JaccardIndex as JaccardIndex,
    Loss as Loss,
    MeanAbsoluteError as MeanAbsoluteError,
    MeanSquaredError as MeanSquaredError,
    MetricGroup as MetricGroup,
    MultiLabelConfusionMatrix as MultiLabelConfusionMatrix,
    Precision as Precision,
    PrecisionRecallCurve as PrecisionRecallCurve,
    Recall as Recall,
    RocCurve as RocCurve,
    RootMeanSquaredError as RootMeanSquaredError,
    RunningAverage as RunningAverage,
    TopKCategoricalAccuracy as TopKCategoricalAccuracy,
    VariableAccumulation as VariableAccumulation,
    cmAccuracy as cmAccuracy,
    cmPrecision as cmPrecision,
    cmRecall as cmRecall,
    mIoU as mIoU,
)
from glowplug_torchmetrics import TorchMetric as TorchMetric

def create(name: str, /, **options: Any) -> Any: ...
