"""TerminateOnNan on an accelerator."""

import pytest
import torch
from torch import nn

from glowplug import Engine, Events
from glowplug_terminate_on_nan import TerminateOnNan

NAN = float("nan")
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature"),
]


def test_no_synchronization():
    """On a GPU, no iteration waits for the device (H-083)."""
    model = nn.Linear(8, 8, device="cuda")
    x = torch.ones(4, 8, device="cuda")

    def step(engine, batch):
        model.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return {"loss": loss, "y": [x, x]}

    engine = Engine(step)
    engine.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan(model=model, model_every=2))
    engine.run(range(3))
    engine.state.max_epochs = None
    torch.cuda.set_sync_debug_mode("error")
    try:
        engine.run(range(20))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_found(caplog):
    """On a GPU, a NaN is found at the latest at the end of the epoch, and its iteration is named (H-083)."""
    values = [torch.tensor(NAN if i == 3 else 1.0, device="cuda") for i in range(1, 9)]
    engine = Engine(lambda engine, batch: {"loss": batch})
    engine.attach(TerminateOnNan())
    engine.run(values, max_epochs=2)
    assert engine.state.epoch == 1
    assert caplog.messages == ["iteration 3: output['loss'] is not finite; the run is terminated"]
