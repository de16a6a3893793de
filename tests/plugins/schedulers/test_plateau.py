"""ReduceLROnPlateauScheduler on a trainer and an evaluator."""

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from glowplug import Engine, Events
from glowplug_schedulers import ReduceLROnPlateauScheduler

LOSSES = [1.0, 0.9, 0.95, 0.9, 0.9, 0.5, 0.6, float("nan"), 0.6]


def sgd(*rates):
    """Return an optimizer with a parameter group for each learning rate."""
    return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": rate} for rate in rates or (1.0,)])


def of_torch(**options):
    """Return the learning rates after each epoch of a plain loop."""
    optimizer = sgd()
    scheduler = ReduceLROnPlateau(optimizer, **options)
    rates = []
    for loss in LOSSES:
        scheduler.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def trainer_and_evaluator():
    """Return a trainer that runs an evaluator after each epoch, which publishes the next loss."""
    losses = iter(LOSSES)
    trainer, evaluator = (Engine(lambda engine, batch: None) for _ in range(2))
    evaluator.add_event_handler(
        Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(loss=next(losses))
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    return trainer, evaluator


@pytest.mark.parametrize("options", [{"patience": 1}, {"patience": 0, "factor": 0.5, "cooldown": 1}])
@pytest.mark.parametrize("is_given", [False, True])
def test_evaluator(options, is_given):
    """The learning rates are those of torch's scheduler in a plain loop, and the trainer has the history (H-116)."""
    trainer, evaluator = trainer_and_evaluator()
    optimizer = sgd()
    scheduler = ReduceLROnPlateauScheduler(
        optimizer, "loss", trainer if is_given else None, save_history=True, **options
    )
    scheduler.attach(evaluator)
    trainer.run([0], max_epochs=len(LOSSES))
    assert trainer.state.param_history == {"lr": [[rate] for rate in of_torch(**options)]}
    assert not hasattr(evaluator.state, "param_history")
    assert any(key.startswith("ReduceLROnPlateau") for key in trainer.state_dict()["handlers"])


def test_one_group():
    """With param_group_index, the other groups keep their learning rates (H-116)."""
    optimizer = sgd(1.0, 2.0, 3.0)
    scheduler = ReduceLROnPlateauScheduler(
        optimizer, "loss", param_group_index=1, patience=0, factor=0.1, min_lr=0.1
    )
    engine = Engine(lambda engine, batch: engine.state.metrics.update(loss=1.0))
    scheduler.attach(engine)
    for _ in range(4):
        engine.run([0])
    assert [round(group["lr"], 6) for group in optimizer.param_groups] == [1.0, 0.1, 3.0]
    assert scheduler.get_param() == pytest.approx(0.1)


def test_one_group_and_several_minima():
    """With param_group_index, a list of lowest learning rates is an error that shows the list (H-116)."""
    with pytest.raises(TypeError, match=r"min_lr must be a number .*, got \[0\.1, 0\.2\]"):
        ReduceLROnPlateauScheduler(sgd(1.0, 2.0), "loss", param_group_index=0, min_lr=[0.1, 0.2])


def test_trainer_is_not_kept():
    """The handler does not keep the trainer alive (H-116)."""
    scheduler = ReduceLROnPlateauScheduler(sgd(), "loss", Engine(lambda engine, batch: None))
    assert scheduler.trainer is None


def test_simulated_values():
    """The simulation gives the learning rate after each event, and needs a metric for each event (H-116)."""
    rows = ReduceLROnPlateauScheduler.simulate_values(9, LOSSES, 1.0, patience=1, save_history=True)
    assert rows == [[i, rate] for i, rate in enumerate(of_torch(patience=1))]
    with pytest.raises(ValueError, match="a value for each of the 3 events, got 9"):
        ReduceLROnPlateauScheduler.simulate_values(3, LOSSES, 1.0)


def test_missing_metric():
    """A missing metric is an error that lists the metrics (H-116)."""
    engine = Engine(lambda engine, batch: engine.state.metrics.update(accuracy=1.0))
    ReduceLROnPlateauScheduler(sgd(), "loss").attach(engine)
    with pytest.raises(
        ValueError, match=r"the engine has no metric 'loss'; available metrics: \['accuracy'\]"
    ):
        engine.run([0])
