"""Tests of finding checkpoints: latest, best, restore, resume."""

import os
import shutil
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from glowplug import Engine, Events
from glowplug.exceptions import GlowplugWarning, PluginNotFoundError
from glowplug_model_checkpoint import Checkpoint, DiskSaver, KeepBest, KeepLast, ModelCheckpoint

COUNT = round(float(os.environ.get("GLOWPLUG_CAMPAIGN", "0")) * 10_000) or 1000


def saved(folder, steps, prefix="", scores=None, **options):
    """Save a checkpoint for each step, in this order; the weight is the step."""
    model, trainer = nn.Linear(1, 1, bias=False), Engine(lambda engine, batch: None)
    if scores is not None:
        options["score_function"] = lambda engine: scores[engine.state.iteration]
        options["score_name"] = "accuracy"
    checkpoint = ModelCheckpoint(
        folder,
        prefix,
        n_saved=None,
        require_empty=False,
        to_save={"model": model, "trainer": trainer},
        **options,
    )
    for step in steps:
        nn.init.constant_(model.weight, float(step))
        trainer.state.iteration, trainer.state.epoch = step, step
        checkpoint(trainer)
    return checkpoint


def flip(path, position=None):
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= 8
    path.write_bytes(content)


class TestLatest:
    def test_step_decides(self, tmp_path):
        """The highest step is the latest, whatever the times of the files are, also after a copy."""
        saved(tmp_path / "run", [3, 10, 9])
        shutil.copytree(tmp_path / "run", tmp_path / "copy", copy_function=shutil.copyfile)
        os.utime(tmp_path / "copy" / "checkpoint_3.pt", (2e9, 2e9))
        for folder in (tmp_path / "run", tmp_path / "copy"):
            assert ModelCheckpoint.latest(folder) == folder / "checkpoint_10.pt"
            assert ModelCheckpoint.latest(str(folder)) == folder / "checkpoint_10.pt"

    def test_other_files_are_no_candidates(self, tmp_path, model):
        """Exported models, other prefixes, temporary files, folders and other types are not considered."""
        saved(tmp_path, [1, 2])
        saved(tmp_path, [50], "best")
        torch.save(model.state_dict(), tmp_path / "final.pt")
        torch.save(model.state_dict(), tmp_path / "export_99.pt")
        (tmp_path / ".glowplug-0123456789abcdef.tmp").write_bytes(b"half")
        (tmp_path / "notes_77.txt").write_text("notes")
        (tmp_path / "dir_88.pt").mkdir()
        assert ModelCheckpoint.latest(tmp_path) == tmp_path / "checkpoint_2.pt"
        assert ModelCheckpoint.latest(tmp_path, "best") == tmp_path / "best_checkpoint_50.pt"
        assert ModelCheckpoint.latest(tmp_path, filename_prefix="best").name == "best_checkpoint_50.pt"

    def test_wrong_prefix_is_reported(self, tmp_path):
        """Without a checkpoint of the prefix the result is None, and a warning names the prefixes that exist."""
        saved(tmp_path, [1], "best")
        with pytest.warns(GlowplugWarning, match=r"no checkpoint with filename_prefix='', .* with 'best'"):
            assert ModelCheckpoint.latest(tmp_path) is None

    def test_nothing_there(self, tmp_path):
        """A missing or empty folder gives None."""
        assert ModelCheckpoint.latest(tmp_path) is None
        assert ModelCheckpoint.latest(tmp_path / "missing") is None
        assert ModelCheckpoint.best(tmp_path) is None

    def test_damaged_is_skipped(self, tmp_path):
        """A damaged checkpoint is skipped with one warning that names it and the reason (C3)."""
        saved(tmp_path, [1, 2, 3])
        flip(tmp_path / "checkpoint_3.pt")
        with pytest.warns(
            GlowplugWarning, match=r"skipped .*checkpoint_3\.pt'.* digest does not match"
        ) as warned:
            assert ModelCheckpoint.latest(tmp_path) == tmp_path / "checkpoint_2.pt"
        assert len(warned) == 1
        for name in ("checkpoint_2.pt", "checkpoint_3.pt"):
            (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:200])
        with pytest.warns(GlowplugWarning, match="incomplete or damaged") as warned:
            assert ModelCheckpoint.latest(tmp_path) == tmp_path / "checkpoint_1.pt"
        assert sorted(str(each.message)[24:].count("checkpoint_2.pt") for each in warned) == [0, 1]
        assert len(warned) == 2

    def test_what_cannot_be_listed_raises(self, tmp_path, monkeypatch):
        """An address without a plugin, a function and a listing that fails raise; the result is never None."""
        with pytest.raises(PluginNotFoundError, match="acme://"):
            ModelCheckpoint.latest("acme://bucket/run")
        with pytest.raises(TypeError, match="a location of checkpoints is"):
            ModelCheckpoint.latest(print)
        with pytest.raises(TypeError, match="cannot list checkpoints"):
            Checkpoint({"model": nn.Linear(1, 1)}, print).restore()

        def refused(self):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(DiskSaver, "list", refused)
        with pytest.raises(PermissionError):
            ModelCheckpoint.latest(tmp_path)


class TestBest:
    def test_score_decides(self, tmp_path):
        """The best score in the manifests decides; of equal scores, the earlier step."""
        saved(tmp_path, [1, 2, 3, 4], scores={1: 0.1, 2: 0.9, 3: 0.9, 4: 0.3})
        assert ModelCheckpoint.best(tmp_path).name == "checkpoint_2_accuracy=0.9000.pt"
        flip(ModelCheckpoint.best(tmp_path))
        with pytest.warns(GlowplugWarning, match="skipped"):
            assert ModelCheckpoint.best(tmp_path).name == "checkpoint_3_accuracy=0.9000.pt"

    def test_lower_is_better(self, tmp_path, model, fake):
        """With mode="min" the lowest score is the best; with several scores, ``by`` chooses one."""
        keep = KeepBest(None, by="loss", mode="min") | KeepBest(None, by="accuracy")
        checkpoint = ModelCheckpoint(tmp_path, keep=keep, to_save={"model": model})
        for step, loss, accuracy in ((1, 0.5, 0.1), (2, 0.2, 0.2), (3, 0.4, 0.3)):
            checkpoint(
                fake.fire(
                    Events.EPOCH_COMPLETED, iteration=step, metrics={"loss": loss, "accuracy": accuracy}
                )
            )
        assert "step=2" in ModelCheckpoint.best(tmp_path, by="loss").name
        assert "step=3" in ModelCheckpoint.best(tmp_path, by="accuracy").name
        with pytest.raises(ValueError, match="several scores: accuracy, loss; choose one with by="):
            ModelCheckpoint.best(tmp_path)
        with pytest.raises(ValueError, match="no checkpoint has the score 'f1'"):
            ModelCheckpoint.best(tmp_path, by="f1")
        assert "step=2" in checkpoint.best_checkpoint.name

    def test_without_scores(self, tmp_path):
        """Checkpoints without scores have no best one, and a save handler without metadata cannot tell."""
        saved(tmp_path, [1])
        assert ModelCheckpoint.best(tmp_path) is None

        class Store:
            save = load = remove = locate = lambda self, *arguments: None

            def list(self):
                return ["model_1.pt"]

        with pytest.raises(TypeError, match="does not store the scores"):
            ModelCheckpoint.best(Store())


class TestRestore:
    def test_latest_and_best(self, tmp_path):
        """restore() loads the latest or best checkpoint of the handler's prefix and returns its location."""
        checkpoint = saved(tmp_path, [1, 2, 3], scores={1: 0.1, 2: 0.9, 3: 0.3})
        saved(tmp_path, [7], "other")
        fresh = nn.Linear(1, 1, bias=False)
        assert checkpoint.restore({"model": fresh}, "best").name == "checkpoint_2_accuracy=0.9000.pt"
        assert fresh.weight.item() == 2
        checkpoint.restore({"model": fresh}, "latest")
        assert fresh.weight.item() == 3
        flip(tmp_path / "checkpoint_3_accuracy=0.3000.pt")
        with pytest.warns(GlowplugWarning, match="skipped"):
            checkpoint.restore({"model": fresh})
        assert fresh.weight.item() == 2
        with pytest.raises(ValueError, match="which must be 'latest' or 'best'; got 'newest'"):
            checkpoint.restore({"model": fresh}, "newest")
        with pytest.raises(ValueError, match=r"checkpoint\['net'\] is missing; found \['model', 'trainer'\]"):
            checkpoint.restore({"net": fresh}, "best")

    def test_nothing_to_restore(self, tmp_path, model):
        """restore() raises if there is no checkpoint."""
        with pytest.raises(FileNotFoundError, match="found no latest checkpoint with filename_prefix=''"):
            ModelCheckpoint(tmp_path, to_save={"model": model}).restore()


def resumed(folder, epochs, how="engine"):
    """Run the same script each time: continue if there is a checkpoint."""
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(engine, batch):
        optimizer.zero_grad()
        (model(batch) ** 2).sum().backward()
        optimizer.step()

    trainer = Engine(step)
    to_save = {"model": model, "optimizer": optimizer, "trainer": trainer}
    if how == "objects of attach":
        checkpoint = ModelCheckpoint(folder, n_saved=2, resume="auto")
        checkpoint.attach(trainer, Events.EPOCH_COMPLETED, to_save)
    elif how == "Checkpoint":
        checkpoint = Checkpoint(to_save, folder, n_saved=2, resume="auto")
        trainer.attach(checkpoint)
    else:
        checkpoint = ModelCheckpoint(folder, n_saved=2, resume="auto", to_save=to_save)
        trainer.attach(checkpoint)
    trainer.run([torch.ones(1, 2), torch.full((1, 2), 2.0)], max_epochs=epochs)
    return model, checkpoint


class TestResume:
    @pytest.mark.parametrize("how", ["engine", "objects of attach", "Checkpoint"])
    def test_auto(self, tmp_path, names, how):
        """resume="auto" starts without a checkpoint and continues with one, exactly as the run without interruption."""
        expected, whole = resumed(tmp_path / "whole", 5)
        assert whole.resumed_from is None
        for epochs, since in ((2, None), (3, "checkpoint_4.pt"), (5, "checkpoint_6.pt")):
            model, checkpoint = resumed(tmp_path / "run", epochs, how)
            assert (checkpoint.resumed_from and checkpoint.resumed_from.name) == since
        assert torch.equal(model.weight, expected.weight)
        assert names(tmp_path / "run") == names(tmp_path / "whole") == ["checkpoint_10.pt", "checkpoint_8.pt"]

    def test_past_a_damaged_file(self, tmp_path, names):
        """A damaged latest checkpoint is skipped and saved again; the run ends with the same weights (C3)."""
        expected, _ = resumed(tmp_path / "whole", 5)
        resumed(tmp_path / "run", 3)
        flip(tmp_path / "run" / "checkpoint_6.pt")
        with pytest.warns(GlowplugWarning, match=r"checkpoint_6\.pt"):
            model, checkpoint = resumed(tmp_path / "run", 5)
        assert checkpoint.resumed_from.name == "checkpoint_4.pt"
        assert torch.equal(model.weight, expected.weight)
        assert names(tmp_path / "run") == ["checkpoint_10.pt", "checkpoint_8.pt"]

    def test_needs_attach(self, tmp_path, model):
        """A handler that should resume but was only added raises before it saves, and says what to call."""
        trainer = Engine(lambda engine, batch: None)
        checkpoint = ModelCheckpoint(tmp_path, resume="auto", to_save={"model": model})
        trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
        with pytest.raises(RuntimeError, match="so it has not resumed; call its method attach"):
            trainer.run([1])
        with pytest.raises(ValueError, match="resume must be 'auto' or None; got True"):
            ModelCheckpoint(tmp_path, resume=True)


# Saves as fast as it can, and keeps one checkpoint.
WRITER = """
import sys, torch
from torch import nn
from glowplug import Engine, Events
from glowplug_model_checkpoint import KeepBest, KeepLast, ModelCheckpoint

model = nn.Linear(64, 64)
trainer = Engine(lambda engine, batch: None)
keep = KeepLast(1) | KeepBest(1, by=lambda engine: engine.state.iteration)
checkpoint = ModelCheckpoint(sys.argv[1], keep=keep, to_save={"model": model, "trainer": trainer})
checkpoint.attach(trainer, Events.ITERATION_COMPLETED)
trainer.run(max_epochs=1, epoch_length=10_000_000)
"""


def test_beside_a_running_trainer(tmp_path):
    """latest() and best() beside a process that saves and removes all the time never fail and never return None."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
    try:
        deadline = time.monotonic() + 60
        while ModelCheckpoint.latest(tmp_path) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        names, last, number = set(), 0, 0
        # On a busy machine, the writer may be slower than this loop.
        while number < COUNT or (len(names) <= COUNT / 20 and time.monotonic() < deadline):
            number += 1
            find = ModelCheckpoint.best if number % 4 == 0 else ModelCheckpoint.latest
            found = find(tmp_path)
            assert found is not None, number
            names.add(found.name)
            step = int(found.name.partition("step=")[2].partition("_")[0])
            assert step >= last
            last = step
        assert writer.poll() is None
        print(f"{number} calls, {len(names)} different checkpoints")
        assert len(names) > COUNT / 20
    finally:
        writer.kill()
        writer.wait()


def test_policies_are_exported():
    """The policies are public names of the package."""
    assert repr(KeepLast(2) | KeepBest(1, by="f1")).startswith(
        "KeepLast(n=2, prefer_latest=False) | KeepBest(n=1"
    )
