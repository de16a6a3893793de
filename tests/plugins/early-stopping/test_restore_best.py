"""restore_best: the weights at the end of a run."""

import io

import pytest
import torch
from torch import nn

from glowplug import Engine, Events
from glowplug_early_stopping import EarlyStopping

SCORES = [0.3, 0.7, 0.9, 0.8, 0.6, 0.5]


def training(scores=SCORES, patience=2, is_given=False):
    """Return a trainer whose weight is the number of the iteration, its model, and its EarlyStopping."""
    model = nn.Linear(1, 1, bias=False)

    def step(engine, batch):
        nn.init.constant_(model.weight, engine.state.iteration)

    trainer = Engine(step)
    evaluator = Engine(lambda engine, batch: scores[trainer.state.epoch - 1])
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    handler = EarlyStopping(
        patience,
        lambda engine: engine.state.output,
        trainer if is_given else None,
        restore_best=True,
        to_restore=model,
    )
    handler.attach(evaluator)
    return trainer, model, handler


def test_stopped_run():
    """After an early stop, the model has the weights of the best score, already in the handlers of COMPLETED (H-069)."""
    trainer, model, handler = training()
    seen = []
    trainer.add_event_handler(Events.COMPLETED, lambda: seen.append(model.weight.item()))
    trainer.run(range(2), max_epochs=6)
    assert trainer.state.epoch == 5
    assert (model.weight.item(), seen) == (6.0, [6.0])
    assert (handler.best_epoch, handler.best_score) == (3, 0.9)


@pytest.mark.parametrize("skip_completed", [False, True])
def test_other_ends(skip_completed):
    """A run that completes, or that another handler terminates, ends with the best weights too (H-069)."""
    trainer, model, _ = training(patience=10)
    trainer.run(range(2), max_epochs=4)
    assert model.weight.item() == 6.0
    trainer, model, _ = training(patience=10)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=9), lambda e: e.terminate(skip_completed))
    trainer.run(range(2), max_epochs=6)
    assert model.weight.item() == 6.0


def test_exception():
    """After an exception, the model has the weights with which the step failed (H-069)."""
    trainer, model, _ = training()

    def fail():
        raise ValueError("failed")

    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=9), fail)
    with pytest.raises(ValueError, match="failed"):
        trainer.run(range(2), max_epochs=6)
    assert model.weight.item() == 9.0


def test_no_finite_score():
    """Without a finite score, the last weights stay (H-069)."""
    trainer, model, _ = training([float("nan")] * 2)
    trainer.run(range(2), max_epochs=2)
    assert model.weight.item() == 4.0


@pytest.mark.parametrize("iteration", range(1, 13))
def test_resumed_run(iteration):
    """A run resumed from any iteration ends with the same weights and the same state (H-068, H-069)."""
    whole, expected, whole_handler = training()
    whole.run(range(2), max_epochs=6)
    trainer, model, _ = training()
    saved = io.BytesIO()

    def save(engine):
        saved.seek(0)
        torch.save({"trainer": engine.state_dict(), "model": model.state_dict()}, saved)

    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), save)
    trainer.run(range(2), max_epochs=6)
    if iteration > whole.state.iteration:
        return
    saved.seek(0)
    states = torch.load(saved, weights_only=True)
    resumed, model, handler = training()
    model.load_state_dict(states["model"])
    resumed.load_state_dict(states["trainer"])
    resumed.run(range(2), max_epochs=6)
    assert torch.equal(model.weight, expected.weight)
    actual, wanted = handler.state_dict(), whole_handler.state_dict()
    assert torch.equal(
        actual.pop("best_states")["model"]["weight"], wanted.pop("best_states")["model"]["weight"]
    )
    assert actual == wanted


def test_stopped_state_with_the_last_weights():
    """A state saved between the stop and the end of the run restores the best weights when it is resumed (H-068)."""
    trainer, model, _ = training()
    saved = {}
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=5),
        lambda e: saved.update(e.state_dict(), weights={"weight": model.weight.detach().clone()}),
    )
    trainer.run(range(2), max_epochs=6)
    resumed, model, _ = training(is_given=True)
    model.load_state_dict(saved.pop("weights"))
    assert model.weight.item() == 10.0
    resumed.load_state_dict(saved)
    resumed.run(range(2))
    assert model.weight.item() == 6.0


def test_new_run_forgets():
    """A new run forgets the best weights of the former run (H-066)."""
    scores = list(SCORES)
    trainer, model, _ = training(scores)
    trainer.run(range(2), max_epochs=6)
    trainer.state.max_epochs = None
    scores[:] = [0.2, 0.1]
    trainer.run(range(2), max_epochs=2)
    assert model.weight.item() == 2.0


def test_other_states():
    """A mapping restores all of its objects, such as the model and the optimizer (H-069)."""
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    scores = iter([0.9, 0.5])
    trainer = Engine(lambda engine, batch: None)

    @trainer.on(Events.EPOCH_STARTED)
    def train():
        optimizer.zero_grad()
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()

    kept = {}

    @trainer.on(Events.EPOCH_COMPLETED(once=1))
    def note():
        kept["buffer"] = optimizer.state_dict()["state"][0]["momentum_buffer"].clone()

    EarlyStopping(
        1, lambda engine: next(scores), restore_best=True, to_restore={"model": model, "optimizer": optimizer}
    ).attach(trainer, Events.EPOCH_COMPLETED)
    trainer.run(range(1), max_epochs=5)
    assert torch.equal(optimizer.state_dict()["state"][0]["momentum_buffer"], kept["buffer"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"restore_best": True}, ValueError, "restore_best=True needs the model; pass to_restore=model"),
        ({"to_restore": nn.Linear(1, 1)}, ValueError, "no effect without restore_best=True"),
        ({"restore_best": True, "to_restore": {"model": 3}}, TypeError, "got 3 as 'model'"),
    ],
)
def test_invalid(options, error, message):
    """Options that do not fit together are refused (H-061)."""
    with pytest.raises(error, match=message):
        EarlyStopping(1, len, **options)


def test_states_of_other_objects():
    """A state with the weights of other objects is refused, and nothing is loaded (H-068)."""
    handler = EarlyStopping(
        1, len, restore_best=True, to_restore={"ema": nn.Linear(1, 1)}, threshold_mode="rel"
    )
    state = {"counter": 1, "best_score": 0.5, "threshold_mode": "abs", "best_states": {"model": {}}}
    with pytest.raises(ValueError, match=r"are of \['model'\], but to_restore has \['ema'\]"):
        handler.load_state_dict(state)
    assert (handler.counter, handler.threshold_mode) == (0, "rel")
