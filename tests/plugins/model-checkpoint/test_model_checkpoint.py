"""Tests of ModelCheckpoint."""

import weakref

import pytest
import torch
from torch import nn

from glowplug import Engine, Events
from glowplug.loggers import global_step_from_engine
from glowplug_model_checkpoint import Checkpoint, ModelCheckpoint


@pytest.fixture
def trainer():
    """A real engine whose step does nothing."""
    return Engine(lambda engine, batch: None)


class TestObjects:
    def test_objects_of_the_constructor(self, trainer, tmp_path, model, names):
        """engine.attach(ModelCheckpoint(..., to_save=...)) saves after each epoch until it is detached (H-050)."""
        checkpoint = ModelCheckpoint(tmp_path, "best", n_saved=2, to_save={"model": model})
        handle = trainer.attach(checkpoint)
        trainer.run([1, 2], max_epochs=3)
        assert names(tmp_path) == ["best_model_4.pt", "best_model_6.pt"]
        handle.remove()
        trainer.run([1, 2], max_epochs=5)
        assert names(tmp_path) == ["best_model_4.pt", "best_model_6.pt"]

    def test_objects_of_attach(self, trainer, tmp_path, model, names):
        """``attach`` accepts an event and objects, and requires objects (H-050)."""
        checkpoint = ModelCheckpoint(tmp_path)
        with pytest.raises(ValueError, match="nothing to save"):
            checkpoint.attach(trainer)
        with pytest.raises(ValueError, match="nothing to save"):
            trainer.attach(checkpoint)
        checkpoint.attach(trainer, Events.ITERATION_COMPLETED(every=2), {"model": model})
        trainer.run([1, 2, 3, 4, 5])
        assert names(tmp_path) == ["model_4.pt"]

    @pytest.mark.parametrize("by_keyword", [False, True])
    def test_objects_of_add_event_handler(self, trainer, tmp_path, model, names, by_keyword):
        """add_event_handler accepts objects as ignite does, and refuses the handler without them (H-051)."""
        checkpoint = ModelCheckpoint(tmp_path)
        with pytest.raises(ValueError, match="cannot be called"):
            trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
        if by_keyword:
            trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint, to_save={"model": model})
        else:
            trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint, {"model": model})
        trainer.run([1])
        assert names(tmp_path) == ["model_1.pt"]
        with pytest.raises(RuntimeError, match="to_save is empty"):
            checkpoint(trainer, {})
        with pytest.raises(TypeError, match="no state_dict"):
            checkpoint(trainer, {"model": 3})

    def test_objects_of_each_call(self, fake, tmp_path, model, names):
        """The objects of a call replace the earlier ones (H-052)."""
        checkpoint = ModelCheckpoint(tmp_path, n_saved=2)
        checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=1), {"a": model})
        checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=2), {"b": model})
        assert names(tmp_path) == ["a_1.pt", "b_2.pt"]

    @pytest.mark.parametrize("at", ["constructor", "attach", "add_event_handler", "keyword", "both events"])
    def test_exception_raised(self, tmp_path, model, names, at):
        """At EXCEPTION_RAISED it saves the objects, wherever they were given, and run() raises (H-034, H-053)."""

        def step(engine, batch):
            if engine.state.iteration == 3:
                raise ZeroDivisionError("boom")

        trainer = Engine(step)
        if at == "constructor":
            ModelCheckpoint(tmp_path, to_save={"model": model}).attach(trainer, Events.EXCEPTION_RAISED)
        elif at == "attach":
            ModelCheckpoint(tmp_path).attach(trainer, Events.EXCEPTION_RAISED, {"model": model})
        elif at == "add_event_handler":
            trainer.add_event_handler(Events.EXCEPTION_RAISED, ModelCheckpoint(tmp_path), {"model": model})
        elif at == "keyword":
            trainer.add_event_handler(
                Events.EXCEPTION_RAISED, ModelCheckpoint(tmp_path), to_save={"model": model}
            )
        else:
            events = Events.EPOCH_COMPLETED | Events.EXCEPTION_RAISED
            ModelCheckpoint(tmp_path, to_save={"model": model}).attach(trainer, events)
        with pytest.raises(ZeroDivisionError, match="boom"):
            trainer.run([1, 2], max_epochs=3)
        assert names(tmp_path) == ["model_3.pt"]


def test_score_without_a_name(fake, tmp_path, model, names):
    """A score without a name is the last part of the file name (H-054)."""
    checkpoint = ModelCheckpoint(tmp_path, "best", score_function=lambda engine: 0.5)
    checkpoint(fake, {"model": model})
    assert names(tmp_path) == ["best_model_3_0.5000.pt"]


def test_torch_save_options(fake, tmp_path, model):
    """Other keyword arguments are passed to torch.save."""
    ModelCheckpoint(tmp_path, _use_new_zipfile_serialization=False)(fake, {"model": model})
    assert not (tmp_path / "model_6.pt").read_bytes().startswith(b"PK")


def script(folder, max_epochs, *, fails_at=None):
    """Train and resume as a user's script does; return model, trainer and checkpoint."""
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(engine, batch):
        if engine.state.iteration == fails_at:
            raise RuntimeError("out of memory")
        optimizer.zero_grad()
        (model(batch) ** 2).sum().backward()
        optimizer.step()

    trainer = Engine(step)
    to_save = {"model": model, "optimizer": optimizer, "trainer": trainer}
    newest = ModelCheckpoint.latest(folder)
    checkpoint = ModelCheckpoint(folder, n_saved=2, require_empty=False, to_save=to_save)
    trainer.attach(checkpoint)
    if newest is not None:
        checkpoint.load_objects(to_save, newest)
    trainer.run([torch.ones(1, 2), torch.full((1, 2), 2.0)], max_epochs=max_epochs)
    return model, trainer, checkpoint


def test_script_resumes_after_a_crash(tmp_path, names):
    """A resumed script gets the weights of an uninterrupted run and adopts the earlier files."""
    expected, *_ = script(tmp_path / "whole", max_epochs=5)
    with pytest.raises(RuntimeError, match="out of memory"):
        script(tmp_path / "run", max_epochs=5, fails_at=7)
    assert names(tmp_path / "run") == ["checkpoint_4.pt", "checkpoint_6.pt"]
    model, trainer, checkpoint = script(tmp_path / "run", max_epochs=5)
    assert trainer.state.iteration == 10
    assert torch.equal(model.weight, expected.weight)
    assert names(tmp_path / "run") == ["checkpoint_10.pt", "checkpoint_8.pt"]
    assert checkpoint.last_checkpoint == tmp_path / "run" / "checkpoint_10.pt"


def test_state_loaded_before_attach(trainer, tmp_path, model, names):
    """The engine applies a loaded state to a handler that is attached later."""
    trainer.attach(ModelCheckpoint(tmp_path, to_save={"model": model}))
    trainer.run([1, 2], max_epochs=1)
    state = trainer.state_dict()
    resumed = Engine(lambda engine, batch: None)
    resumed.load_state_dict(state)
    checkpoint = ModelCheckpoint(tmp_path, require_empty=False, to_save={"model": model})
    resumed.attach(checkpoint)
    assert checkpoint.last_checkpoint == tmp_path / "model_2.pt"
    resumed.run([1, 2], max_epochs=2)
    assert names(tmp_path) == ["model_4.pt"]


def test_terminate_does_not_prevent_the_save(trainer, tmp_path, model):
    """A checkpoint still saves if an earlier handler of the same event calls terminate()."""
    checkpoint = ModelCheckpoint(tmp_path, to_save={"model": model})
    trainer.attach(checkpoint)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.terminate())
    trainer.run([1, 2], max_epochs=3)
    assert checkpoint.last_checkpoint == tmp_path / "model_2.pt"


SCORES = [0.5, 0.9, 0.7, 0.6, 0.95, 0.4]


def best_of_evaluator(folder, model, way):
    """Return a trainer whose evaluator saves the best model, and the checkpoint."""
    trainer, evaluator = (Engine(lambda engine, batch: batch) for _ in range(2))
    checkpoint = ModelCheckpoint(
        folder,
        "best",
        score_function=lambda engine: SCORES[trainer.state.epoch - 1],
        require_empty=False,
        global_step_transform=lambda engine, event: trainer.state.epoch,
    )
    if way == "added":
        evaluator.add_event_handler(Events.COMPLETED, checkpoint, {"model": model})
    else:
        checkpoint.attach(evaluator, Events.COMPLETED, {"model": model})
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    return trainer, checkpoint


@pytest.mark.parametrize("way", ["added", "attached"])
def test_record_of_the_evaluator(tmp_path, model, names, way):
    """The state of the trainer alone restores the best record of a checkpoint on its evaluator."""
    first, _ = best_of_evaluator(tmp_path, model, way)
    first.run([1, 2], max_epochs=2)
    torch.save({**first.state_dict(), "max_epochs": 4}, tmp_path / "trainer.pth")
    trainer, checkpoint = best_of_evaluator(tmp_path, model, way)
    trainer.load_state_dict(torch.load(tmp_path / "trainer.pth", weights_only=True))
    trainer.run([1, 2])
    assert [(item.scores, item.filename) for item in checkpoint.saved] == [
        ({"score": 0.9}, "best_model_2_0.9000.pt")
    ]
    trainer.run([1, 2], max_epochs=6)
    assert names(tmp_path) == ["best_model_5_0.9500.pt", "trainer.pth"]


@pytest.mark.usefixtures("no_gc")
class TestLifetime:
    @pytest.mark.parametrize("form", ["Checkpoint", "constructor", "attach", "optional", "add_event_handler"])
    def test_saved_trainer(self, form, tmp_path):
        """A checkpoint that saves the trainer keeps neither trainer nor model alive (H-011)."""

        def train():
            trainer, model = Engine(lambda engine, batch: None), nn.Linear(2, 1)
            to_save = {"model": model, "nested": [{"trainer": trainer}]}
            if form == "Checkpoint":
                Checkpoint(to_save, tmp_path).attach(trainer)
            elif form == "attach":
                ModelCheckpoint(tmp_path).attach(trainer, to_save=to_save)
            elif form == "add_event_handler":
                trainer.add_event_handler(Events.EPOCH_COMPLETED, ModelCheckpoint(tmp_path, to_save=to_save))
            else:
                on_error = "disable" if form == "optional" else "raise"
                trainer.attach(ModelCheckpoint(tmp_path, to_save=to_save), on_error=on_error)
            trainer.run([1, 2])
            return [weakref.ref(trainer), weakref.ref(model)]

        assert [reference() for reference in train()] == [None, None]
        saved = torch.load(tmp_path / "checkpoint_2.pt", weights_only=True)
        assert saved["nested"][0]["trainer"]["iteration"] == 2

    def test_steps_of_the_trainer(self, tmp_path, names):
        """A best checkpoint of the evaluator with the trainer's steps keeps neither engine alive (H-004)."""

        def train():
            trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: 1.0)
            trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
            best = ModelCheckpoint(
                tmp_path,
                "best",
                score_function=lambda engine: engine.state.output,
                global_step_transform=global_step_from_engine(trainer),
            )
            evaluator.add_event_handler(Events.COMPLETED, best, {"model": nn.Linear(2, 1)})
            trainer.run([1, 2], max_epochs=1)
            return [weakref.ref(each) for each in (trainer, evaluator, best)]

        assert [reference() for reference in train()] == [None, None, None]
        assert names(tmp_path) == ["best_model_1_1.0000.pt"]

    def test_engine_that_no_longer_exists(self, trainer, tmp_path):
        """Saving an engine that no longer exists raises an error that names it (H-011)."""
        checkpoint = ModelCheckpoint(tmp_path, to_save={"other": Engine(lambda engine, batch: None)})
        trainer.attach(checkpoint)
        with pytest.raises(RuntimeError, match=r"to_save\['other'\] is an engine that no longer exists"):
            trainer.run([1])
        with pytest.raises(RuntimeError, match="the engine that provides the step no longer exists"):
            global_step_from_engine(Engine(lambda engine, batch: None))(trainer, Events.COMPLETED)

    def test_to_save(self, trainer, tmp_path):
        """to_save is a read-only view of the objects, and can be replaced (H-011)."""
        first, second = nn.Linear(2, 1), nn.Linear(2, 1)
        checkpoint = ModelCheckpoint(tmp_path, to_save={"model": first, "trainer": trainer})
        assert checkpoint.to_save["model"] is first
        assert checkpoint.to_save["trainer"] is trainer
        with pytest.raises(TypeError, match="does not support item assignment"):
            checkpoint.to_save["model"] = second
        checkpoint.to_save = {"model": second}
        assert dict(checkpoint.to_save) == {"model": second}
        with pytest.raises(TypeError, match="has no state_dict"):
            checkpoint.to_save = {"model": 3}
        assert dict(checkpoint.to_save) == {"model": second}
