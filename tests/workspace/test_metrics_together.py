"""Metrics of several distributions in one engine."""

import pytest
import torch
import torchmetrics

from glowplug import Engine, Events, create_supervised_evaluator
from glowplug.metrics import MetricGroup, RunningAverage, TorchMetric
from glowplug_metrics import Accuracy, Precision

BATCHES = [
    (torch.tensor([1, 1, 0, 1]), torch.tensor([1, 0, 0, 1])),
    (torch.tensor([0, 1]), torch.tensor([1, 1])),
]


def test_torchmetrics_in_formulas_groups_and_running_averages():
    """A wrapped torchmetrics metric works in arithmetic, in a group and in a running average."""
    engine, averages = Engine(lambda engine, batch: batch), []
    (TorchMetric(torchmetrics.Precision(task="binary")) / Accuracy()).attach(engine, "ratio")
    group = {"ours": Precision(), "theirs": TorchMetric(torchmetrics.Precision(task="binary"))}
    MetricGroup(group).attach(engine, "precision")
    RunningAverage(TorchMetric(torchmetrics.Accuracy(task="binary")), alpha=0.5).attach(engine, "running")
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: averages.append(e.state.metrics["running"])
    )
    metrics = engine.run(BATCHES).metrics
    assert metrics["ratio"] == pytest.approx((3 / 4) / (4 / 6))
    assert metrics["ours"] == metrics["theirs"] == 0.75
    assert averages == [0.75, 0.5 * 0.75 + 0.5 * 0.5]
    assert "handlers" in engine.state_dict()


def test_torchmetrics_in_a_supervised_evaluator():
    """A wrapped torchmetrics metric works in an evaluator together with glowplug metrics."""
    metrics = {
        "f1": TorchMetric(torchmetrics.F1Score(task="multiclass", num_classes=2)),
        "accuracy": Accuracy(),
    }
    evaluator = create_supervised_evaluator(torch.nn.Identity(), metrics)
    data = [(torch.eye(2)[y_pred], y) for y_pred, y in BATCHES]
    assert evaluator.run(data).metrics == {"f1": pytest.approx(4 / 6), "accuracy": 4 / 6}
