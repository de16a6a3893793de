"""Tests of ShardedSaver: folders to which each rank writes its part of a sharded model."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from glowplug.exceptions import GlowplugWarning
from glowplug.testing import FakeEngine
from glowplug_model_checkpoint import Checkpoint, DamagedCheckpointError, ModelCheckpoint, ShardedSaver
from glowplug_model_checkpoint.publishing import temporary_name

CONTENT = {"model": {"weight": torch.arange(6.0)}, "steps": [1, 2]}


@pytest.fixture
def folder(tmp_path):
    """A folder for checkpoints beside the script of the ranks, which can import the training."""
    shutil.copy(Path(__file__).with_name("sharded_training.py"), tmp_path)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def save(rank):
    """Train, and save after each of two steps."""
    from pathlib import Path

    from sharded_training import Training

    from glowplug.testing import FakeEngine
    from glowplug_model_checkpoint import Checkpoint, ShardedSaver

    folder, training, fake = Path(__file__).parent / "run", Training(1), FakeEngine()
    checkpoint = Checkpoint(training.to_save, ShardedSaver(folder), n_saved=2)
    digests = []
    for fake.state.iteration in (1, 2, 3):
        training.step(fake.state.iteration)
        digests.append(training.digests())
        checkpoint(fake)
    training.step(4)
    return {"saved": digests, "continued": training.digests()}


def load(rank):
    """Load the latest checkpoint into a sharded, a compiled and a plain model, and train one step."""
    import warnings
    from pathlib import Path

    from sharded_training import Training

    from glowplug.exceptions import GlowplugWarning
    from glowplug_model_checkpoint import Checkpoint, ShardedSaver

    found = {}
    for options in ({}, {"is_compiled": True}, {"is_sharded": False}):
        training = Training(2, **options)
        checkpoint = Checkpoint(training.to_save, ShardedSaver(Path(__file__).parent / "run"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", GlowplugWarning)
            location = checkpoint.restore()
        name = " ".join(options) or "sharded"
        found[name] = [location.name, training.digests(), len(caught)]
        training.step(4)
        found[f"{name} continued"] = training.digests()
    return found


def test_any_number_of_ranks(run_ranks, folder):
    """Each of 2 ranks writes its part, and the checkpoint loads bit-identically on 1, 2 and 4 ranks, sharded or not."""
    first, second = run_ranks(save)
    assert first == second
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint_2.dcp", "checkpoint_3.dcp"]
    newest = folder / "checkpoint_3.dcp"
    names = sorted(path.name for path in newest.iterdir())
    assert names[0] == ".metadata"
    assert {name[:4] for name in names[1:-1]} == {"__0_", "__1_"}
    assert names[-1] == "state.pt"
    state = torch.load(newest / "state.pt", weights_only=True)["content"]
    assert state["model"] == {"0.weight": None, "0.bias": None, "2.weight": None, "2.bias": None}
    for size in (1, 2, 4):
        for loaded in run_ranks(load, size):
            for kind in ("sharded", "is_compiled", "is_sharded"):
                assert loaded[kind] == ["checkpoint_3.dcp", first["saved"][-1], 0]
            if size == 2:
                assert loaded["sharded continued"] == loaded["is_compiled continued"] == first["continued"]


def test_damaged_part(run_ranks, folder):
    """If a bit of any file changes or a file is missing, all ranks load the checkpoint before it, and one warning says so (C3)."""
    first, _ = run_ranks(save)
    newest, copy = folder / "checkpoint_3.dcp", folder.with_name("copy")
    shutil.copytree(newest, copy)
    for number, path in enumerate(sorted(newest.iterdir())):
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(DamagedCheckpointError):
            ShardedSaver(folder).load(newest.name)
        if number == 1:
            for rank, loaded in enumerate(run_ranks(load)):
                assert loaded["sharded"] == ["checkpoint_2.dcp", first["saved"][-2], int(rank == 0)]
        path.unlink()
        with pytest.raises((DamagedCheckpointError, FileNotFoundError)):
            ShardedSaver(folder).load(newest.name)
        shutil.rmtree(newest)
        shutil.copytree(copy, newest)
    assert ShardedSaver(folder).verify(newest.name)


def test_failure_on_one_rank(run_ranks, folder):
    """If one rank cannot write its part, all ranks raise an exception, and the older checkpoint stays (C2)."""

    def ranks(rank):
        import resource
        import signal
        from pathlib import Path

        from sharded_training import Training

        from glowplug.testing import FakeEngine
        from glowplug_model_checkpoint import Checkpoint, ShardedSaver

        folder, training, fake = Path(__file__).parent / "run", Training(1), FakeEngine()
        checkpoint = Checkpoint({"model": training.model}, ShardedSaver(folder))
        checkpoint(fake)
        problems = []
        for failing in (0, 1):
            fake.state.iteration = failing + 1
            former = resource.getrlimit(resource.RLIMIT_FSIZE)
            if rank == failing:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, former[1]))
            try:
                checkpoint(fake)
            except Exception as error:
                problems.append(type(error).__name__)
            resource.setrlimit(resource.RLIMIT_FSIZE, former)
        kept = [each.filename for each in checkpoint.saved]
        return [len(problems), kept, sorted(path.name for path in folder.iterdir())]

    assert run_ranks(ranks) == [[2, ["model_0.dcp"], ["model_0.dcp"]]] * 2


def test_one_process(tmp_path, model, fake):
    """Without a process group, checkpoints are saved, found, loaded and removed."""
    checkpoint = Checkpoint({"model": model}, ShardedSaver(tmp_path))
    checkpoint(fake)
    before = model.weight.detach().clone()
    model.weight.data.zero_()
    latest = ModelCheckpoint.latest(ShardedSaver(tmp_path))
    assert latest == checkpoint.last_checkpoint == tmp_path / "model_6.dcp"
    ModelCheckpoint.load_objects({"model": model}, latest)
    assert torch.equal(model.weight, before)
    fake.state.iteration = 7
    checkpoint(fake)
    assert [path.name for path in tmp_path.iterdir()] == ["model_7.dcp"]


def test_folder(tmp_path):
    """Temporary folders of killed processes are removed, and other files are no checkpoints."""
    left = tmp_path / temporary_name()
    left.mkdir()
    (left / "part").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    saver = ShardedSaver(tmp_path)
    assert not left.exists()
    assert saver.list() == []
    saver.save(CONTENT, "a_1.dcp", {"step": 1})
    assert (saver.list(), saver.metadata("a_1.dcp")) == (["a_1.dcp"], {"step": 1})
    assert saver.load("a_1.dcp")["steps"] == [1, 2]
    saver.save({"steps": [3]}, "a_1.dcp", {"step": 2})
    assert (saver.load("a_1.dcp"), saver.metadata("a_1.dcp")) == ({"steps": [3]}, {"step": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_1.dcp", "notes.txt", "other"]
    with pytest.raises(ValueError, match=r"already contains checkpoints: a_1\.dcp"):
        ShardedSaver(tmp_path, require_empty=True)
    saver.remove("a_1.dcp")
    saver.remove("a_1.dcp")
    assert saver.list() == []
    with pytest.raises(FileNotFoundError):
        saver.load("a_1.dcp")
    for name in ("../a", temporary_name()):
        with pytest.raises(ValueError):
            saver.locate(name)


def test_metadata_run_no_code(run_ranks, folder, tmp_path):
    """DCP's metadata, which are a pickle, cannot run code, even if the digests match (S1)."""
    run_ranks(save)
    newest = folder / "checkpoint_3.dcp"

    class Malicious:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    (newest / ".metadata").write_bytes(pickle.dumps(Malicious()))
    saver = ShardedSaver(folder)
    # As an attacker would, with a digest that matches.
    saver.verify = lambda filename: True
    with pytest.raises(DamagedCheckpointError, match="which is not loaded"):
        saver.load(newest.name)
    assert not (tmp_path / "executed").exists()


def test_what_cannot_be_saved_on_all_ranks(tmp_path, model):
    """Saves in the background and another rank are refused when the handler is made."""
    with pytest.raises(ValueError, match="not possible in the background"):
        Checkpoint({"model": model}, ShardedSaver(tmp_path), async_save=True)
    with pytest.raises(ValueError, match="save_on_rank must be 0"):
        Checkpoint({"model": model}, ShardedSaver(tmp_path), save_on_rank=1)


def test_restore_skips_a_damaged_checkpoint(tmp_path):
    """In one process, restore() skips a damaged checkpoint with a warning that names it (C3)."""
    fake, model = FakeEngine(), nn.Linear(1, 1)
    checkpoint = Checkpoint({"model": model}, ShardedSaver(tmp_path), n_saved=None)
    for fake.state.iteration in (1, 2):
        checkpoint(fake)
    path = tmp_path / "model_2.dcp" / "state.pt"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(GlowplugWarning, match=r"model_2\.dcp"):
        assert checkpoint.restore().name == "model_1.dcp"


def test_exact_resume(run_ranks, folder):
    """A run on 2 ranks that continues from its folder ends with the weights and random numbers of the whole run (C4, D3)."""
    first, second = run_ranks(run_whole_and_in_parts)
    for found in (first, second):
        assert found["resumed"] == "checkpoint_6.dcp"
        assert found["parts"] == found["whole"]
    weights, noise = zip(first["whole"], second["whole"], strict=True)
    assert weights[0] == weights[1]
    assert noise[0] != noise[1]


def run_whole_and_in_parts(rank):
    """Train four epochs at once, and again in two runs."""
    from pathlib import Path

    import torch
    from sharded_training import Training

    from glowplug import Engine
    from glowplug_model_checkpoint import Checkpoint, ShardedSaver

    def train(name, epochs, noise):
        training = Training(1)

        def step(engine, batch):
            noise.append(torch.rand(()).item())
            training.step(batch + noise[-1])

        trainer = Engine(step)
        checkpoint = Checkpoint(
            {**training.to_save, "trainer": trainer},
            ShardedSaver(Path(__file__).parent / "run" / name),
            resume="auto",
            include_self=True,
        )
        checkpoint.attach(trainer)
        if checkpoint.resumed_from is None:
            torch.manual_seed(rank)
        trainer.run([1.0, 2.0, 3.0], max_epochs=epochs)
        return checkpoint, training.digests()

    noise, parts = [], []
    _, digests = train("whole", 4, noise)
    train("parts", 2, parts)
    torch.manual_seed(99)
    checkpoint, resumed = train("parts", 4, parts)
    return {"whole": [digests, noise], "parts": [resumed, parts], "resumed": checkpoint.resumed_from.name}
