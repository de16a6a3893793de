"""Tests of checkpoints of sharded models."""

import shutil
from pathlib import Path

import pytest
import torch


@pytest.fixture
def folder(tmp_path):
    """A folder for checkpoints beside the script of the ranks, which can import the training."""
    shutil.copy(Path(__file__).with_name("sharded_training.py"), tmp_path)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def save_sharded(rank):
    """Train two steps, save, and train one more."""
    from pathlib import Path

    from sharded_training import Training

    from glowplug.testing import FakeEngine
    from glowplug_model_checkpoint import Checkpoint

    training = Training(1)
    for number in (1, 2):
        training.step(number)
    received = []
    for handler in (Path(__file__).parent / "run", lambda content, filename: received.append(content)):
        Checkpoint(training.to_save, handler)(FakeEngine())
    digests = training.digests()
    training.step(3)
    is_plain = [
        type(value).__name__
        for content in received
        for value in (*content["model"].values(), *content["optimizers"][0]["state"][0].values())
    ]
    return {"saved": digests, "continued": training.digests(), "received": sorted(set(is_plain))}


def load_sharded(rank):
    """Load into a sharded, a compiled and a plain model, and train one step."""
    from pathlib import Path

    from sharded_training import Training

    from glowplug_model_checkpoint import Checkpoint

    found = {}
    for options in ({}, {"is_compiled": True}, {"is_sharded": False}):
        training = Training(2, **options)
        Checkpoint.load_objects(training.to_save, Path(__file__).parent / "run" / "checkpoint_0.pt")
        name = " ".join(options) or "sharded"
        found[name] = training.digests()
        training.step(3)
        found[f"{name} continued"] = training.digests()
    return found


def test_sharded_model_loads_on_any_number_of_ranks(run_ranks, folder):
    """A model that 2 ranks shard is saved as an ordinary file, which loads bit-identically on 1, 2 and 4 ranks and plain."""
    first, second = run_ranks(save_sharded)
    assert first["saved"] == second["saved"]
    assert (first["received"], second["received"]) == (["Tensor"], [])
    content = torch.load(folder / "checkpoint_0.pt", weights_only=True)
    assert {name: tuple(value.shape) for name, value in content["model"].items()} == {
        "0.weight": (5, 6),
        "0.bias": (5,),
        "2.weight": (3, 5),
        "2.bias": (3,),
    }
    [optimizer] = content["optimizers"]
    assert optimizer["param_groups"][0]["params"] == list(optimizer["state"]) == [0, 1, 2, 3]
    for size in (1, 2, 4):
        for loaded in run_ranks(load_sharded, size):
            kinds = ("sharded", "is_compiled", "is_sharded")
            assert all(loaded[kind] == first["saved"] for kind in kinds)
            if size == 2:
                assert loaded["sharded continued"] == loaded["is_compiled continued"] == first["continued"]


def test_plain_model_loads_into_a_sharded_one(run_ranks, folder):
    """A checkpoint of a plain model loads into a sharded one that has trained already."""

    def ranks(rank):
        from pathlib import Path

        from sharded_training import Training

        from glowplug import Engine
        from glowplug_model_checkpoint import ModelCheckpoint

        plain, sharded = Training(1, is_sharded=False), Training(2, is_compiled=True)
        plain.step(1)
        sharded.step(2)
        checkpoint = ModelCheckpoint(Path(__file__).parent / "run", to_save=plain.to_save)
        checkpoint(Engine(lambda engine, batch: None))
        checkpoint.restore(sharded.to_save)
        return [plain.digests(), sharded.digests()]

    for plain, sharded in run_ranks(ranks):
        assert plain == sharded


def test_what_cannot_be_gathered_is_refused(run_ranks, folder):
    """FSDP1, its optimizer, a ShardedTensor, a DTensor at EXCEPTION_RAISED and different objects are errors on all ranks."""

    def ranks(rank):
        import warnings
        from pathlib import Path

        import torch
        from sharded_training import Training
        from torch import nn
        from torch.distributed._shard import sharded_tensor
        from torch.distributed._shard.sharding_spec import ChunkShardingSpec
        from torch.distributed.fsdp import FullyShardedDataParallel

        from glowplug import Events
        from glowplug.testing import FakeEngine
        from glowplug_model_checkpoint import Checkpoint

        warnings.simplefilter("ignore")

        class Older:
            def state_dict(self):
                spec = ChunkShardingSpec(dim=0, placements=["rank:0/cpu", "rank:1/cpu"])
                return {"part": [sharded_tensor.zeros(spec, 4)]}

        folder = Path(__file__).parent / "run"
        flat = FullyShardedDataParallel(nn.Linear(4, 4), use_orig_params=True, device_id=torch.device("cpu"))
        training = Training(1)
        flat_optimizer = torch.optim.SGD(flat.parameters(), lr=0.1)
        fake = FakeEngine()
        at_end = Checkpoint({"model": training.model}, folder)
        fake.add_event_handler(Events.EXCEPTION_RAISED, at_end)
        other = nn.Linear(1, 1) if rank else training.plain[0]
        attempts = [
            lambda: Checkpoint({"models": [nn.Linear(1, 1), nn.Sequential(flat)]}, folder)(fake),
            lambda: Checkpoint({"optimizer": flat_optimizer}, folder)(fake),
            lambda: Checkpoint({"older": Older()}, folder)(fake),
            lambda: Checkpoint({"model": other}, folder)(fake),
            lambda: fake.fire(Events.EXCEPTION_RAISED, error=ValueError()),
        ]
        problems = []
        for attempt in attempts:
            try:
                attempt()
                problems.append(None)
            except Exception as error:
                problems.append(f"{type(error).__name__}: {error}")
        return [problems, sorted(path.name for path in folder.iterdir())]

    (first, files), (second, _) = run_ranks(ranks)
    assert files == []
    assert first[:3] == second[:3]
    for problem, name in zip(
        first, ("to_save['models'][1]", "to_save['optimizer']", "to_save['older']"), strict=False
    ):
        assert problem.startswith(f"TypeError: {name} ")
        assert "fully_shard" in problem
    assert "FullyShardedDataParallel" in first[0]
    assert "'part.0'" in first[2]
    assert first[3] == second[3]
    assert "the 0 sharded tensors of rank 1 differ from the 2 of rank 0" in first[3]
    assert "to_save['model']" in first[4]
    assert "EXCEPTION_RAISED" in first[4]
    assert second[4] is None


def test_nan_in_one_shard(run_ranks, folder):
    """NaN in the part of rank 1 is known on both ranks, so the last finite checkpoint is kept (C2)."""

    def ranks(rank):
        import warnings
        from pathlib import Path

        import torch
        from sharded_training import Training

        from glowplug.testing import FakeEngine
        from glowplug_model_checkpoint import Checkpoint, KeepBest

        # With its own scores, rank 1 would save only once.
        keep = KeepBest(1, by=lambda engine: (1 - 2 * rank) * engine.state.iteration, name="score")
        training, fake = Training(1), FakeEngine()
        checkpoint = Checkpoint({"model": training.model}, Path(__file__).parent / "run", keep=keep)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for fake.state.iteration in (1, 2, 3):
                checkpoint(fake)
                if rank == 1:
                    with torch.no_grad():
                        training.plain[0].weight.to_local().fill_(float("nan"))
        found = [(each.iteration, each.is_finite) for each in checkpoint.saved]
        return [found, sum("NaN" in str(each.message) for each in caught)]

    assert run_ranks(ranks) == [[[[1, True], [3, False]], 1], [[[1, True], [3, False]], 0]]


def test_save_handler_of_all_ranks(run_ranks, folder):
    """A save handler with the attribute collective gets the part of each rank on each rank, and fails on all ranks together."""

    def ranks(rank):
        from pathlib import Path

        import torch
        from sharded_training import Training

        from glowplug import Events
        from glowplug.testing import FakeEngine
        from glowplug_model_checkpoint import Checkpoint

        class Parts:
            """Writes one file for each rank, and joins their tensors again."""

            collective = True
            is_full = False

            def __init__(self, folder):
                self.folder = folder

            def save(self, checkpoint, filename, metadata=None):
                if self.is_full and rank == 1:
                    raise OSError(28, "No space left on device")
                parts = {name: value.to_local() for name, value in checkpoint.items()}
                path = self.locate(filename)
                path.mkdir(exist_ok=True)
                torch.save(parts, path / f"{rank}.part")

            def load(self, filename):
                paths = sorted(self.locate(filename).iterdir())
                parts = [torch.load(path, weights_only=True) for path in paths]
                return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

            def list(self):
                return [path.name for path in self.folder.iterdir()]

            def remove(self, filename):
                raise AssertionError("nothing replaces the checkpoint")

            def locate(self, filename):
                return self.folder / filename

        store, fake = Parts(Path(__file__).parent / "run"), FakeEngine()
        training = Training(1)
        checkpoint = Checkpoint({"model": training.model}, store, n_saved=None)
        checkpoint(fake)
        sharded, plain = Training(2), Training(3, is_sharded=False)
        checkpoint.restore({"model": sharded.model})
        checkpoint.restore({"model": plain.model})
        problems = []
        store.is_full, fake.state.iteration = True, 1
        fake.add_event_handler(Events.EXCEPTION_RAISED, checkpoint)
        attempts = [
            lambda: checkpoint(fake),
            lambda: fake.fire(Events.EXCEPTION_RAISED, error=ValueError()),
            lambda: Checkpoint({"model": training.model}, store, save_on_rank=1),
            lambda: Checkpoint({"model": training.model}, store, async_save=True),
        ]
        for attempt in attempts:
            try:
                attempt()
                problems.append(None)
            except Exception as error:
                problems.append(str(error))
        files = sorted(path.name for path in (store.folder / "model_0.pt").iterdir())
        is_equal = sharded.digests() == plain.digests() == training.digests()
        return [files, is_equal, [each.filename for each in checkpoint.saved], problems]

    first, second = run_ranks(ranks)
    assert first[:3] == second[:3] == [["0.part", "1.part"], True, ["model_0.pt"]]
    assert first[3][0] == "rank 0 stops because rank 1 failed: OSError: [Errno 28] No space left on device"
    assert second[3][0] == "[Errno 28] No space left on device"
    assert "Parts saves on all ranks" in first[3][1]
    assert second[3][1] is None
    assert "save_on_rank must be 0; got 1" in first[3][2]
    assert "async_save" in first[3][3]
