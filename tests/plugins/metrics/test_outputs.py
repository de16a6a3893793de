"""Outputs that several metrics of one engine share."""

import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss

from glowplug import Engine
from glowplug_metrics import (
    F1,
    ROC_AUC,
    Accuracy,
    ClassificationReport,
    ConfusionMatrix,
    EpochMetric,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    MetricGroup,
    MultiLabelConfusionMatrix,
    Precision,
    Recall,
    RootMeanSquaredError,
    RunningAverage,
    TopKCategoricalAccuracy,
)

SCORES, CLASSES = torch.eye(3).roll(1, 0)[[0, 1, 2, 0]], torch.tensor([2, 0, 1, 1])
LABELS = torch.tensor([[1, 0], [0, 1], [1, 1]])
PROBABILITIES, BINARY = torch.tensor([0.2, 0.9, 0.4]), torch.tensor([0, 1, 1])
VALUES, TARGETS = torch.tensor([1.0, 4.0]), torch.tensor([3.0, 3.0])

METRICS = {
    "accuracy": (Accuracy, SCORES, CLASSES),
    "precision": (Precision, SCORES, CLASSES),
    "recall": (Recall, SCORES, CLASSES),
    "f1": (F1, SCORES, CLASSES),
    "report": (lambda: ClassificationReport(output_dict=True), SCORES, CLASSES),
    "matrix": (lambda: ConfusionMatrix(3), SCORES, CLASSES),
    "top 2": (lambda: TopKCategoricalAccuracy(2), SCORES, CLASSES),
    "matrices": (lambda: MultiLabelConfusionMatrix(2), LABELS, LABELS),
    "auc": (ROC_AUC, PROBABILITIES, BINARY),
    "epoch": (lambda: EpochMetric(lambda y_pred, y: float((y_pred - y).sum())), VALUES, TARGETS),
    "absolute": (MeanAbsoluteError, VALUES, TARGETS),
    "squared": (MeanSquaredError, VALUES, TARGETS),
    "root": (RootMeanSquaredError, VALUES, TARGETS),
    "running": (lambda: RunningAverage(MeanAbsoluteError()), VALUES, TARGETS),
    "group": (lambda: MetricGroup({"absolute": MeanAbsoluteError()}), VALUES, TARGETS),
}


def value_of(make, output):
    """Return the value that an engine publishes for one output, beside a loss with keyword arguments."""
    engine = Engine(lambda engine, batch: batch)
    make().attach(engine, "value")
    Loss(lambda y_pred, y, factor=1: factor * torch.ones(())).attach(engine, "loss")
    metrics = engine.run([output]).metrics
    assert metrics.pop("loss") == 7.0
    return metrics


@pytest.mark.parametrize("name", METRICS)
def test_beside_a_loss_with_keyword_arguments(name):
    """A metric of (y_pred, y) ignores the keyword arguments of a Loss, in a tuple, a list or a mapping (M-008, M-083)."""
    make, y_pred, y = METRICS[name]
    if name == "auc":
        pytest.importorskip("sklearn")
    alone = make()
    alone.update(alone.transformed((y_pred, y)))
    kwargs = {"factor": 7}
    by_key = {"y_pred": y_pred, "y": y, "criterion_kwargs": kwargs}
    values = [value_of(make, output) for output in ((y_pred, y, kwargs), [y_pred, y, kwargs], by_key)]
    for value in values:
        torch.testing.assert_close(value, values[0])
    torch.testing.assert_close(values[0]["value"], alone.publishable(alone.compute()))


def test_sequence_transform():
    """get_sequence_transform() accepts the keyword arguments of a Loss as well (M-083)."""
    transform = Accuracy.get_sequence_transform(ignore_index=-100)
    y_pred, y = transform((torch.zeros(1, 3, 5), torch.tensor([[1, 2, -100]]), {"weight": None}))
    assert (y_pred.shape, y.tolist()) == ((2, 5), [1, 2])


@pytest.mark.parametrize(
    "make",
    [Accuracy, MeanAbsoluteError, lambda: EpochMetric(lambda y_pred, y: 0), lambda: Loss(mse_loss)],
    ids=["Accuracy", "MeanAbsoluteError", "EpochMetric", "Loss"],
)
@pytest.mark.parametrize(
    ("output", "error", "found"),
    [
        (torch.zeros(2, 4), TypeError, "Tensor"),
        ((VALUES, TARGETS, TARGETS), ValueError, r"tuple \(Tensor, Tensor, Tensor\)"),
        ((VALUES, TARGETS, None), ValueError, r"tuple \(Tensor, Tensor, NoneType\)"),
        ((VALUES, TARGETS, {}, {}), ValueError, r"tuple \(Tensor, Tensor, dict, dict\)"),
        ((VALUES,), ValueError, r"tuple \(Tensor\)"),
    ],
)
def test_other_parts_are_refused(make, output, error, found):
    """An output of other parts, such as a tensor with two rows, is refused with what it contains (M-083)."""
    engine = Engine(lambda engine, batch: batch)
    make().attach(engine, "value")
    with pytest.raises(
        error, match=f"{type(make()).__name__} needs the output .* got {found}.*output_transform"
    ):
        engine.run([output])


def test_weights_of_cross_entropy():
    """The keyword arguments reach the loss function of the Loss beside other metrics (M-083)."""
    weight = torch.tensor([1.0, 2.0, 4.0])
    engine = Engine(lambda engine, batch: batch)
    Loss(cross_entropy).attach(engine, "loss")
    Accuracy().attach(engine, "accuracy")
    metrics = engine.run([(SCORES, CLASSES, {"weight": weight})]).metrics
    assert metrics["loss"] == pytest.approx(cross_entropy(SCORES, CLASSES, weight=weight).item())
    assert metrics["accuracy"] == 0.75
