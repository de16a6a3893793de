"""The classification metrics pass MetricContract."""

import pytest
import torch
from sklearn import metrics as reference

from glowplug_metrics import (
    F1,
    ClassificationReport,
    ConfusionMatrix,
    MetricGroup,
    MultiLabelConfusionMatrix,
    Precision,
    Recall,
    TopKCategoricalAccuracy,
    mIoU,
)
from glowplug_testing import MetricCase, MetricContract

random = torch.Generator().manual_seed(0)
SIZES = (9, 1, 14)
BATCHES = [(torch.randn(n, 3, generator=random), torch.randint(3, (n,), generator=random)) for n in SIZES]
ROWS = [tuple(torch.randint(2, (n, 3), generator=random) for _ in "py") for n in SIZES]
SCORES, TARGET = (torch.cat(parts) for parts in zip(*BATCHES, strict=True))
PREDICTED = SCORES.argmax(1)
LABELS, ACTUAL = (torch.cat(parts) for parts in zip(*ROWS, strict=True))


def each(function):
    """Return the value of each class."""
    return torch.from_numpy(function(TARGET, PREDICTED, average=None))


def mean_recall(report):
    """Return the mean over the classes."""
    return report["macro avg"]["recall"]


CASES = {
    "precision": (Precision, BATCHES, each(reference.precision_score)),
    "recall": (lambda: Recall(average=True), BATCHES, each(reference.recall_score).mean()),
    "samples": (
        lambda: Precision(average="samples", is_multilabel=True),
        ROWS,
        reference.precision_score(ACTUAL, LABELS, average="samples", zero_division=0),
    ),
    "f1": (F1, BATCHES, each(reference.f1_score).mean()),
    "report": (
        lambda: ClassificationReport(output_dict=True).map(mean_recall),
        BATCHES,
        each(reference.recall_score).mean(),
    ),
    "matrix": (
        lambda: ConfusionMatrix(3),
        BATCHES,
        torch.from_numpy(reference.confusion_matrix(TARGET, PREDICTED)),
    ),
    "miou": (lambda: mIoU(ConfusionMatrix(3)), BATCHES, each(reference.jaccard_score).mean()),
    "matrices": (
        lambda: MultiLabelConfusionMatrix(3),
        ROWS,
        torch.from_numpy(reference.multilabel_confusion_matrix(ACTUAL, LABELS)),
    ),
    "top": (
        lambda: TopKCategoricalAccuracy(2),
        BATCHES,
        reference.top_k_accuracy_score(TARGET, SCORES, k=2),
    ),
    "group": (
        lambda: MetricGroup({"p": Precision(), "r": Recall()}),
        BATCHES,
        {"p": each(reference.precision_score), "r": each(reference.recall_score)},
    ),
}


class TestClassification(MetricContract):
    @pytest.fixture(params=CASES)
    def case(self, request):
        """Return the case of each metric."""
        make, outputs, expected = CASES[request.param]
        return MetricCase(make=make, outputs=outputs, expected=expected)
