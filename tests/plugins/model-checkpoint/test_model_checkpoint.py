"""ModelCheckpoint: where its objects come from, and how a script resumes from its folder."""

import os

import pytest
import torch
from torch import nn

from glowplug import Engine, Events
from glowplug.exceptions import GlowplugWarning
from glowplug_model_checkpoint import ModelCheckpoint


@pytest.fixture
def trainer():
    """A real engine with nothing to do."""
    return Engine(lambda engine, batch: None)


def test_H_050_attach_with_objects_of_the_constructor(trainer, tmp_path, model, names):
    """engine.attach(ModelCheckpoint(...)) saves after each epoch."""
    checkpoint = ModelCheckpoint(tmp_path, "best", n_saved=2, to_save={"model": model})
    handle = trainer.attach(checkpoint)
    trainer.run([1, 2], max_epochs=3)
    assert names(tmp_path) == ["best_model_4.pt", "best_model_6.pt"]
    handle.remove()
    trainer.run([1, 2], max_epochs=5)
    assert names(tmp_path) == ["best_model_4.pt", "best_model_6.pt"]


def test_H_050_attach_with_objects_of_its_own(trainer, tmp_path, model, names):
    """Attach takes the event and the objects, and refuses to go without."""
    checkpoint = ModelCheckpoint(tmp_path)
    with pytest.raises(ValueError, match="nothing to save"):
        checkpoint.attach(trainer)
    with pytest.raises(ValueError, match="nothing to save"):
        trainer.attach(checkpoint)
    checkpoint.attach(trainer, Events.ITERATION_COMPLETED(every=2), {"model": model})
    trainer.run([1, 2, 3, 4, 5])
    assert names(tmp_path) == ["model_4.pt"]


@pytest.mark.parametrize("by_keyword", [False, True])
def test_H_051_objects_at_add_event_handler(trainer, tmp_path, model, names, by_keyword):
    """The ignite way; without objects the registration is a ValueError, with an empty dict the call a RuntimeError."""
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


def test_H_052_one_instance_serves_different_objects(fake, tmp_path, model, names):
    """The objects of each call replace those of the one before."""
    checkpoint = ModelCheckpoint(tmp_path, n_saved=2)
    checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=1), {"a": model})
    checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=2), {"b": model})
    assert names(tmp_path) == ["a_1.pt", "b_2.pt"]


@pytest.mark.parametrize("at", ["constructor", "attach", "add_event_handler", "both events"])
def test_H_034_H_053_on_exceptions(tmp_path, model, names, at):
    """On EXCEPTION_RAISED it saves, wherever the objects come from, and the exception goes on."""

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
    else:
        events = Events.EPOCH_COMPLETED | Events.EXCEPTION_RAISED
        ModelCheckpoint(tmp_path, to_save={"model": model}).attach(trainer, events)
    with pytest.raises(ZeroDivisionError, match="boom"):
        trainer.run([1, 2], max_epochs=3)
    assert names(tmp_path) == ["model_3.pt"]


def test_H_053_objects_by_keyword_on_exceptions(tmp_path, model):
    """Where no engine comes with keyword objects, the error says how to give them."""

    def step(engine, batch):
        raise ZeroDivisionError("boom")

    trainer = Engine(step)
    trainer.add_event_handler(Events.EXCEPTION_RAISED, ModelCheckpoint(tmp_path), to_save={"model": model})
    with pytest.raises(TypeError, match="as a plain argument"):
        trainer.run([1])


def test_H_054_names_as_checkpoint(fake, tmp_path, model, names):
    """A score without a name is the last part, behind the prefix."""
    checkpoint = ModelCheckpoint(tmp_path, "best", score_function=lambda engine: 0.5)
    checkpoint(fake, {"model": model})
    assert names(tmp_path) == ["best_model_0.5000.pt"]


def test_further_arguments_go_to_torch_save(fake, tmp_path, model):
    """Unknown keywords are those of torch.save."""
    ModelCheckpoint(tmp_path, _use_new_zipfile_serialization=False)(fake, {"model": model})
    assert not (tmp_path / "model_6.pt").read_bytes().startswith(b"PK")


def touch_in_order(*paths):
    """Give files modification times in this order."""
    for second, path in enumerate(paths, 1_000_000_000):
        os.utime(path, (second, second))


def test_latest_is_the_newest_that_loads(fake, tmp_path):
    """Damaged files are passed over with a warning, temporaries and other files are not looked at."""
    paths = [tmp_path / name for name in ("b_model_1.pt", "a_model_2.pt", "a_model_1.pt")]
    for path in paths:
        torch.save({"weight": 1}, path)
    torn = tmp_path / "a_model_3.pt"
    torn.write_bytes(paths[0].read_bytes()[:200])
    (tmp_path / ".glowplug-0123456789abcdef.tmp").write_bytes(b"half")
    (tmp_path / "dir.pt").mkdir()
    touch_in_order(*paths, torn)
    with pytest.warns(GlowplugWarning, match=r"skipping the checkpoint '.*a_model_3\.pt'"):
        assert ModelCheckpoint.latest(tmp_path) == tmp_path / "a_model_1.pt"
    assert ModelCheckpoint.latest(str(tmp_path), "b") == tmp_path / "b_model_1.pt"
    assert ModelCheckpoint.latest(tmp_path, "c") is None
    assert ModelCheckpoint.latest(tmp_path / "missing") is None


def script(folder, max_epochs, *, fails_at=None):
    """Train, resuming from what the folder holds, as a user's script does; return model and trainer."""
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


def test_a_script_resumes_where_it_stopped(tmp_path, names):
    """After a crash the weights are those of an uninterrupted run, and the earlier run's files are adopted."""
    expected, *_ = script(tmp_path / "whole", max_epochs=5)
    with pytest.raises(RuntimeError, match="out of memory"):
        script(tmp_path / "run", max_epochs=5, fails_at=7)
    assert names(tmp_path / "run") == ["checkpoint_4.pt", "checkpoint_6.pt"]
    model, trainer, checkpoint = script(tmp_path / "run", max_epochs=5)
    assert trainer.state.iteration == 10
    assert torch.equal(model.weight, expected.weight)
    assert names(tmp_path / "run") == ["checkpoint_10.pt", "checkpoint_8.pt"]
    assert checkpoint.last_checkpoint == tmp_path / "run" / "checkpoint_10.pt"


def test_state_that_is_loaded_before_attach_is_adopted_too(trainer, tmp_path, model, names):
    """The engine keeps the state of a handler that is attached later."""
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


def test_a_run_that_ends_by_itself_saves_each_epoch(trainer, tmp_path, model):
    """terminate() in an earlier handler of the same event does not keep it from saving."""
    checkpoint = ModelCheckpoint(tmp_path, to_save={"model": model})
    trainer.attach(checkpoint)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.terminate())
    trainer.run([1, 2], max_epochs=3)
    assert checkpoint.last_checkpoint == tmp_path / "model_2.pt"
