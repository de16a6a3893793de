"""Checkpoints of a model on an accelerator, written in the background."""

import time

import pytest
import torch
from torch import nn

from glowplug import Engine, Events
from glowplug_model_checkpoint import ModelCheckpoint

CYCLES = 2_000_000_000
"""Clock cycles for which a kernel keeps the device busy; about a second."""

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # torch says so once, and would raise here.
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature"),
]


def test_host_does_not_wait_for_the_device(tmp_path):
    """A save waits neither for the device nor for the copy, and a later step does not change what is saved (C5)."""
    model = nn.Linear(1000, 1000).cuda()

    def step(engine, batch):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(batch)

    trainer = Engine(step)
    checkpoint = ModelCheckpoint(
        tmp_path, n_saved=None, async_save=True, check_finite=False, to_save={"model": model}
    )
    checkpoint.attach(trainer, Events.ITERATION_COMPLETED(event_filter=lambda engine, event: event in (1, 3)))
    seconds = []

    @trainer.on(Events.ITERATION_STARTED)
    def occupy_device(engine):
        if engine.state.iteration == 3:
            # The memory of the copy exists since the first save.
            checkpoint.close()
            torch.cuda._sleep(CYCLES)
            torch.cuda.set_sync_debug_mode("error")
            seconds.append(time.monotonic())

    @trainer.on(Events.ITERATION_COMPLETED(once=5))
    def stop_clock(engine):
        seconds.append(time.monotonic())
        torch.cuda.set_sync_debug_mode("default")

    try:
        trainer.run([1.0, 2.0, 3.0, 4.0, 5.0])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert seconds[1] - seconds[0] < 0.3
    for iteration in (1, 3):
        saved = torch.load(tmp_path / f"model_{iteration}.pt", weights_only=True)
        assert saved["weight"].device.type == "cpu"
        assert all(bool((weight == iteration).all()) for weight in saved.values())
