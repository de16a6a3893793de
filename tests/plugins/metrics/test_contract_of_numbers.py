"""Regression metrics, epoch metrics and groups pass MetricContract."""

import pytest
import torch

from glowplug_metrics import (
    ROC_AUC,
    Average,
    EpochMetric,
    GeometricAverage,
    MeanAbsoluteError,
    MeanSquaredError,
    MetricGroup,
    RootMeanSquaredError,
)
from glowplug_testing import MetricCase, MetricContract

random = torch.Generator().manual_seed(0)
# Each batch has both labels, because curves need both.
PAIRS = [(torch.rand(n, generator=random), torch.arange(n) % 2) for n in (4, 2, 7)]
Y_PRED, Y = (torch.cat(parts).double() for parts in zip(*PAIRS, strict=True))
ROWS = [1 + torch.rand(n, 2, generator=random) for n in (4, 1, 7)]
DIFFERENCE = Y_PRED - Y


def column(pair):
    """Return the predictions as a batch of examples."""
    return pair[0].view(-1, 1)


def above(y_pred, y):
    """Return the number of predictions above the median, which is not a sum over batches."""
    return (y_pred > y_pred.median()).sum().item()


def roc_auc():
    """Return the ROC AUC: how often a positive is ranked above a negative."""
    pairs = Y_PRED[Y == 1][:, None] > Y_PRED[Y == 0][None]
    return pairs.double().mean().item()


CASES = {
    "mean absolute error": (MeanAbsoluteError, PAIRS, DIFFERENCE.abs().mean()),
    "mean squared error": (MeanSquaredError, PAIRS, DIFFERENCE.square().mean()),
    "root mean squared error": (RootMeanSquaredError, PAIRS, DIFFERENCE.square().mean().sqrt()),
    "geometric average": (GeometricAverage, ROWS, torch.cat(ROWS).double().log().mean(0).exp()),
    "epoch metric": (lambda: EpochMetric(above), PAIRS, 6),
    "area": (ROC_AUC, PAIRS, roc_auc()),
    "group": (
        lambda: MetricGroup({"mae": MeanAbsoluteError(), "mean": Average(column)}),
        PAIRS,
        {"mae": DIFFERENCE.abs().mean(), "mean": Y_PRED.mean().reshape(1)},
    ),
}


class TestNumbers(MetricContract):
    @pytest.fixture(params=CASES)
    def case(self, request):
        """Return the case of each metric."""
        make, outputs, expected = CASES[request.param]
        return MetricCase(make=make, outputs=outputs, expected=expected)
