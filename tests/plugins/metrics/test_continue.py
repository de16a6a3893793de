"""Composed metrics of a run that continues, in the same process, the epoch that an exception ended."""

import pytest
import torch

from glowplug import Engine, Events
from glowplug_metrics import Accuracy, Average, Loss, MetricGroup, RunningAverage

SIZES = [4, 4, 4, 3, 4, 1, 4, 4, 2, 1]
BATCHES = [
    (torch.arange(n, dtype=torch.float32) % 2, torch.arange(n) // 2 % 2 == i % 2) for i, n in enumerate(SIZES)
]


def run(failing=None):
    """Run two epochs, in which one step may fail once, and return the values at each event."""
    failures = [failing]

    def step(engine, batch):
        if engine.state.iteration in failures:
            failures.clear()
            raise RuntimeError("once")
        return batch[0], batch[1].float()

    def loss():
        return Loss(torch.nn.functional.mse_loss)

    def errors():
        return Average(output_transform=lambda out: (out[0] - out[1]).abs())

    engine, published = Engine(step), {}
    loss().attach(engine, "loss")
    Accuracy().attach(engine, "accuracy")
    (loss() / 2 + errors()).attach(engine, "expression")
    MetricGroup({"loss in group": loss(), "errors": errors(), "ratio": loss() / errors()}).attach(
        engine, "group"
    )
    RunningAverage(loss(), alpha=0.5).attach(engine, "running loss")
    RunningAverage(errors(), alpha=0.5).attach(engine, "epoch so far", "single_epoch_running_batch_wise")
    RunningAverage(alpha=0.5, output_transform=lambda out: out[0]).attach(engine, "running output")
    for event in (Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED):
        engine.add_event_handler(
            event, lambda e: published.update({(e.current_event, e.state.iteration): dict(e.state.metrics)})
        )
    if failing is not None:
        with pytest.raises(RuntimeError, match="once"):
            engine.run(BATCHES, max_epochs=2)
    engine.run(BATCHES, max_epochs=2)
    return published


@pytest.mark.parametrize("failing", [7, 17])
def test_composed_metrics(failing):
    """After a step that fails once, all values equal those of a run without the failure."""
    assert run(failing) == run()
