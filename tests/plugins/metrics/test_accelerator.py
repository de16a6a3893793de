"""No update waits for an accelerator.

The device "meta" stands for one here: its tensors have no values, so that whoever fetches one gets an error.
"""

import pytest
import torch

from glowplug import Engine, Events
from glowplug_metrics import (
    Accuracy,
    Average,
    ConfusionMatrix,
    GeometricAverage,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    MultiLabelConfusionMatrix,
    Precision,
    Recall,
    RunningAverage,
    TopKCategoricalAccuracy,
    VariableAccumulation,
)

META = torch.device("meta")


def labels(*shape):
    """Return labels on the fake accelerator."""
    return torch.zeros(*shape, dtype=torch.int64, device=META)


OUTPUTS = {
    "multiclass": (Accuracy(), (torch.zeros(4, 3, device=META), labels(4))),
    "binary": (Accuracy(), (torch.zeros(4, device=META), labels(4))),
    "bool": (Accuracy(), (labels(4).bool(), labels(4).bool())),
    "multilabel": (Accuracy(is_multilabel=True), (labels(4, 3), labels(4, 3))),
    "few classes": (Precision(), (torch.zeros(4, 3, 2, device=META), labels(4, 2))),
    "many classes": (Recall(average=True), (torch.zeros(4, 70, device=META), labels(4))),
    "precision of binary": (Precision(), (torch.zeros(4, device=META), labels(4))),
    "recall of labels": (Recall(average="micro", is_multilabel=True), (labels(4, 3), labels(4, 3))),
    "samples": (Precision(average="samples", is_multilabel=True), (labels(4, 3), labels(4, 3))),
    "matrix": (ConfusionMatrix(3), (torch.zeros(4, 3, device=META), labels(4))),
    "large matrix": (ConfusionMatrix(70, "recall"), (torch.zeros(4, 70, device=META), labels(4))),
    "matrices": (MultiLabelConfusionMatrix(3), (labels(4, 3), labels(4, 3))),
    "top k": (TopKCategoricalAccuracy(2), (torch.zeros(4, 3, device=META), labels(4))),
    "loss": (
        Loss(torch.nn.functional.mse_loss),
        (torch.zeros(4, device=META), torch.zeros(4, device=META)),
    ),
    "absolute error": (MeanAbsoluteError(), (torch.zeros(4, device=META), labels(4))),
    "squared error": (MeanSquaredError(), (torch.zeros(4, 1, device=META), labels(4))),
    "geometric average": (GeometricAverage(), torch.ones(4, 2, device=META)),
    "average": (Average(), torch.zeros(4, 2, device=META)),
    "accumulation": (VariableAccumulation(torch.maximum), torch.zeros((), device=META)),
    "running average": (RunningAverage(output_transform=lambda x: x), torch.zeros((), device=META)),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_updates_fetch_nothing(name):
    """Updates work on tensors whose values cannot be read."""
    metric, output = OUTPUTS[name]
    engine = Engine(lambda engine, batch: None)
    engine.state.output = output
    for _ in range(2):
        metric.iteration_completed(engine)


def test_shared_updates_fetch_nothing():
    """Shared updates of several metrics work on tensors whose values cannot be read."""
    engine = Engine(lambda engine, batch: None)
    for metric in (
        Accuracy(),
        Precision(),
        Recall(average="weighted"),
        ConfusionMatrix(3),
        TopKCategoricalAccuracy(2),
    ):
        metric.attach(engine, type(metric).__name__)
    engine.state.output = torch.zeros(4, 3, device=META), labels(4)
    for _ in range(2):
        engine.fire_event(Events.ITERATION_COMPLETED)


@pytest.mark.parametrize(
    ("metric", "total", "batch"),
    [
        (Precision(), "_total", (torch.zeros(4, 3, device=META), labels(4))),
        (Recall(), "_total", (labels(4), labels(4))),
        (ConfusionMatrix(3), "confusion_matrix", (torch.zeros(4, 3, device=META), labels(4))),
        (MultiLabelConfusionMatrix(3), "_counts", (labels(4, 3), labels(4, 3))),
    ],
)
def test_counts_follow_the_data(metric, total, batch):
    """Counts, including invalid values, stay on the device of the data."""
    for _ in range(2):
        metric.update(batch)
    assert getattr(metric, total).device == META
    assert getattr(metric, total).dtype == torch.int64
    if not isinstance(metric, ConfusionMatrix):
        assert metric._num_invalid.device == META


@pytest.mark.parametrize(
    ("metric", "batch", "message"),
    [
        (Precision(average="micro"), (torch.eye(3), torch.arange(3)), "classes from 0 to 2, but 2 targets"),
        (Recall(), (torch.ones(3), torch.ones(3)), "0 or 1, but 2 values"),
        (
            Recall(average="samples", is_multilabel=True),
            (torch.ones(3, 2), torch.ones(3, 2)),
            "0 or 1, but 2 values",
        ),
        (MultiLabelConfusionMatrix(2), (torch.ones(3, 2), torch.ones(3, 2)), "0 or 1, but 2 values"),
    ],
)
def test_invalid_targets_raise_in_compute(metric, batch, message):
    """compute() raises for invalid targets that updates on an accelerator counted (M-085)."""
    metric.update(batch)
    right = metric.compute()
    metric._num_invalid = torch.tensor(0)  # the type after an update on an accelerator
    assert torch.equal(torch.as_tensor(metric.compute()), torch.as_tensor(right))
    metric._num_invalid = torch.tensor(2)
    with pytest.raises(ValueError, match=message):
        metric.compute()


def test_fake_accelerator_refuses_to_be_read():
    """The fake accelerator tensor of these tests raises when its value is read."""
    with pytest.raises(RuntimeError, match="meta"):
        torch.zeros((), device=META).item()


def test_float_sums_are_wide():
    """Float sums on an accelerator have 64 bits, whatever the type of the outputs."""
    loss, batch = Loss(torch.nn.functional.mse_loss), torch.zeros(4, device=META)
    loss.update((batch, batch))
    average = Average()
    average.update(batch)
    running = RunningAverage(output_transform=lambda x: x)
    running.update(batch)
    assert {loss._sum.dtype, average.accumulator.dtype, running.compute().dtype} == {torch.float64}


def test_invalid_binary_values_raise_in_compute():
    """compute() raises for binary values that updates on an accelerator counted as invalid (M-084)."""
    accuracy = Accuracy()
    accuracy.update((torch.tensor([0, 1]), torch.tensor([0, 1])))
    accuracy._num_invalid = torch.tensor(0)  # the type after an update on an accelerator
    assert accuracy.compute() == 1.0
    accuracy._num_invalid = torch.tensor(2)
    with pytest.raises(ValueError, match="must be 0 or 1, but 2 values since the last reset are invalid"):
        accuracy.compute()
    accuracy.reset()
    accuracy.update((torch.tensor([0, 1]), torch.tensor([0, 1])))
    assert accuracy.compute() == 1.0
