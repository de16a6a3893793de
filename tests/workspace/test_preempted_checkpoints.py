"""Preemption with ModelCheckpoint: which policies save when a signal arrives in the middle of an epoch."""

import signal

import pytest
import torch

from glowplug import Engine, Events
from glowplug.exceptions import PreemptionExit
from glowplug_model_checkpoint import KeepBest, KeepLast, ModelCheckpoint
from glowplug_preemption import Preemption


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["checkpoint_3.pt"]),
        ({"keep": KeepBest(1, by="accuracy") | KeepLast(1)}, ["checkpoint_3.pt"]),
        ({"keep": KeepBest(1, by="accuracy")}, []),
        ({"score_name": "accuracy"}, []),
    ],
    ids=["last", "best and last", "best", "best of ignite"],
)
def test_policies(tmp_path, caplog, options, names):
    """The last state is saved without a score; a handler of the best checkpoint alone saves nothing and does not fail (C6)."""
    model = torch.nn.Linear(2, 1)
    trainer = Engine(lambda engine, batch: None)
    checkpoint = ModelCheckpoint(tmp_path / "saved", to_save={"model": model, "trainer": trainer}, **options)
    checkpoint.attach(trainer, Events.EPOCH_COMPLETED(every=100))
    trainer.attach(Preemption())
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: signal.raise_signal(signal.SIGUSR1))
    with pytest.raises(PreemptionExit):
        trainer.run(range(10), max_epochs=1)
    assert [path.name for path in (tmp_path / "saved").glob("*.pt")] == names
    assert ("ModelCheckpoint saved" in caplog.text) is bool(names)
    assert ("nothing was saved" in caplog.text) is not bool(names)
