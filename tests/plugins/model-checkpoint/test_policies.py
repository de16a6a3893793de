"""Tests of policies: which checkpoints are kept, when they are saved, and what a loaded state may do."""

import itertools
import time

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from glowplug import Engine, Events
from glowplug.exceptions import GlowplugWarning
from glowplug_model_checkpoint import Checkpoint, Every, KeepBest, KeepEvery, KeepLast, ModelCheckpoint, Saved


def run(folder, keep, scores, *, model=None, **options):
    """Save after each epoch of two iterations; return the handler."""
    trainer = Engine(lambda engine, batch: None)

    @trainer.on(Events.EPOCH_COMPLETED)
    def score(engine):
        engine.state.metrics["accuracy"] = scores[engine.state.epoch - 1]

    to_save = {"model": model or nn.Linear(2, 1), "trainer": trainer}
    checkpoint = ModelCheckpoint(folder, keep=keep, to_save=to_save, **options)
    trainer.attach(checkpoint)
    trainer.run([1, 2], max_epochs=len(scores))
    return checkpoint


def epochs(checkpoint):
    """Return the epochs of the kept checkpoints."""
    return [each.epoch for each in checkpoint.saved]


SCORES = [0.1, 0.9, 0.3, 0.5, 0.2, 0.4]


class TestKept:
    @pytest.mark.parametrize(
        ("keep", "kept"),
        [
            (KeepLast(2), [5, 6]),
            (KeepBest(2, by="accuracy"), [2, 4]),
            (KeepBest(2, by="accuracy", mode="min"), [1, 5]),
            (KeepBest(1, by="accuracy") | KeepLast(1), [2, 6]),
            (KeepLast(1) | KeepEvery(epochs=2), [2, 4, 6]),
            (KeepLast(1) | KeepEvery(steps=5), [3, 5, 6]),
            (KeepBest(1, by="accuracy") | KeepLast(1) | KeepEvery(epochs=4), [2, 4, 6]),
            (KeepLast(None), [1, 2, 3, 4, 5, 6]),
        ],
    )
    def test_policies(self, tmp_path, names, keep, kept):
        """Each policy keeps the checkpoints that it names, and ``|`` keeps those of all; other files are removed."""
        checkpoint = run(tmp_path, keep, SCORES)
        assert epochs(checkpoint) == kept
        assert len(names(tmp_path)) == len(kept)

    def test_checkpoint_that_is_saved_again(self, tmp_path, names, fake, model):
        """A second save at the same step replaces the first one, and no older checkpoint (C2)."""
        checkpoint = ModelCheckpoint(tmp_path, n_saved=2, to_save={"model": model})
        for fake.state.iteration in (1, 2, 2):
            checkpoint(fake)
        assert names(tmp_path) == ["model_1.pt", "model_2.pt"]
        assert [each.iteration for each in checkpoint.saved] == [1, 2]

    def test_best_and_last_of_one_handler(self, tmp_path):
        """One handler keeps best and last; the names carry epoch, step and score."""
        checkpoint = run(tmp_path, KeepBest(1, by="accuracy") | KeepLast(1), SCORES)
        assert checkpoint.best_checkpoint.name == "checkpoint_epoch=2_step=4_accuracy=0.9000.pt"
        assert checkpoint.last_checkpoint.name == "checkpoint_epoch=6_step=12_accuracy=0.4000.pt"
        assert ModelCheckpoint.best(tmp_path) == checkpoint.best_checkpoint
        assert ModelCheckpoint.latest(tmp_path) == checkpoint.last_checkpoint

    def test_score_of_ignite_brings_the_epoch(self, tmp_path, names):
        """With ignite's arguments, the name of a best file carries the epoch."""
        trainer, model = Engine(lambda engine, batch: None), nn.Linear(2, 1)
        evaluator = Engine(lambda engine, batch: None)
        evaluator.add_event_handler(
            Events.EPOCH_COMPLETED,
            lambda engine: engine.state.metrics.update(accuracy=SCORES[trainer.state.epoch - 1]),
        )
        best = ModelCheckpoint(tmp_path, "best", score_name="accuracy", to_save={"model": model})
        best.attach(evaluator, Events.COMPLETED)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
        trainer.run([1, 2], max_epochs=6)
        assert names(tmp_path) == ["best_model_2_accuracy=0.9000.pt"]

    @given(st.lists(st.floats(-9, 9), max_size=30), st.integers(1, 3), st.sampled_from(["max", "min"]))
    def test_best_of_any_scores(self, scores, n, mode):
        """Saving one after the other keeps the same as choosing from all at the end."""
        policy = KeepBest(n, by="x", mode=mode)
        every = [Saved(f"{i}.pt", i, scores={"x": score}) for i, score in enumerate(scores)]
        kept = []
        for each in every:
            kept = policy.kept([*kept, each])
        sign = 1 if mode == "max" else -1
        assert list(kept) == sorted(
            sorted(every, key=lambda each: -sign * each.scores["x"])[:n], key=lambda each: each.step
        )

    def test_policies_are_values(self):
        """Policies compare by value, cannot be changed, and print as they are written."""
        keep = KeepBest(2, by="loss", mode="min") | KeepLast(1)
        assert keep == KeepBest(2, by="loss", mode="min") | KeepLast(1)
        assert keep != KeepLast(1)
        with pytest.raises(AttributeError):
            KeepLast(1).n = 3
        with pytest.raises(TypeError):
            KeepLast(1) | 3

    def test_arguments(self, tmp_path):
        """Wrong policies are refused at construction, with what to pass."""
        for wrong, error in (
            (lambda: KeepLast(0), "must be at least 1"),
            (lambda: KeepBest(1, by="x", mode="up"), "mode must be 'max' or 'min'; got 'up'"),
            (lambda: KeepBest(1, by=3), "by must be the name of a metric"),
            (lambda: KeepBest(1, by="../x"), "must not be '.'"),
            (lambda: KeepEvery(), "either epochs= or steps="),
            (lambda: KeepEvery(epochs=1, steps=1), "either epochs= or steps="),
            (lambda: ModelCheckpoint(tmp_path, keep=3), "keep must be a policy"),
            (lambda: ModelCheckpoint(tmp_path, keep=KeepLast(1), n_saved=2), "keep= replaces n_saved"),
            (lambda: ModelCheckpoint(tmp_path, keep=KeepLast(1), score_name="x"), "keep= replaces n_saved"),
            (lambda: Every(), "positive interval"),
            (lambda: ModelCheckpoint(tmp_path, on_error="ignore"), "on_error must be 'raise' or 'warn'"),
        ):
            with pytest.raises((ValueError, TypeError), match=error):
                wrong()


class TestFinite:
    def weights_per_epoch(self, folder, bad_from, **options):
        """Save a model whose weights turn NaN at an epoch; return the handler."""
        model = nn.Linear(2, 1)
        trainer = Engine(lambda engine, batch: None)

        @trainer.on(Events.EPOCH_COMPLETED)
        def diverge(engine):
            if engine.state.epoch >= bad_from:
                nn.init.constant_(model.weight, float("nan"))

        checkpoint = ModelCheckpoint(folder, to_save={"model": model, "trainer": trainer}, **options)
        trainer.attach(checkpoint)
        trainer.run([1], max_epochs=8)
        return checkpoint

    @pytest.mark.parametrize("n_saved", [1, 2, 3])
    def test_last_finite_stays(self, tmp_path, n_saved):
        """If the weights turn NaN, the last checkpoint with finite weights is never removed (C2)."""
        with pytest.warns(GlowplugWarning, match="NaN or infinity, first in epoch 4") as warned:
            checkpoint = self.weights_per_epoch(tmp_path, 4, n_saved=n_saved)
        assert len(warned) == 1
        assert epochs(checkpoint) == [3, *range(9 - n_saved, 9)]
        content = torch.load(tmp_path / "checkpoint_3.pt", weights_only=True)
        assert bool(content["model"]["weight"].isfinite().all())

    def test_restore_says_so(self, tmp_path, model):
        """Restoring weights that are not finite is reported with what to do."""
        with pytest.warns(GlowplugWarning, match="NaN or infinity, first"):
            self.weights_per_epoch(tmp_path, 4)
        resumed = ModelCheckpoint(tmp_path, require_empty=False, to_save={"model": model})
        with pytest.warns(
            GlowplugWarning,
            match=r"weights in checkpoint .*checkpoint_8\.pt' contain NaN .* remove this file",
        ):
            resumed.restore()
        (tmp_path / "checkpoint_8.pt").unlink()
        assert resumed.restore().name == "checkpoint_3.pt"
        assert bool(model.weight.isfinite().all())

    def test_option(self, tmp_path):
        """Without check_finite the weights are not scanned, and the policy alone decides."""
        checkpoint = self.weights_per_epoch(tmp_path, 4, check_finite=False)
        assert epochs(checkpoint) == [8]
        assert checkpoint.saved[0].is_finite is None

    def test_finite_again(self, tmp_path):
        """A newer finite checkpoint replaces the one that was kept for being finite."""
        model = nn.Linear(2, 1)
        trainer = Engine(lambda engine, batch: None)
        values = [1.0, float("inf"), float("nan"), 2.0]
        trainer.add_event_handler(
            Events.EPOCH_COMPLETED,
            lambda engine: nn.init.constant_(model.bias, values[engine.state.epoch - 1]),
        )
        checkpoint = ModelCheckpoint(tmp_path, to_save={"model": model})
        trainer.attach(checkpoint)
        with pytest.warns(GlowplugWarning, match="NaN or infinity"):
            trainer.run([1], max_epochs=3)
        assert epochs(checkpoint) == [1, 3]
        trainer.run([1], max_epochs=4)
        assert epochs(checkpoint) == [4]

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_scores_never_rank(self, tmp_path, bad):
        """A score that is not finite never ranks; the checkpoint is kept for other reasons only (C2)."""
        with pytest.warns(GlowplugWarning, match="does not rank a checkpoint because its score is"):
            checkpoint = run(tmp_path, KeepBest(1, by="accuracy") | KeepLast(1), [0.5, bad, bad])
        assert epochs(checkpoint) == [1, 3]
        assert checkpoint.last_checkpoint.name == "checkpoint_6.pt"
        assert ModelCheckpoint.best(tmp_path) == checkpoint.best_checkpoint


def training(folder, scores, where):
    """Return a trainer, an evaluator, and the handlers of the README: latest on the trainer, best somewhere."""
    model = nn.Linear(2, 1)
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)

    @evaluator.on(Events.EPOCH_COMPLETED)
    def score(engine):
        engine.state.metrics["accuracy"] = trainer.state.metrics["accuracy"] = scores[trainer.state.epoch - 1]

    to_save = {"model": model, "trainer": trainer}
    best = ModelCheckpoint(
        folder, "best", score_name="accuracy", require_empty=False, to_save={"model": model}
    )
    latest = ModelCheckpoint(folder, resume="auto", to_save=to_save)
    if where == "trainer":
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
        best.attach(trainer)
        latest.attach(trainer)
    elif where == "evaluator":
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
        best.attach(evaluator, Events.COMPLETED)
        latest.attach(trainer)
    else:
        # The evaluator runs after the checkpoint, whose state has no record of this evaluation.
        best.attach(evaluator, Events.COMPLETED)
        latest.attach(trainer)
        trainer.add_event_handler(latest.SAVED_CHECKPOINT, lambda: evaluator.run([1]))
    return trainer, latest, best


class TestRecord:
    @pytest.mark.parametrize("where", ["trainer", "evaluator", "evaluator after the save"])
    @pytest.mark.parametrize("ended", [1, 2, 3, 4])
    def test_best_survives_resume(self, tmp_path, names, where, ended):
        """Wherever the handler is attached, the best before a resume is still the best after it."""
        scores = [0.2, 0.9, 0.4, 0.5, 0.3]
        trainer, _, best = training(tmp_path, scores, where)
        trainer.run([1, 2], max_epochs=ended)
        trainer, latest, best = training(tmp_path, scores, where)
        assert latest.resumed_from is not None
        trainer.run([1, 2], max_epochs=5)
        assert best.best_checkpoint.name == "best_model_2_accuracy=0.9000.pt"
        assert names(tmp_path) == ["best_model_2_accuracy=0.9000.pt", "checkpoint_10.pt"]

    def test_belongs_to_the_trainer(self, tmp_path):
        """The trainer's state has the record of the best, although the handler is attached to the evaluator."""
        trainer, _, best = training(tmp_path, [0.2, 0.9, 0.4], "evaluator")
        trainer.run([1, 2], max_epochs=3)
        content = torch.load(ModelCheckpoint.latest(tmp_path), weights_only=True)
        state = content["trainer"]["handlers"]["ModelCheckpoint:best"]
        assert [each["scores"] for each in state["saved"]] == [{"accuracy": 0.9}]
        assert state == best.state_dict()

    def test_evaluator_alone(self, tmp_path, names):
        """If the script runs the evaluator beside the trainer, restore() brings the record back."""
        scores = iter([0.9, 0.4])

        def process():
            evaluator, model = Engine(lambda engine, batch: None), nn.Linear(2, 1)
            best = ModelCheckpoint(
                tmp_path,
                "best",
                score_function=lambda engine: next(scores),
                resume="auto",
                to_save={"model": model},
            )
            best.attach(evaluator, Events.COMPLETED)
            evaluator.run([1])

        process()
        process()
        assert names(tmp_path) == ["best_model_1_0.9000.pt"]

    def test_new_run_in_an_old_folder(self, tmp_path):
        """A new run does not adopt the files of an earlier one, so a lower score is saved."""
        for score in (0.9, 0.4):
            trainer, model = Engine(lambda engine, batch: None), nn.Linear(2, 1)
            best = ModelCheckpoint(
                tmp_path,
                score_function=lambda engine, score=score: score,
                require_empty=False,
                to_save={"model": model},
            )
            trainer.attach(best)
            trainer.run([1])
        assert [each.scores for each in best.saved] == [{"score": 0.4}]


class TestTampering:
    def test_foreign_files_are_not_removed(self, tmp_path, model):
        """A state that was tampered with cannot make the handler remove a file that it did not write (S2)."""
        other = ModelCheckpoint(tmp_path, "other", n_saved=None, to_save={"model": model})
        same_prefix = ModelCheckpoint(
            tmp_path,
            n_saved=None,
            score_function=lambda engine: 1.0,
            score_name="f1",
            to_save={"model": model},
        )
        trainer = Engine(lambda engine, batch: None)
        other.attach(trainer)
        same_prefix.attach(trainer)
        trainer.run([1])
        torch.save(model.state_dict(), tmp_path / "final.pt")
        torch.save(model.state_dict(), tmp_path / "model_0.pt")
        (tmp_path / "notes.txt").write_text("precious")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert len(before) == 5
        for entry in (
            lambda name: {"filename": name, "step": 0, "iteration": 0, "epoch": 0, "scores": {}},
            lambda name: (0, name),
        ):
            victim = ModelCheckpoint(tmp_path, require_empty=False, to_save={"model": model})
            key = "saved" if isinstance(entry("x"), dict) else "_saved"
            with pytest.warns(GlowplugWarning, match="lists files that it did not write, which are ignored"):
                victim.load_state_dict({key: [entry(name) for name in before]})
            trainer = Engine(lambda engine, batch: None)
            trainer.attach(victim)
            trainer.run([1, 2, 3], max_epochs=3)
            after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
            assert {name: after.get(name) for name in before} == before
            victim.save_handler.remove("model_9.pt")

    def test_own_files_are_removed(self, tmp_path, model, names, fake):
        """The files of an earlier process with the same handler are removed as usual."""
        first = ModelCheckpoint(tmp_path, to_save={"model": model})
        first(fake)
        second = ModelCheckpoint(tmp_path, require_empty=False, to_save={"model": model})
        second.load_state_dict(first.state_dict())
        second(fake.fire(Events.EPOCH_COMPLETED, iteration=7))
        assert names(tmp_path) == ["model_7.pt"]

    def test_file_that_was_replaced(self, tmp_path, model, names, fake):
        """A file that somebody put in the place of an earlier checkpoint is not removed."""
        first = ModelCheckpoint(tmp_path, to_save={"model": model})
        first(fake)
        second = ModelCheckpoint(tmp_path, require_empty=False, to_save={"model": model})
        second.load_state_dict(first.state_dict())
        torch.save({"precious": 1}, tmp_path / "model_6.pt")
        second(fake.fire(Events.EPOCH_COMPLETED, iteration=7))
        assert names(tmp_path) == ["model_6.pt", "model_7.pt"]

    def test_store_without_metadata(self, model, memory_store):
        """In a save handler without metadata, the name must fit the handler's pattern."""
        store = memory_store
        store.files.update({"final.pt": 1, "best_model_3.pt": 1, "model_1.pt": 1})
        checkpoint = Checkpoint({"model": model}, store, "best")
        with pytest.warns(GlowplugWarning, match=r"ignored: final\.pt, model_1\.pt"):
            checkpoint.load_state_dict(
                {"_saved": [(1, "final.pt"), (3, "best_model_3.pt"), (1, "model_1.pt")]}
            )
        trainer = Engine(lambda engine, batch: None)
        trainer.attach(checkpoint)
        trainer.run([1, 2, 3, 4])
        assert sorted(store.files) == ["best_model_4.pt", "final.pt", "model_1.pt"]


class TestEvery:
    @pytest.mark.parametrize("how", ["filter", "attach", "engine"])
    def test_interval(self, tmp_path, how, monkeypatch):
        """A checkpoint is saved at the first iteration after each interval."""
        clock = itertools.count()
        monkeypatch.setattr(time, "monotonic", lambda: next(clock) * 60.0)
        trainer = Engine(lambda engine, batch: None)
        checkpoint = ModelCheckpoint(tmp_path, n_saved=None, to_save={"model": nn.Linear(2, 1)})
        if how == "attach":
            checkpoint.attach(trainer, Every(minutes=10))
        elif how == "filter":
            checkpoint.attach(trainer, Events.ITERATION_COMPLETED(event_filter=Every(minutes=10)))
        else:
            trainer.add_event_handler(Events.ITERATION_COMPLETED(event_filter=Every(hours=1 / 6)), checkpoint)
        trainer.run(max_epochs=1, epoch_length=35)
        assert [each.iteration for each in checkpoint.saved] == [11, 21, 31]

    def test_with_policy(self, tmp_path):
        """In real time, there are no more saves than intervals."""
        trainer = Engine(lambda engine, batch: time.sleep(0.002))
        checkpoint = ModelCheckpoint(tmp_path, keep=KeepLast(None), to_save={"model": nn.Linear(2, 1)})
        checkpoint.attach(trainer, Every(seconds=0.1))
        began = time.monotonic()
        trainer.run(max_epochs=1, epoch_length=250)
        # A step or a save that takes long delays a save, so there may be fewer.
        assert 2 <= len(checkpoint.saved) <= (time.monotonic() - began) / 0.1
