"""Tests of failed saves with on_error="warn": the next save is tried, and the end of the run says what failed."""

import json
import subprocess
import sys
import warnings

import pytest
import torch
from small_disk import SmallDisk
from torch import nn

from glowplug import Engine, Events
from glowplug.exceptions import GlowplugWarning
from glowplug_model_checkpoint import Checkpoint, ModelCheckpoint

# Ten epochs with a save after each; during the third save, the disk is full. Prints what happened as JSON.
SCRIPT = """
import contextlib, json, os, resource, signal, sys, warnings
from pathlib import Path
import torch
from torch import nn
from glowplug import Engine, Events
from glowplug_model_checkpoint import ModelCheckpoint

folder, how, on_error = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


@contextlib.contextmanager
def full_disk():
    if how == "file size":
        former = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, former[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    else:
        ballast = folder / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1000))
        yield
        ballast.unlink()


class Model(nn.Linear):
    def state_dict(self, *arguments, **options):
        if trainer.state.epoch == 3:
            disk.enter_context(full_disk())
        return super().state_dict(*arguments, **options)


disk = contextlib.ExitStack()
trainer = Engine(lambda engine, batch: None)
to_save = {"model": Model(1000, 100), "trainer": trainer}
checkpoint = ModelCheckpoint(folder, n_saved=2, on_error=on_error, to_save=to_save)
saved = []
trainer.attach(checkpoint)
trainer.add_event_handler(checkpoint.SAVED_CHECKPOINT, lambda: saved.append(trainer.state.epoch))
trainer.add_event_handler(Events.EPOCH_STARTED, disk.close)
error = None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        trainer.run([1, 2], max_epochs=10)
    except OSError as raised:
        error = raised.errno
disk.close()
print(json.dumps({
    "saved": saved, "error": error, "messages": [str(each.message) for each in caught],
    "files": sorted(path.name for path in folder.iterdir()),
    "kept": [each.filename for each in checkpoint.saved],
}))
"""


def run(folder, how, on_error):
    """Run the script; in a small file system, if this is how the disk is full."""
    command = [sys.executable, "-c", SCRIPT, str(folder), how, on_error]
    if how == "small disk":
        command = [*SmallDisk(folder, "1500k").command, *command]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


PROBLEMS = {"file size": "File too large", "small disk": "No space left on device"}


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")
@pytest.mark.parametrize("how", PROBLEMS)
class TestFullDisk:
    def test_warn(self, tmp_path, how):
        """A full disk at save 3 of 10 costs that save alone, and the summary at the end names it (C2)."""
        if how == "small disk" and not SmallDisk.is_available(tmp_path):
            pytest.skip("this user may not mount a file system")
        found = run(tmp_path, how, "warn")
        assert found["saved"] == [1, 2, 4, 5, 6, 7, 8, 9, 10]
        assert found["files"] == found["kept"] == ["checkpoint_18.pt", "checkpoint_20.pt"]
        first, last = found["messages"]
        assert "could not save 'checkpoint_6.pt'" in first
        assert PROBLEMS[how] in first
        assert "the next save is attempted" in first
        assert "ModelCheckpoint: 1 of 10 saves failed: checkpoint_6.pt (OSError" in last
        assert "The last checkpoint is" in last
        assert last.endswith("checkpoint_20.pt")

    def test_raise(self, tmp_path, how):
        """By default, the run ends with the system's error, and the older checkpoints are there (C2)."""
        if how == "small disk" and not SmallDisk.is_available(tmp_path):
            pytest.skip("this user may not mount a file system")
        found = run(tmp_path, how, "raise")
        assert found["error"] is not None
        assert found["saved"] == [1, 2]
        assert found["kept"] == ["checkpoint_2.pt", "checkpoint_4.pt"]
        assert found["messages"] == []


class Faulty:
    """A save handler that fails at some saves and removals."""

    def __init__(self, failing=(), keeping=()):
        self.failing, self.keeping, self.files = failing, keeping, []

    def __call__(self, checkpoint, filename):
        if filename in self.failing:
            raise ConnectionError("no route to host")
        self.files.append(filename)

    def remove(self, filename):
        if filename in self.keeping:
            raise PermissionError(13, "Permission denied")
        self.files.remove(filename)


def train(store, epochs, *, evaluated=False, **options):
    """Save after each epoch, on the trainer or on an evaluator that it runs; return the handler and the messages."""
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    checkpoint = Checkpoint({"model": nn.Linear(2, 1)}, store, on_error="warn", **options)
    if evaluated:
        checkpoint.attach(evaluator, Events.COMPLETED)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    else:
        checkpoint.attach(trainer)
    messages = []
    for limit in epochs:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", GlowplugWarning)
            trainer.run([1], max_epochs=limit)
        messages.append([str(each.message) for each in caught])
    return checkpoint, messages


@pytest.mark.parametrize("evaluated", [False, True])
def test_summary_of_each_run(evaluated):
    """The summary comes once at the end of the trainer's run, also for a handler of an evaluator, and counts that run alone."""
    store = Faulty(failing={"model_2.pt", "model_3.pt"})
    _, (first, second) = train(store, [4, 6], evaluated=evaluated)
    assert ["could not save" in message for message in first] == [True, True, False]
    assert "2 of 4 saves failed: model_2.pt (ConnectionError: no route to host), model_3.pt" in first[2]
    assert second == []
    assert store.files == ["model_6.pt"]


def test_all_saves_fail():
    """If no save succeeds, the summary says that there is no checkpoint."""
    checkpoint, ([*_, last],) = train(Faulty(failing={f"model_{step}.pt" for step in range(1, 9)}), [8])
    assert "8 of 8 saves failed" in last
    assert "The last checkpoint is None" in last
    assert last.count("model_") == 5
    assert checkpoint.saved == ()


def test_removal_that_fails():
    """A removal that fails is reported, is no failed save, and is tried again at the next save."""
    store = Faulty(keeping={"model_1.pt"})
    checkpoint, (messages,) = train(store, [3])
    assert len(messages) == 2
    assert all("could not remove older checkpoints (PermissionError" in message for message in messages)
    assert store.files == ["model_1.pt", "model_2.pt", "model_3.pt"]
    assert [each.filename for each in checkpoint.saved] == store.files


def test_unloadable_state(tmp_path):
    """A state that weights_only loading refuses costs one save, too (C2)."""

    class Stateful:
        def state_dict(self):
            return {"path": tmp_path} if trainer.state.epoch == 2 else {}

    trainer = Engine(lambda engine, batch: None)
    checkpoint = ModelCheckpoint(tmp_path, n_saved=None, on_error="warn", to_save={"it": Stateful()})
    trainer.attach(checkpoint)
    with pytest.warns(GlowplugWarning, match="refuses: pathlib"):
        trainer.run([1], max_epochs=3)
    assert [each.epoch for each in checkpoint.saved] == [1, 3]
    assert torch.load(checkpoint.last_checkpoint, weights_only=True) == {}


def test_programming_errors_raise(fake):
    """A score that is no number is the user's mistake and raises even with on_error="warn"."""
    checkpoint = Checkpoint(
        {"model": nn.Linear(2, 1)}, Faulty(), score_function=lambda engine: "high", on_error="warn"
    )
    with pytest.raises(ValueError, match="the score of a checkpoint must be a number"):
        checkpoint(fake)
