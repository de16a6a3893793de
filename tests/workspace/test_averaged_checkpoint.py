"""Checkpoints of averaged weights."""

import torch
from torch import nn

from glowplug import Engine, Events
from glowplug_ema import EMAHandler
from glowplug_model_checkpoint import ModelCheckpoint


def test_best_average_and_resume(tmp_path):
    """The evaluator's checkpoint has the averaged weights, the trainer's the model's weights and the handler's state."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    trainer = Engine(lambda engine, batch: nn.init.constant_(model.weight, engine.state.epoch))
    evaluator = Engine(lambda engine, batch: None)
    ema = EMAHandler(model, momentum=0.5)
    ema.attach(trainer)
    evaluator.add_event_handler(
        Events.COMPLETED,
        lambda engine: engine.state.metrics.update(closeness=-abs(model.weight.item() - 1.2)),
    )
    best = ModelCheckpoint(tmp_path, "best", score_name="closeness", n_saved=1, require_empty=False)
    best.attach(evaluator, Events.COMPLETED, {"model": model})
    latest = ModelCheckpoint(tmp_path, "latest", n_saved=1, require_empty=False)
    latest.attach(trainer, Events.EPOCH_COMPLETED, {"trainer": trainer, "model": model})

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        with ema.averaged_weights():
            evaluator.run([0])

    trainer.run([0], max_epochs=3)
    # The averages of the epochs are 0.5, 1.25 and 2.125.
    assert torch.load(best.best_checkpoint, weights_only=True)["weight"].item() == 1.25
    state = torch.load(latest.last_checkpoint, weights_only=True)
    assert state["model"]["weight"].item() == 3.0
    assert state["trainer"]["handlers"]["EMAHandler"]["ema_model"]["weight"].item() == 2.125
