"""Tests of Checkpoint."""

import itertools
import os
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from glowplug import Engine, Events, Phase
from glowplug.exceptions import GlowplugWarning
from glowplug_model_checkpoint import BaseSaveHandler, Checkpoint, CheckpointEvents, DiskSaver


class InMemory(BaseSaveHandler):
    """Stores checkpoints in memory and logs the calls."""

    def __init__(self):
        self.files, self.log, self.problem = {}, [], None

    def __call__(self, checkpoint, filename, metadata=None):
        self.log.append(("save", filename))
        if self.problem is not None:
            raise self.problem
        self.files[filename] = (checkpoint, metadata)

    def remove(self, filename):
        self.log.append(("remove", filename))
        del self.files[filename]


class Plain:
    """Has a minimal state."""

    def __init__(self, value=0):
        self.value = value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


class Pair(NamedTuple):
    """A named tuple of two objects."""

    x: Any
    y: Any


class Evil:
    """Runs a call when it is unpickled."""

    def __init__(self, call, arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments

    @classmethod
    def check(cls, call, arguments, marker):
        """Assert that plain unpickling runs the call."""
        pickle.loads(pickle.dumps(cls(call, arguments)))
        assert os.path.lexists(marker)


@pytest.fixture
def saver():
    """A save handler in memory."""
    return InMemory()


ENTRY = {"filename": "model_1.pt", "step": 1, "iteration": 1, "epoch": 1, "scores": {}}


def steps_and_names(checkpoint):
    """Return the steps and file names of the kept checkpoints."""
    return [(each.step, each.filename) for each in checkpoint.saved]


def fire_scores(fake, checkpoint, scores):
    """Fire the event once per score, at iterations 1, 2, 3, ..."""
    for iteration, score in enumerate(scores, 1):
        checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=iteration, score=score))


def by_score(saver, **kwargs):
    """Return a checkpoint that ranks by state.score and has the iteration in its file names."""
    return Checkpoint(
        {"model": Plain()},
        saver,
        score_function=lambda engine: engine.state.score,
        global_step_transform=lambda engine, event: engine.state.iteration,
        **kwargs,
    )


class TestToSave:
    def test_leaf_without_state_dict_is_refused(self, saver):
        """A leaf without state_dict raises a TypeError at construction that contains its path (H-011)."""
        with pytest.raises(TypeError, match=r"to_save\['a'\]\[1\]\['b'\] has no state_dict\(\): 3"):
            Checkpoint({"a": [Plain(), {"b": 3}]}, saver)
        with pytest.raises(TypeError, match="must be a mapping"):
            Checkpoint(Plain(), saver)
        with pytest.raises(TypeError, match="must be a string; got 3"):
            Checkpoint({3: Plain()}, saver)

    def test_nested_objects_round_trip(self, fake, saver):
        """Nested mappings, lists and named tuples are saved as dicts and lists and load into the same tree (H-011)."""
        Checkpoint({"all": {"m": Plain(1)}, "more": [Plain(2), Pair(Plain(3), Plain(4))]}, saver)(fake)
        content, _ = saver.files["checkpoint_6.pt"]
        assert content == {"all": {"m": {"value": 1}}, "more": [{"value": 2}, [{"value": 3}, {"value": 4}]]}
        fresh = {"all": {"m": Plain()}, "more": [Plain(), Pair(Plain(), Plain())]}
        Checkpoint.load_objects(fresh, content)
        assert [fresh["all"]["m"].value, fresh["more"][0].value, *(p.value for p in fresh["more"][1])] == [
            1,
            2,
            3,
            4,
        ]


class TestSaveHandler:
    def test_error_inside_is_not_retried(self, fake):
        """A TypeError raised inside a save function is raised; the function is not called again (H-012)."""
        calls = []

        def broken(checkpoint, filename, metadata):
            calls.append(filename)
            raise TypeError("from inside")

        with pytest.raises(TypeError, match="from inside"):
            Checkpoint({"model": Plain()}, broken)(fake)
        assert calls == ["model_6.pt"]

    def test_functions_of_two_and_three_arguments(self, fake):
        """Functions of two and three arguments are called; other signatures are refused at construction (H-012)."""
        calls = []
        Checkpoint({"model": Plain()}, lambda checkpoint, filename: calls.append((filename,)))(fake)
        Checkpoint({"model": Plain()}, lambda *given: calls.append((given[1], given[2]["basename"])))(fake)
        assert calls == [("model_6.pt",), ("model_6.pt", "model")]
        with pytest.raises(TypeError, match="has the signature \\(filename\\)"):
            Checkpoint({"model": Plain()}, lambda filename: None)
        with pytest.raises(TypeError, match="must be a folder"):
            Checkpoint({"model": Plain()}, None)

    def test_functions_that_would_save_nothing(self, fake):
        """A function whose call runs no code is refused at construction, or at the first save if a lambda hides it."""

        async def upload(checkpoint, filename):
            raise AssertionError("never runs")

        def chunks(checkpoint, filename, metadata):
            yield checkpoint

        for function, kind in ((upload, "an async function"), (chunks, "a generator function")):
            with pytest.raises(TypeError, match=rf"save_handler .* is {kind}"):
                Checkpoint({"model": Plain()}, function)
        hidden = Checkpoint({"model": Plain()}, lambda checkpoint, filename: upload(checkpoint, filename))
        with pytest.raises(TypeError, match=r"save_handler .* returned a coroutine"):
            hidden(fake)
        assert hidden.last_checkpoint is None

    def test_path_becomes_a_disk_saver(self, fake, tmp_path, names):
        """A str or Path becomes a DiskSaver, which creates the folder and requires it to be empty (H-012)."""
        Checkpoint({"model": Plain()}, str(tmp_path / "a" / "b"))(fake)
        assert names(tmp_path / "a" / "b") == ["model_6.pt"]
        with pytest.raises(ValueError, match=r"already contains checkpoints: model_6\.pt"):
            Checkpoint({"model": Plain()}, tmp_path / "a" / "b")

    def test_metadata(self, fake, saver):
        """The save handler receives ignite's metadata and what the manifest needs, as plain values (H-013, C3)."""
        fake.state.metrics = {"acc": 0.25}
        Checkpoint({"model": Plain()}, saver, filename_prefix="best", score_name="acc")(fake)
        assert saver.files["best_model_3_acc=0.2500.pt"][1] == {
            "basename": "best_model",
            "score_name": "acc",
            "priority": 0.25,
            "handler": "Checkpoint:best",
            "filename_prefix": "best",
            "filename": "best_model_3_acc=0.2500.pt",
            "step": 3,
            "iteration": 6,
            "epoch": 3,
            "scores": {"acc": 0.25},
            "modes": {"acc": "max"},
            "is_finite": True,
            "objects": ["model"],
            "is_bare": True,
        }


class TestPriority:
    @pytest.mark.parametrize("score", [torch.tensor(0.5), "0.5", None, 1j])
    def test_score_must_be_a_number(self, fake, saver, score):
        """A score that is not a real number is refused and nothing is saved (H-014)."""
        with pytest.raises(ValueError, match="the score of a checkpoint must be a number"):
            Checkpoint({"model": Plain()}, saver, score_function=lambda engine: score)(fake)
        assert saver.files == {}

    def test_numpy_score_becomes_a_python_number(self, fake, saver):
        """A numpy score enters the state as a Python float, which weights_only loading accepts (H-014)."""
        numpy = pytest.importorskip("numpy")
        checkpoint = Checkpoint({"model": Plain()}, saver, score_function=lambda engine: numpy.float32(0.5))
        checkpoint(fake)
        assert type(checkpoint.state_dict()["saved"][0]["scores"]["score"]) is float

    def test_step(self, fake, saver):
        """The step is the iteration, or the result of global_step_transform for the engine and the event (H-014)."""
        Checkpoint({"model": Plain()}, saver)(fake.fire(Events.EPOCH_COMPLETED))
        seen = []
        asked = Checkpoint(
            {"model": Plain()}, saver, global_step_transform=lambda *given: seen.append(given) or 42
        )
        with asked.attach(fake):
            fake.fire(Events.EPOCH_COMPLETED)
        assert list(saver.files) == ["model_6.pt", "model_42.pt"]
        assert seen == [(fake, Events.EPOCH_COMPLETED)]
        with pytest.raises(ValueError, match=r"must return an integer; got 1\.5"):
            Checkpoint({"model": Plain()}, saver, global_step_transform=lambda *given: 1.5)(fake)


class TestRetention:
    @pytest.mark.parametrize(
        ("greater_or_equal", "kept", "last"),
        [(False, [1, 3], "model_3_0.7000.pt"), (True, [3, 4], "model_4_0.5000.pt")],
    )
    def test_best_are_kept(self, fake, saver, greater_or_equal, kept, last):
        """The n_saved best are kept; of equal scores the first, or with greater_or_equal the latest (H-015)."""
        checkpoint = by_score(saver, n_saved=2, greater_or_equal=greater_or_equal)
        fire_scores(fake, checkpoint, [0.5, 0.1, 0.7, 0.5, 0.2])
        assert sorted(saver.files) == [
            f"model_{i}_{s}000.pt" for i, s in ((1, "0.5"), (3, "0.7"), (4, "0.5")) if i in kept
        ]
        assert checkpoint.last_checkpoint == last
        assert checkpoint.best_checkpoint == "model_3_0.7000.pt"

    def test_n_saved(self, fake, saver):
        """None keeps all checkpoints; values below 1 and fractions are refused (H-016)."""
        checkpoint = by_score(saver, n_saved=None)
        fire_scores(fake, checkpoint, [0.5, 0.1, 0.3])
        assert len(saver.files) == len(checkpoint.saved) == 3
        for wrong, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError)):
            with pytest.raises(error):
                Checkpoint({"model": Plain()}, saver, n_saved=wrong)


class TestContent:
    def test_single_object_is_saved_bare(self, fake, saver):
        """A single object is saved as its bare state, several as a dict named "checkpoint" (H-017)."""
        Checkpoint({"net": Plain(1)}, saver)(fake)
        Checkpoint({"net": Plain(1), "opt": Plain(2)}, saver)(fake)
        assert {name: content for name, (content, _) in saver.files.items()} == {
            "net_6.pt": {"value": 1},
            "checkpoint_6.pt": {"net": {"value": 1}, "opt": {"value": 2}},
        }

    def test_include_self_has_its_own_key(self, fake, tmp_path, model):
        """include_self adds a key beside the object's state, which still loads strictly (H-018)."""
        checkpoint = Checkpoint({"model": model}, tmp_path, include_self=True)
        checkpoint(fake)
        content = torch.load(checkpoint.last_checkpoint, weights_only=True)
        assert set(content) == {"model", "checkpointer"}
        assert set(model.state_dict()) == {"weight", "bias"}
        fresh = nn.Linear(2, 1)
        Checkpoint.load_objects({"model": fresh}, checkpoint.last_checkpoint)
        assert torch.equal(fresh.weight, model.weight)
        with pytest.raises(ValueError, match="'checkpointer' of to_save is reserved"):
            Checkpoint({"checkpointer": model}, print, include_self=True)

    def test_saved_state_lists_its_own_file(self, fake, tmp_path, model):
        """The handler's state in a checkpoint lists that checkpoint and the other retained ones (H-018)."""
        checkpoint = Checkpoint({"model": model}, tmp_path, n_saved=2, include_self=True)
        for iteration in (1, 2, 3):
            checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=iteration))
        fresh = Checkpoint({"model": model}, DiskSaver(tmp_path, require_empty=False), n_saved=2)
        Checkpoint.load_objects({"checkpointer": fresh}, tmp_path / "model_3.pt")
        assert fresh.saved == checkpoint.saved
        assert fresh.last_checkpoint == tmp_path / "model_3.pt"


def test_score_name_reads_a_metric(fake, saver):
    """score_name alone reads the engine's metric; a missing metric raises an error that lists the others (H-020)."""
    fake.state.metrics = {"acc": 0.5, "loss": 1.0}
    checkpoint = Checkpoint({"model": Plain()}, saver, score_name="acc")
    checkpoint(fake)
    assert checkpoint.last_checkpoint == "model_3_acc=0.5000.pt"
    assert Checkpoint.get_default_score_fn("loss", -1.0)(fake) == -1.0
    with pytest.raises(ValueError, match="score_sign"):
        Checkpoint.get_default_score_fn("loss", 2.0)
    with pytest.raises(KeyError, match=r"'f1'.*\['acc', 'loss'\]"):
        Checkpoint({"model": Plain()}, saver, score_name="f1")(fake)


class TestSaving:
    def test_constant_filename_is_one_entry(self, fake, saver):
        """A pattern that always gives the same name overwrites its file and keeps one entry (H-021, H-023)."""
        checkpoint = Checkpoint({"model": Plain()}, saver, filename_pattern="{name}.{ext}", n_saved=3)
        for iteration in (1, 2, 3):
            checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=iteration))
        assert saver.log == [("save", "model.pt")] * 3
        assert steps_and_names(checkpoint) == [(3, "model.pt")]

    def test_saves_before_it_removes(self, fake, saver):
        """The old file is removed after the new one is saved, and SAVED_CHECKPOINT fires last (H-024)."""
        checkpoint = Checkpoint({"model": Plain()}, saver)
        checkpoint.attach(fake)
        fake.add_event_handler(Checkpoint.SAVED_CHECKPOINT, lambda: saver.log.append("event"))
        for iteration in (1, 2):
            fake.fire(Events.EPOCH_COMPLETED, iteration=iteration)
        assert saver.log == [
            ("save", "model_1.pt"),
            "event",
            ("save", "model_2.pt"),
            ("remove", "model_1.pt"),
            "event",
        ]

    def test_failed_save_changes_nothing(self, fake, saver):
        """After a failed save the entries are unchanged, no event has fired, and the next save works (H-024, C2)."""
        checkpoint = Checkpoint({"model": Plain()}, saver)
        checkpoint.attach(fake)
        fake.fire(Events.EPOCH_COMPLETED, iteration=1)
        saver.problem = OSError(28, "No space left on device")
        with pytest.raises(OSError, match="No space"):
            fake.fire(Events.EPOCH_COMPLETED, iteration=2)
        assert steps_and_names(checkpoint) == [(1, "model_1.pt")]
        assert [each["filename"] for each in checkpoint.state_dict()["saved"]] == ["model_1.pt"]
        assert list(saver.files) == ["model_1.pt"]
        assert fake.fired.count(Checkpoint.SAVED_CHECKPOINT) == 1
        saver.problem = None
        fake.fire(Events.EPOCH_COMPLETED, iteration=3)
        assert list(saver.files) == ["model_3.pt"]

    def test_file_that_cannot_be_removed_stays_listed(self, fake, saver):
        """If removal fails, both files stay listed and the next save removes the old one (H-024)."""
        checkpoint = Checkpoint({"model": Plain()}, saver)
        checkpoint(fake)
        remove, saver.remove = saver.remove, lambda filename: (_ for _ in ()).throw(PermissionError(filename))
        with pytest.raises(PermissionError):
            checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=7))
        assert steps_and_names(checkpoint) == [(6, "model_6.pt"), (7, "model_7.pt")]
        saver.remove = remove
        checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=8))
        assert list(saver.files) == ["model_8.pt"]
        assert steps_and_names(checkpoint) == [(8, "model_8.pt")]

    def test_functions_never_remove(self, fake):
        """The files of a plain function leave the list but are not removed (H-025)."""
        files = []
        checkpoint = Checkpoint({"model": Plain()}, lambda content, filename: files.append(filename))
        for iteration in (1, 2):
            checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=iteration))
        assert files == ["model_1.pt", "model_2.pt"]
        assert steps_and_names(checkpoint) == [(2, "model_2.pt")]

    def test_last_and_best_differ(self, fake, tmp_path):
        """last_checkpoint is the newest path, best_checkpoint the one with the highest score; None at first (H-026)."""
        checkpoint = by_score(tmp_path, n_saved=2)
        assert checkpoint.last_checkpoint is None
        assert checkpoint.best_checkpoint is None
        fire_scores(fake, checkpoint, [0.9, 0.1, 0.3])
        assert checkpoint.last_checkpoint == tmp_path / "model_3_0.3000.pt"
        assert checkpoint.best_checkpoint == tmp_path / "model_1_0.9000.pt"

    @pytest.mark.parametrize(("greater_or_equal", "best"), [(False, 1), (True, 2)])
    def test_best_of_equal_scores(self, fake, saver, greater_or_equal, best):
        """Of equal scores the first is the best, or with greater_or_equal the latest (H-026)."""
        checkpoint = by_score(saver, n_saved=None, greater_or_equal=greater_or_equal)
        fire_scores(fake, checkpoint, [0.5, 0.5, 0.1])
        assert checkpoint.best_checkpoint == f"model_{best}_0.5000.pt"

    def test_reset_keeps_the_files(self, fake, saver):
        """After reset the files remain, and a run with lower steps saves again (H-027)."""
        checkpoint = Checkpoint({"model": Plain()}, saver)
        checkpoint(fake)
        checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=1))
        assert list(saver.files) == ["model_6.pt"]
        checkpoint.reset()
        checkpoint(fake)
        assert sorted(saver.files) == ["model_1.pt", "model_6.pt"]


class TestLoadStateDict:
    def test_missing_files_are_dropped(self, fake, tmp_path, names):
        """Entries without a file are dropped when the state is loaded, and later removals work (H-028)."""
        checkpoint = Checkpoint({"model": Plain()}, tmp_path, n_saved=2)
        for iteration in (1, 2):
            checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=iteration))
        state = checkpoint.state_dict()
        assert [each["filename"] for each in state["saved"]] == ["model_1.pt", "model_2.pt"]
        (tmp_path / "model_1.pt").unlink()
        fresh = Checkpoint({"model": Plain()}, DiskSaver(tmp_path, require_empty=False), n_saved=2)
        fresh.load_state_dict(state)
        assert steps_and_names(fresh) == [(2, "model_2.pt")]
        for iteration in (3, 4):
            fresh(fake.fire(Events.EPOCH_COMPLETED, iteration=iteration))
        assert names(tmp_path) == ["model_3.pt", "model_4.pt"]

    def test_removing_a_vanished_file(self, fake, tmp_path, names):
        """A retained file that is already gone does not cause an error when it is removed (H-028)."""
        checkpoint = Checkpoint({"model": Plain()}, tmp_path)
        checkpoint(fake)
        (tmp_path / "model_6.pt").unlink()
        checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=7))
        assert names(tmp_path) == ["model_7.pt"]

    @pytest.mark.parametrize(
        "state",
        [
            {},
            {"_saved": 3},
            {"_saved": [(1,)]},
            {"_saved": [("high", "model_1.pt")]},
            {"_saved": [(float("nan"), "model_1.pt")]},
            {"_saved": [(1, "../../precious.txt")]},
            {"_saved": [(1, 2)]},
            {"saved": 3},
            {"saved": [{"filename": "model_1.pt"}]},
            {"saved": [{**ENTRY, "filename": "../../precious.txt"}]},
            {"saved": [{**ENTRY, "scores": {"acc": float("nan")}}]},
            {"saved": [{**ENTRY, "step": 1.5}]},
        ],
    )
    def test_bad_state_is_refused(self, fake, saver, state):
        """A malformed state, or one with a path outside the folder, is refused and changes nothing (H-028, S2)."""
        checkpoint = Checkpoint({"model": Plain()}, saver)
        checkpoint(fake)
        with pytest.raises(ValueError, match="Checkpoint cannot load this state"):
            checkpoint.load_state_dict(state)
        assert steps_and_names(checkpoint) == [(6, "model_6.pt")]

    def test_surplus_after_a_crash_is_removed(self, fake, saver):
        """The next save removes the surplus files that a crash can leave, and must beat the best of them."""
        checkpoint = by_score(saver)
        names = [f"model_{number}_{score}.pt" for number, score in ((7, 0.1), (8, 0.6), (9, 0.4))]
        for name in names:
            saver({}, name)
        checkpoint.load_state_dict({"_saved": list(zip((0.1, 0.6, 0.4), names, strict=True))})
        fire_scores(fake, checkpoint, [0.5])
        assert sorted(saver.files) == names
        fire_scores(fake, checkpoint, [0.7])
        assert list(saver.files) == ["model_1_0.7000.pt"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_scores_are_skipped(fake, saver, bad):
    """Scores that are not finite are never saved and do not affect ranking; one warning reports them (H-029, C2)."""
    checkpoint = by_score(saver)
    with pytest.warns(GlowplugWarning, match="skipped a checkpoint because its score is") as warned:
        fire_scores(fake, checkpoint, [bad, 0.1, bad, 0.3, bad, 0.2])
    assert len(warned) == 1
    assert list(saver.files) == ["model_4_0.3000.pt"]


def test_parallel_wrappers_are_unwrapped(fake, saver, model):
    """A DataParallel model is saved as its inner model and loads into a wrapped or bare one (H-030)."""
    Checkpoint({"model": nn.DataParallel(model)}, saver)(fake)
    content, _ = saver.files["model_6.pt"]
    assert set(content) == {"weight", "bias"}
    for fresh in (nn.Linear(2, 1), nn.DataParallel(nn.Linear(2, 1))):
        Checkpoint.load_objects({"model": fresh}, content)
        assert torch.equal(getattr(fresh, "module", fresh).weight, model.weight)


class TestSavedCheckpointEvent:
    def test_registered_by_attach(self, fake, saver):
        """After attach, handlers of SAVED_CHECKPOINT can be added; they run after each save (H-031)."""
        Checkpoint({"model": Plain()}, saver).attach(fake)
        seen = []
        fake.add_event_handler(
            Checkpoint.SAVED_CHECKPOINT, lambda engine: seen.append(engine.state.iteration)
        )
        for iteration in (7, 8):
            fake.fire(Events.EPOCH_COMPLETED, iteration=iteration)
        assert seen == [7, 8]

    def test_registered_by_the_first_call(self, saver):
        """With add_event_handler the first call registers the event, unless the user registers it earlier (H-031)."""
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint({"model": Plain()}, saver))
        with pytest.raises(ValueError, match="register_events"):
            engine.add_event_handler(CheckpointEvents.SAVED_CHECKPOINT, lambda: None)
        engine.register_events(*CheckpointEvents)
        seen = []
        engine.add_event_handler(CheckpointEvents.SAVED_CHECKPOINT, lambda: seen.append(1))
        engine.run([1], max_epochs=2)
        assert seen == [1, 1]

    def test_current_event_is_kept(self, fake, saver):
        """A second checkpoint at the same event receives that event, not the first one's SAVED_CHECKPOINT."""
        seen = []
        for key in ("a", "b"):
            checkpoint = Checkpoint(
                {key: Plain()},
                saver,
                global_step_transform=lambda engine, event: seen.append(event) or 1,
                state_key=key,
            )
            checkpoint.attach(fake)
        fake.fire(Events.EPOCH_COMPLETED)
        assert seen == [Events.EPOCH_COMPLETED] * 2


class TestAttach:
    def test_runs_last_and_detaches_completely(self, fake, saver):
        """It runs after user handlers that were added later; its handle removes the handler and its state."""
        checkpoint = Checkpoint({"model": Plain()}, saver)
        assert checkpoint.phase is Phase.CHECKPOINT
        handle = checkpoint.attach(fake)
        order = []
        fake.add_event_handler(Events.EPOCH_COMPLETED, lambda: order.append(len(saver.files)))
        fake.fire(Events.EPOCH_COMPLETED)
        assert order == [0]
        assert fake.state_dict() == {"handlers": {"Checkpoint": checkpoint.state_dict()}}
        assert steps_and_names(checkpoint) == [(6, "model_6.pt")]
        handle.remove()
        assert not fake.has_event_handler(checkpoint)
        assert fake.state_dict() == {"handlers": {}}

    def test_default_state_keys(self, fake, saver):
        """Default state keys differ by prefix or score name; a further clash is numbered."""
        for options in (
            {},
            {"filename_prefix": "best"},
            {"score_name": "accuracy"},
            {"filename_prefix": "best", "score_name": "loss"},
            {"state_key": "mine"},
        ):
            Checkpoint({"a": Plain()}, saver, **options).attach(fake)
        assert list(fake.state_dict()["handlers"]) == [
            "Checkpoint",
            "Checkpoint:best",
            "Checkpoint:accuracy",
            "Checkpoint:best#2",
            "mine",
        ]


def test_exception_is_raised_after_the_save(saver):
    """At EXCEPTION_RAISED it saves, and run() raises the exception (H-034)."""

    def step(engine, batch):
        if engine.state.iteration == 2:
            raise RuntimeError("boom")

    engine = Engine(step)
    engine.add_event_handler(Events.EXCEPTION_RAISED, Checkpoint({"model": Plain()}, saver))
    with pytest.raises(RuntimeError, match="boom"):
        engine.run([1, 2, 3], max_epochs=3)
    assert list(saver.files) == ["model_2.pt"]


def test_engine_can_be_saved(tmp_path, model):
    """A file with model, optimizer, trainer and the handler's state loads with weights_only=True."""
    optimizer = torch.optim.Adam(model.parameters())

    def step(engine, batch):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()

    trainer = Engine(step)
    to_save = {"model": model, "optimizer": optimizer, "trainer": trainer}
    checkpoint = Checkpoint(to_save, tmp_path, include_self=True)
    trainer.attach(checkpoint)
    trainer.run([1, 2], max_epochs=2)
    content = torch.load(checkpoint.last_checkpoint, weights_only=True)
    assert content["trainer"]["iteration"] == 4
    names = [each["filename"] for each in content["checkpointer"]["saved"]]
    assert names == ["checkpoint_2.pt", "checkpoint_4.pt"]
    assert content["trainer"]["handlers"]["Checkpoint"] == content["checkpointer"]


def test_missing_rank_is_refused(fake, saver):
    """save_on_rank=1 raises an error in a single process, since nothing would be saved."""
    with pytest.raises(ValueError, match="save_on_rank must be a rank of this run, from 0 to 0; got 1"):
        Checkpoint({"model": Plain()}, saver, save_on_rank=1)(fake)


def test_disk_saver_for_another_rank_is_refused(tmp_path):
    """A DiskSaver with another save_on_rank is refused, since nothing would be saved."""
    with pytest.raises(ValueError, match="save_on_rank is 1 for the DiskSaver but 0 for Checkpoint"):
        Checkpoint({"model": Plain()}, DiskSaver(tmp_path, save_on_rank=1))


class TestLoadObjects:
    def test_sources_and_keys(self, tmp_path, model):
        """Files, mappings and bare states load; extra keys are ignored; kwargs apply to modules only (H-032)."""
        other, plain = nn.Linear(2, 1), Plain()
        torch.save({"model": model.state_dict(), "plain": {"value": 7}, "extra": {}}, tmp_path / "c.pt")
        with pytest.warns(GlowplugWarning, match=r"c\.pt' has no manifest, so damage cannot be detected"):
            Checkpoint.load_objects({"model": other, "plain": plain}, str(tmp_path / "c.pt"), strict=False)
        assert torch.equal(other.weight, model.weight)
        assert plain.value == 7
        bare = nn.Linear(2, 1)
        Checkpoint.load_objects({"whatever": bare}, model.state_dict())
        assert torch.equal(bare.weight, model.weight)
        Checkpoint.load_objects({"m": nn.Linear(2, 1)}, {"weight": model.weight.detach()}, strict=False)

    def test_missing_key_loads_nothing(self):
        """A missing key raises a ValueError with the existing keys before any object changes (H-032)."""
        first, second = Plain(1), Plain(2)
        with pytest.raises(ValueError, match=r"checkpoint\['b'\] is missing; found \['a'\]"):
            Checkpoint.load_objects({"a": first, "b": second}, {"a": {"value": 9}})
        assert first.value == 1
        with pytest.raises(ValueError, match=r"checkpoint\['a'\]\[1\] is missing"):
            Checkpoint.load_objects(
                {"a": [first, second], "b": first}, {"a": [{"value": 9}], "b": {"value": 9}}
            )
        with pytest.raises(TypeError, match="no load_state_dict"):
            Checkpoint.load_objects({"a": 3}, {})
        with pytest.raises(TypeError, match="must be a mapping of names to states"):
            Checkpoint.load_objects({"a": first}, [1])

    @pytest.mark.filterwarnings("ignore:checkpoint .* has no manifest")
    def test_loading_runs_no_code(self, tmp_path):
        """100 files that would run code when unpickled are refused, and none of the code runs (S1)."""
        marker = tmp_path / "executed"
        touch = f"open({str(marker)!r}, 'w').close()"
        forms = [
            (os.system, (f"touch {marker}",)),
            (os.mkdir, (str(marker),)),
            (os.symlink, ("x", str(marker))),
            (exec, (touch,)),
            (eval, (f"__import__('pathlib').Path({str(marker)!r}).touch()",)),
            (open, (str(marker), "w")),
            (subprocess.call, (["touch", str(marker)],)),
            (subprocess.Popen, (["touch", str(marker)],)),
            (shutil.copy, (__file__, str(marker))),
            (Path.touch, (marker,)),
        ]
        wraps = [
            lambda evil: evil,
            lambda evil: {"model": evil},
            lambda evil: {"model": {"weight": evil}},
            lambda evil: [torch.ones(1), evil],
            lambda evil: {evil: 1},
        ]
        executed = refused = 0
        for legacy, form, wrap in itertools.product((False, True), forms, wraps):
            path = tmp_path / "evil.pt"
            torch.save(wrap(Evil(*form)), path, _use_new_zipfile_serialization=not legacy)
            try:
                Checkpoint.load_objects({"model": Plain()}, path)
            except pickle.UnpicklingError:
                refused += 1
            executed += os.path.lexists(marker)
        assert (executed, refused) == (0, 100)
        Evil.check(*forms[0], marker)


def test_reload_objects(fake, tmp_path, names):
    """reload_objects finds a checkpoint by the parts of its name (H-033)."""
    saved = Plain(1)
    checkpoint = Checkpoint(
        {"net": saved},
        tmp_path,
        filename_prefix="best",
        n_saved=None,
        score_function=lambda engine: engine.state.score,
        score_name="acc",
        global_step_transform=lambda engine, event: engine.state.epoch,
    )
    for epoch, score in ((1, 0.25), (2, 0.5)):
        saved.value = epoch
        checkpoint(fake.fire(Events.EPOCH_COMPLETED, epoch=epoch, score=score))
    assert names(tmp_path) == ["best_net_1_acc=0.2500.pt", "best_net_2_acc=0.5000.pt"]
    loaded = Plain()
    checkpoint.reload_objects({"net": loaded}, score=0.25, global_step=1)
    assert loaded.value == 1
    checkpoint.reload_objects({"x": loaded}, name="net", score=0.5, global_step=2)
    assert loaded.value == 2
    with pytest.raises(FileNotFoundError):
        checkpoint.reload_objects({"net": loaded}, score=0.1, global_step=9)
    with pytest.raises(TypeError, match=r"cannot load 'net_1\.pt': .* only writes; pass a folder"):
        Checkpoint({"net": saved}, print).reload_objects({"net": loaded}, global_step=1)
