"""Tests of states that differ between ranks."""

import shutil
from pathlib import Path

import pytest
import torch


@pytest.fixture
def folder(tmp_path):
    """A folder for checkpoints beside the script of the ranks, which can import the training."""
    shutil.copy(Path(__file__).with_name("ranked_training.py"), tmp_path)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_each_rank_resumes_exactly(run_ranks, folder):
    """Resumed at each iteration, the batches, values, random numbers and weights of both ranks are those of the whole run (C4, D3)."""

    def ranks(rank):
        from pathlib import Path

        from ranked_training import Training, warnings_of

        folder = Path(__file__).parent / "run"
        whole = Training(folder / "whole").run(2)
        found = []
        for saved in whole.checkpoint.saved[:-1]:
            resumed = Training(folder / f"resumed{saved.iteration}")
            location = folder / "whole" / saved.filename
            _, messages = warnings_of(
                lambda resumed=resumed, location=location: resumed.checkpoint.load_objects(
                    resumed.to_save, location
                )
            )
            resumed.run(2)
            expected = whole.result()
            expected["records"] = expected["records"][saved.iteration :]
            found.append(resumed.result() == expected and messages == [])
        return {"records": whole.records, "exact": found}

    first, second = run_ranks(ranks)
    assert len(first["records"]) == len(second["records"]) == 10
    # The ranks have other batches and other random numbers.
    assert all(
        one[0] == two[0] and one[1:3] != two[1:3]
        for one, two in zip(first["records"], second["records"], strict=True)
    )
    assert first["exact"] == second["exact"] == [True] * 9
    content = torch.load(folder / "whole" / "checkpoint_3.pt", weights_only=True)
    assert sorted(content) == ["glowplug_ranks", "model", "optimizer", "trainer"]
    assert content["glowplug_ranks"]["world_size"] == 2
    assert content["glowplug_ranks"]["missing"] == []
    assert list(content["glowplug_ranks"]["states"]) == [1]
    assert list(content["glowplug_ranks"]["states"][1]) == ["trainer"]
    assert (
        content["glowplug_ranks"]["states"][1]["trainer"]["iteration"] == content["trainer"]["iteration"] == 3
    )


def test_killed_ranks_resume_exactly(run_ranks, folder):
    """Both ranks end at once in the middle of an epoch and resume="auto" continues them exactly, also with include_self (D3)."""

    def whole(rank):
        from pathlib import Path

        from ranked_training import Training

        return Training(Path(__file__).parent / "run" / "whole").run(2).result()

    def killed(rank):
        from pathlib import Path

        from ranked_training import Training

        Training(Path(__file__).parent / "run" / "part", include_self=True).run(2, stop_at=7)

    def resumed(rank):
        from pathlib import Path

        from ranked_training import Training

        training = Training(Path(__file__).parent / "run" / "part", include_self=True, resume="auto")
        return {"begun": training.trainer.state.iteration, **training.run(2).result()}

    wholes = run_ranks(whole)
    assert run_ranks(killed) == []
    rests = run_ranks(resumed)
    for whole, rest in zip(wholes, rests, strict=True):
        assert rest["begun"] == 7
        assert rest["records"] == whole["records"][7:]
        assert rest["weights"] == whole["weights"]


def test_bare_and_nested_objects(run_ranks, folder):
    """Single objects, nested objects and any rank that saves: each rank gets its own state, and equal states are stored once."""

    def ranks(rank):
        from pathlib import Path

        import torch
        from torch import nn

        from glowplug.testing import FakeEngine
        from glowplug_model_checkpoint import Checkpoint

        class Sampler:
            def __init__(self, number):
                self.number = torch.tensor([float(number)])

            def state_dict(self):
                return {"number": self.number}

            def load_state_dict(self, state):
                assert set(state) == {"number"}
                self.number = state["number"]

        folder, fake, found = Path(__file__).parent / "run", FakeEngine(), {}

        def play(name, objects, **options):
            checkpoint = Checkpoint(
                {key: make(10 * rank + 1) for key, make in objects.items()}, folder / name, **options
            )
            checkpoint(fake)
            fresh = {key: make(-1) for key, make in objects.items()}
            checkpoint.restore(fresh)
            content = torch.load(checkpoint.last_checkpoint, weights_only=True)
            return fresh, content

        fresh, content = play("bare", {"sampler": Sampler})
        found["bare"] = [fresh["sampler"].number.item(), content["number"].item(), sorted(content)]
        fresh, content = play("self", {"sampler": Sampler}, include_self=True)
        found["self"] = [fresh["sampler"].number.item(), sorted(content)]
        objects = {
            "samplers": lambda number: [Sampler(5), {"own": Sampler(number)}],
            "model": lambda number: nn.Linear(1, 1),
        }
        fresh, content = play("nested", objects, save_on_rank=1)
        found["nested"] = [
            fresh["samplers"][0].number.item(),
            fresh["samplers"][1]["own"].number.item(),
            content["samplers"][1]["own"]["number"].item(),
            repr(content["glowplug_ranks"]),
        ]
        _, content = play("model", {"model": lambda number: nn.Linear(1, 1)})
        found["model"] = sorted(content)

        class Plain(Sampler):
            def state_dict(self):
                return [self.number]

        try:
            play("list", {"plain": Plain})
        except (TypeError, RuntimeError) as error:
            found["list"] = str(error)
        return found

    first, second = run_ranks(ranks)
    assert first["bare"] == [1.0, 1.0, ["glowplug_ranks", "number"]]
    assert second["bare"] == [11.0, 1.0, ["glowplug_ranks", "number"]]
    names = ["checkpointer", "glowplug_ranks", "sampler"]
    assert (first["self"], second["self"]) == ([1.0, names], [11.0, names])
    entry = "{'world_size': 2, 'states': {1: {'samplers': {1: {'own': {'number': tensor([11.])}}}}}, 'missing': []}"
    assert first["nested"] == [5.0, 1.0, 1.0, entry]
    assert second["nested"] == [5.0, 11.0, 1.0, entry]
    assert first["model"] == second["model"] == ["bias", "weight"]
    assert "to_save['plain'] differs between ranks and is a list" in first["list"]


def saves(rank):
    """Save two epochs; at the end, once more after an exception on rank 0."""
    from pathlib import Path

    from ranked_training import Training

    from glowplug import Events
    from glowplug_model_checkpoint import ModelCheckpoint

    training = Training(Path(__file__).parent / "run" / "whole").run(1)
    at_end = ModelCheckpoint(Path(__file__).parent / "run" / "failed", to_save={"trainer": training.trainer})
    at_end.attach(training.trainer, Events.EXCEPTION_RAISED)

    @training.trainer.on(Events.EPOCH_STARTED)
    def fail():
        raise ZeroDivisionError

    try:
        training.trainer.run(training.loader, max_epochs=2)
    except ZeroDivisionError:
        return len(training.checkpoint.saved)


def loads(rank):
    """Load the checkpoint of a whole epoch and the one after the exception, and train one epoch."""
    from pathlib import Path

    import torch.distributed as dist
    from ranked_training import Training, warnings_of

    folder, found = Path(__file__).parent / "run", {}
    for name in ("whole", "failed"):
        training = Training(folder / f"{name} on {dist.get_world_size()}")
        location = training.checkpoint.latest(folder / name)
        names = ["trainer"] if name == "failed" else list(training.to_save)
        to_load = {key: training.to_save[key] for key in names}
        _, found[f"{name} warnings"] = warnings_of(
            lambda training=training, location=location, to_load=to_load: training.checkpoint.load_objects(
                to_load, location
            )
        )
        training.run(2)
        found[name] = training.records
    return found


def test_other_number_of_ranks(run_ranks, folder):
    """On another number of ranks, all resume at the next epoch with different random numbers, and one warning says so."""
    assert run_ranks(saves) == [5, 5]
    (one,) = run_ranks(loads, 1)
    four = run_ranks(loads, 4)
    for loaded in (one, *four):
        assert loaded["whole"][0][0] == 6
    # On one rank, the epoch has twice the batches; each sample occurs once.
    assert sorted(number for record in one["whole"] for number in record[1]) == list(range(20))
    noise = [tuple(record[2] for record in each["whole"][:2]) for each in four]
    assert len(set(noise)) == 4
    assert noise[0] == tuple(record[2] for record in one["whole"][:2])
    assert "was saved on 2 ranks and is loaded on 1" in one["whole warnings"][0]
    assert "was saved on 2 ranks and is loaded on 4" in four[0]["whole warnings"][0]
    assert "'trainer'" in four[0]["whole warnings"][0]
    assert [len(each["whole warnings"]) for each in four] == [1, 0, 0, 0]
    first, second = run_ranks(loads)
    assert (first["whole warnings"], second["whole warnings"]) == ([], [])
    assert first["whole"][0][2] == noise[0][0]
    assert second["whole"][0][2] == noise[1][0]
    # After an exception, only rank 0 has saved.
    assert "on one of 2 ranks after an exception" in first["failed warnings"][0]
    assert second["failed warnings"] == []
    assert first["failed"][0][2] != second["failed"][0][2]
