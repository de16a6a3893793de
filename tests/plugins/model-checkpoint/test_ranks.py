"""Tests of checkpoints with several ranks."""


def test_rank_0_decides(run_ranks, tmp_path):
    """If scores differ between ranks, all ranks keep the checkpoints that rank 0 chooses (H-035)."""
    (tmp_path / "scores").mkdir()

    def ranks(rank):
        from pathlib import Path

        from torch import nn

        from glowplug import Engine
        from glowplug_model_checkpoint import ModelCheckpoint

        folder = Path(__file__).parent / "scores"
        scores = [[0.5, 0.1, 0.9, float("nan"), 0.7], [0.1, 0.9, float("nan"), 0.3, 0.2]][rank]
        engine = Engine(lambda engine, batch: None)
        checkpoint = ModelCheckpoint(
            folder,
            n_saved=2,
            score_function=lambda engine: scores[engine.state.epoch - 1],
            global_step_transform=lambda engine, event: engine.state.epoch,
            to_save={"model": nn.Linear(1, 1)},
        )
        engine.attach(checkpoint)
        durable = []
        engine.add_event_handler(
            checkpoint.SAVED_CHECKPOINT, lambda: durable.append(checkpoint.last_checkpoint.exists())
        )
        if rank == 0:
            import warnings

            warnings.simplefilter("ignore")
        engine.run([1], max_epochs=5)
        return {
            "saved": [item.filename for item in checkpoint.saved],
            "files": sorted(path.name for path in folder.iterdir()),
            "durable": durable,
        }

    first, second = run_ranks(ranks)
    assert first["saved"] == second["saved"] == ["model_3_0.9000.pt", "model_5_0.7000.pt"]
    assert first["files"] == ["model_3_0.9000.pt", "model_5_0.7000.pt"]
    assert first["durable"] == second["durable"] == [True] * 4


def test_ranks_wait_for_the_file(run_ranks, tmp_path):
    """With a slow save handler, each rank can read the file as soon as its call returns (H-035)."""
    (tmp_path / "slow").mkdir()

    def ranks(rank):
        import time
        from pathlib import Path

        import torch
        from torch import nn

        from glowplug.testing import FakeEngine
        from glowplug_model_checkpoint import Checkpoint, DiskSaver

        class Slow(DiskSaver):
            def save(self, *arguments):
                time.sleep(0.3)
                super().save(*arguments)

        folder = Path(__file__).parent / "slow"
        fake, model = FakeEngine(), nn.Linear(1, 1)
        checkpoint = Checkpoint({"model": model}, Slow(folder, save_on_rank=1), save_on_rank=1)
        read = []
        for iteration in (1, 2, 3):
            fake.state.iteration = iteration
            checkpoint(fake)
            read.append(sorted(torch.load(checkpoint.last_checkpoint, weights_only=True)))
        return read

    assert run_ranks(ranks) == [[["bias", "weight"]] * 3] * 2


def test_failure_is_raised_on_all_ranks(run_ranks, tmp_path):
    """A failed write, score or state on one rank raises on both, and their lists stay equal (H-035, C2)."""
    (tmp_path / "failing").mkdir()

    def ranks(rank):
        from pathlib import Path

        from glowplug.testing import FakeEngine
        from glowplug_model_checkpoint import Checkpoint, DiskSaver

        class Saver(DiskSaver):
            full = False

            def save(self, *arguments):
                if self.full:
                    raise OSError(28, "No space left on device")
                super().save(*arguments)

        class Model:
            def state_dict(self):
                if broken == ("state", rank):
                    raise RuntimeError("no state here")
                return {}

        def score(engine):
            if broken == ("score", rank):
                raise ZeroDivisionError("no score here")
            return engine.state.iteration

        broken, problems = None, []
        saver = Saver(Path(__file__).parent / "failing")
        checkpoint = Checkpoint({"model": Model()}, saver, score_function=score)
        fake = FakeEngine()
        checkpoint(fake)
        for iteration, broken in enumerate(
            [("disk", 0), ("score", 0), ("score", 1), ("state", 0), ("state", 1)], 1
        ):
            saver.full = broken[0] == "disk"
            fake.state.iteration = iteration
            try:
                checkpoint(fake)
            except Exception as error:
                problems.append(f"{type(error).__name__}: {error}")
        saver.full, broken = False, None
        fake.state.iteration = 100
        checkpoint(fake)
        return [
            problems,
            [item.filename for item in checkpoint.saved],
            [path.name for path in saver.dirname.iterdir()],
        ]

    def reported(rank, other, problem):
        return f"RuntimeError: rank {rank} stops because rank {other} failed: {problem}"

    (first, *rest), (second, *same) = run_ranks(ranks)
    disk, score, state = (
        "OSError: [Errno 28] No space left on device",
        "ZeroDivisionError: no score here",
        "RuntimeError: no state here",
    )
    assert first == [disk, score, reported(0, 1, score), state, reported(0, 1, state)]
    assert second == [reported(1, 0, disk), reported(1, 0, score), score, reported(1, 0, state), state]
    assert rest == same == [["model_0_100.pt"], ["model_0_100.pt"]]


def test_exception_on_one_rank(run_ranks, tmp_path):
    """At EXCEPTION_RAISED only the writing rank saves, and no rank waits for another (H-034)."""
    for number in range(2):
        (tmp_path / f"exception{number}").mkdir()

    def ranks(rank):
        from pathlib import Path

        from torch import nn

        from glowplug import Engine, Events
        from glowplug.exceptions import RankFailedError
        from glowplug_model_checkpoint import ModelCheckpoint

        found = []
        for failing in (0, 1):
            folder = Path(__file__).parent / f"exception{failing}"

            def step(engine, batch, failing=failing):
                if rank == failing:
                    raise ZeroDivisionError("boom")

            engine = Engine(step)
            checkpoint = ModelCheckpoint(folder, to_save={"model": nn.Linear(1, 1)})
            checkpoint.attach(engine, Events.EXCEPTION_RAISED)
            try:
                engine.run([1])
                found.append("continued")
            except (ZeroDivisionError, RankFailedError) as error:
                found.append([type(error).__name__, sorted(path.name for path in folder.iterdir())])
        return found

    first, second = run_ranks(ranks)
    assert first == [["ZeroDivisionError", ["model_1.pt"]], ["RankFailedError", ["model_1.pt"]]]
    assert [each[0] for each in second] == ["RankFailedError", "ZeroDivisionError"]


def test_ddp_and_sharded_optimizers(run_ranks, tmp_path):
    """DDP is saved as its inner model, and a ZeroRedundancyOptimizer as a whole (H-030)."""
    (tmp_path / "zero").mkdir()

    def ranks(rank):
        from pathlib import Path

        import torch
        from torch import nn
        from torch.distributed.optim import ZeroRedundancyOptimizer
        from torch.nn.parallel import DistributedDataParallel

        from glowplug import Events
        from glowplug.testing import FakeEngine
        from glowplug_model_checkpoint import Checkpoint

        torch.manual_seed(0)
        model = DistributedDataParallel(nn.Linear(2, 1))
        optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        to_save = {"model": model, "optimizer": optimizer}
        checkpoint = Checkpoint(to_save, Path(__file__).parent / "zero")
        fake = FakeEngine()
        checkpoint(fake)
        fresh = nn.Linear(2, 1)
        Checkpoint.load_objects({"model": fresh}, checkpoint.last_checkpoint)
        content = torch.load(checkpoint.last_checkpoint, weights_only=True)
        fake.state.iteration = 1
        fake.add_event_handler(Events.EXCEPTION_RAISED, checkpoint)
        try:
            fake.fire(Events.EXCEPTION_RAISED, error=ValueError())
            refused = None
        except RuntimeError as error:
            refused = str(error)
        return [
            sorted(content["model"]),
            len(content["optimizer"]["state"]),
            bool(torch.equal(fresh.weight, model.module.weight)),
            refused,
        ]

    first, second = run_ranks(ranks)
    assert first[:3] == second[:3] == [["bias", "weight"], 2, True]
    assert "gathers its state from all ranks" in first[3]
    assert second[3] is None


def test_disk_saver_writes_on_one_rank(run_ranks, tmp_path):
    """Other ranks neither write nor remove files, and ignore require_empty (H-044)."""
    (tmp_path / "one").mkdir()

    def ranks(rank):
        from pathlib import Path

        import torch.distributed as dist

        from glowplug_model_checkpoint import DiskSaver

        folder = Path(__file__).parent / "one"
        saver = DiskSaver(folder, save_on_rank=1)
        dist.barrier()
        saver({"rank": rank}, f"{rank}.pt")
        dist.barrier()
        if rank == 0:
            saver.remove("1.pt")
            DiskSaver(folder, save_on_rank=1)
        dist.barrier()
        return sorted(path.name for path in folder.iterdir())

    assert run_ranks(ranks) == [["1.pt"], ["1.pt"]]


def test_ddp_and_compile(run_ranks, tmp_path):
    """DDP, a compiled DDP and a DDP of a compiled model are saved with plain names and load into each other (H-030)."""
    (tmp_path / "wrapped").mkdir()

    def ranks(rank):
        from pathlib import Path

        import torch
        from torch import nn
        from torch.nn.parallel import DistributedDataParallel

        from glowplug.testing import FakeEngine
        from glowplug_model_checkpoint import Checkpoint, ModelCheckpoint

        def compiled(model):
            return torch.compile(model, backend="eager")

        def inner(model):
            model[0] = DistributedDataParallel(model[0])
            return model

        wrappers = {
            "plain": lambda model: model,
            "ddp": DistributedDataParallel,
            "compiled": lambda model: compiled(DistributedDataParallel(model)),
            "of_compiled": lambda model: DistributedDataParallel(compiled(model)),
            "inner": inner,
        }
        found = []
        for name, wrap in wrappers.items():
            torch.manual_seed(1)
            source = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
            expected = {key: value.clone() for key, value in source.state_dict().items()}
            checkpoint = ModelCheckpoint(
                Path(__file__).parent / "wrapped", name, to_save={"model": wrap(source)}
            )
            checkpoint(FakeEngine())
            for other in wrappers.values():
                torch.manual_seed(2)
                plain = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
                # Before DDP replaces a part of it.
                parameters = dict(plain.named_parameters())
                checkpoint.restore({"model": other(plain)})
                found.append(all(torch.equal(parameters[key], expected[key]) for key in expected))
            Checkpoint.load_objects({"model": plain}, checkpoint.last_checkpoint)
        return [found, sorted(torch.load(checkpoint.last_checkpoint, weights_only=True))]

    names = ["0.bias", "0.weight", "1.bias", "1.weight"]
    assert run_ranks(ranks) == [[[True] * 25, names]] * 2


def test_resume_and_interval(run_ranks, tmp_path):
    """Both ranks resume from the checkpoint that rank 0 chose, and a filter by time lets both through at once (H-035, C3)."""
    (tmp_path / "resumed").mkdir()

    def ranks(rank):
        import time
        import warnings
        from itertools import pairwise
        from pathlib import Path

        import torch.distributed as dist
        from torch import nn

        from glowplug import Engine
        from glowplug_model_checkpoint import Every, ModelCheckpoint

        folder, times = Path(__file__).parent / "resumed", []

        class Timed(Every):
            """Notes when it lets an event through."""

            def __call__(self, engine, event):
                now = time.monotonic()
                is_due = super().__call__(engine, event)
                if is_due:
                    times.append(now)
                return is_due

        def train(epochs):
            trainer = Engine(lambda engine, batch: time.sleep(0.001 * (1 + rank)))
            to_save = {"model": nn.Linear(1, 1), "trainer": trainer}
            checkpoint = ModelCheckpoint(folder, n_saved=None, resume="auto", to_save=to_save)
            checkpoint.attach(trainer, Timed(seconds=0.05))
            resumed_at = trainer.state.iteration
            weight = to_save["model"].weight.item()
            trainer.run([None] * 60, max_epochs=epochs)
            return checkpoint, resumed_at, weight

        first, begun, _ = train(2)
        intervals = [later - earlier for earlier, later in pairwise(times)]
        dist.barrier()
        newest = first.last_checkpoint
        if rank == 0:
            newest.write_bytes(newest.read_bytes()[:-1])
        dist.barrier()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            second, resumed_at, weight = train(3)
        return {
            "begun": begun,
            "shortest": min(intervals),
            "steps": [each.iteration for each in first.saved],
            "resumed": resumed_at == first.saved[-2].iteration and second.resumed_from.name,
            "weight": weight,
            "warnings": len(caught),
        }

    first, second = run_ranks(ranks)
    assert first["steps"] == second["steps"]
    assert len(first["steps"]) >= 3
    # The clock of rank 0 decides.
    assert first["shortest"] >= 0.049
    assert first["resumed"] == second["resumed"] != False  # noqa: E712 - not a name
    assert first["weight"] == second["weight"]
    assert (first["begun"], first["warnings"], second["warnings"]) == (0, 1, 0)


def test_saves_in_the_background(run_ranks, tmp_path):
    """All ranks complete a save at the end of the epoch after it, and a failure of the writing rank ends them all (C5, H-035)."""
    (tmp_path / "background").mkdir()

    def ranks(rank):
        from pathlib import Path

        import torch
        from torch import nn

        from glowplug import Engine, Events
        from glowplug_model_checkpoint import Checkpoint, DiskSaver

        class Saver(DiskSaver):
            def save(self, checkpoint, filename, metadata=None):
                if metadata["epoch"] == 5:
                    raise OSError(28, "No space left on device")
                super().save(checkpoint, filename, metadata)

        model = nn.Linear(1, 1, bias=False)
        model.weight.data.zero_()
        trainer = Engine(lambda engine, batch: model.weight.data.add_(1.0).item())
        folder = Path(__file__).parent / "background"
        saver = Saver(folder, save_on_rank=1)
        checkpoint = Checkpoint({"model": model}, saver, n_saved=2, save_on_rank=1, async_save=True)
        checkpoint.attach(trainer, Events.EPOCH_COMPLETED)
        seen = []

        @trainer.on(checkpoint.SAVED_CHECKPOINT)
        def note(engine):
            weight = torch.load(checkpoint.last_checkpoint, weights_only=True)["weight"].item()
            seen.append((engine.state.epoch, weight))

        try:
            trainer.run([0] * 4, max_epochs=8)
            problem = None
        except (OSError, RuntimeError) as error:
            problem = f"{type(error).__name__}: {error}"
        return [seen, problem, [each.iteration for each in checkpoint.saved], trainer.state.epoch]

    first, second = run_ranks(ranks)
    assert first[0] == second[0] == [[2, 4.0], [3, 8.0], [4, 12.0], [5, 16.0]]
    assert first[2:] == second[2:] == [[12, 16], 6]
    assert second[1] == "OSError: [Errno 28] No space left on device"
    assert first[1] == f"RuntimeError: rank 0 stops because rank 1 failed: {second[1]}"


def test_failed_run_with_a_save_in_the_background(run_ranks, tmp_path):
    """After an exception on one rank, that rank completes its save without waiting for the other (C5, H-034)."""
    (tmp_path / "failed").mkdir()

    def ranks(rank):
        from pathlib import Path

        from torch import nn

        from glowplug import Engine, Events
        from glowplug_model_checkpoint import ModelCheckpoint

        def step(engine, batch):
            # In different iterations, so that a rank that waits for the other one would hang.
            if engine.state.iteration == 3 + rank:
                raise ZeroDivisionError("boom")

        trainer = Engine(step)
        folder = Path(__file__).parent / "failed"
        checkpoint = ModelCheckpoint(folder, to_save={"model": nn.Linear(1, 1)}, async_save=True)
        checkpoint.attach(trainer, Events.ITERATION_COMPLETED(once=2))
        try:
            trainer.run([0] * 5)
        except ZeroDivisionError:
            return [path.name for path in folder.iterdir()], [each.filename for each in checkpoint.saved]
        return None

    first, second = run_ranks(ranks)
    assert first == [["model_2.pt"], ["model_2.pt"]]
    assert second[1] == ["model_2.pt"]
