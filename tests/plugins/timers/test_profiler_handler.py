"""ProfilerHandler: the traces that it writes, however the run ends."""

import json

import pytest
import torch
from torch import nn

from glowplug import Engine, Events
from glowplug.testing import FakeEngine
from glowplug_timers import ProfilerHandler


@pytest.fixture
def trainer():
    """An engine that trains a small model."""
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(engine, batch):
        optimizer.zero_grad()
        model(batch).mean().backward()
        optimizer.step()

    return Engine(step)


DATA = torch.ones(12, 2, 4)


def traces(folder):
    """Return the names of the events of each trace in a folder."""
    paths = sorted(folder.iterdir()) if folder.exists() else []
    assert all(path.name.endswith(".pt.trace.json") for path in paths)
    return [
        [
            event["name"]
            for event in json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
            if "name" in event
        ]
        for path in paths
    ]


def steps(names):
    """Return which steps of the profiler are in a trace."""
    return sorted({name for name in names if name.startswith("ProfilerStep#")})


class TestTraces:
    def test_schedule(self, trainer, tmp_path):
        """A trace has the recorded iterations, the operations of torch, and the handlers by name."""

        def remember(engine): ...

        trainer.add_event_handler(Events.ITERATION_STARTED, remember)
        trainer.attach(ProfilerHandler(tmp_path / "traces", wait=2, warmup=1, active=3))
        trainer.run(DATA)
        (names,) = traces(tmp_path / "traces")
        assert steps(names) == ["ProfilerStep#3", "ProfilerStep#4", "ProfilerStep#5"]
        assert "aten::addmm" in names
        assert "Optimizer.step#SGD.step" in names
        assert sum(name.endswith("remember at Events.ITERATION_STARTED") for name in names) == 3
        assert not [name for name in names if "ProfilerHandler" in name]

    def test_cycles(self, trainer, tmp_path):
        """Each cycle writes a trace, after the iterations that are skipped first."""
        trainer.attach(ProfilerHandler(tmp_path, wait=1, warmup=1, active=1, repeat=2, skip_first=3))
        trainer.run(DATA)
        assert sorted(map(steps, traces(tmp_path))) == [["ProfilerStep#5"], ["ProfilerStep#8"]]

    def test_own_function(self, trainer, tmp_path):
        """A function can use the profile instead, and options reach torch."""
        tables = []
        handler = ProfilerHandler(
            on_trace_ready=lambda profile: tables.append(profile.key_averages(group_by_input_shape=True)),
            active=2,
            record_shapes=True,
        )
        trainer.attach(handler)
        trainer.run(DATA)
        (table,) = tables
        assert [[2, 4]] in [[shape for shape in each.input_shapes if shape == [2, 4]] for each in table]
        assert handler.profile is not None


class TestEnd:
    @pytest.mark.parametrize(
        "end", ["terminate", "skip completed", "error", "interrupt", "short data", "detach"]
    )
    def test_within_a_cycle(self, trainer, tmp_path, end):
        """If the run ends within a cycle, the trace has what was recorded, and another profile can start."""
        handler = ProfilerHandler(tmp_path, wait=1, warmup=1, active=100)
        handle = handler.attach(trainer)
        actions = {
            "terminate": trainer.terminate,
            "skip completed": lambda: trainer.terminate(skip_completed=True),
            "error": lambda: 1 / 0,
            "interrupt": trainer.interrupt,
            "short data": lambda: None,
            "detach": handle.remove,
        }
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), actions[end])
        if end == "error":
            with pytest.raises(ZeroDivisionError):
                trainer.run(DATA)
        else:
            trainer.run(DATA[:5] if end == "short data" else DATA)
        (names,) = traces(tmp_path)
        assert {"ProfilerStep#2", "ProfilerStep#3", "ProfilerStep#4"} <= set(steps(names))
        with torch.profiler.profile() as other:
            torch.ones(2).sum()
        assert other.events()

    def test_before_the_first_step(self, trainer, tmp_path):
        """A run that fails before the profiler records anything writes nothing, and the next run is profiled."""
        trainer.attach(ProfilerHandler(tmp_path, wait=0, warmup=1, active=2))
        with (
            trainer.add_event_handler(Events.GET_BATCH_STARTED, lambda: 1 / 0),
            pytest.raises(ZeroDivisionError),
        ):
            trainer.run(DATA)
        before = len(traces(tmp_path))
        trainer.state.max_epochs = None
        trainer.run(DATA)
        assert len(traces(tmp_path)) == before + 1

    def test_failing_function(self, trainer, tmp_path):
        """If a trace cannot be used, the exception ends the run, and the next run is profiled."""
        traces = []

        def use(profile):
            traces.append(len(profile.events()))
            if len(traces) == 1:
                raise OSError("no space")

        trainer.attach(ProfilerHandler(on_trace_ready=use, wait=0, active=1, repeat=3))
        with pytest.raises(OSError, match="no space"):
            trainer.run(DATA)
        trainer.state.max_epochs = None
        trainer.run(DATA)
        assert len(traces) == 4
        assert all(traces)

    def test_after_an_interruption(self, trainer, tmp_path):
        """After an interruption, the schedule begins again."""
        trainer.attach(ProfilerHandler(tmp_path, wait=3, warmup=1, active=2))
        with trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.interrupt):
            trainer.run(DATA)
        assert traces(tmp_path) == []
        trainer.run(DATA)
        assert [len(steps(names)) for names in traces(tmp_path)] == [2]


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"dirname": "x", "active": 0}, ValueError, "active must be an integer of at least 1, got 0"),
            ({"dirname": "x", "wait": -1}, ValueError, "wait must be an integer of at least 0, got -1"),
            ({"dirname": "x", "repeat": 1.5}, ValueError, "repeat must be an integer of at least 0, got 1.5"),
            ({}, ValueError, "either dirname or on_trace_ready"),
            ({"dirname": "x", "on_trace_ready": print}, ValueError, "either dirname or on_trace_ready"),
            (
                {"dirname": "x", "schedule": None},
                TypeError,
                "pass wait, warmup, active, repeat and skip_first",
            ),
            (
                {"dirname": "x", "record_shape": True},
                TypeError,
                r"no option 'record_shape'. Did you mean record_shapes\?",
            ),
        ],
    )
    def test_wrong_options(self, options, error, message):
        """Wrong options are refused when they are given."""
        with pytest.raises(error, match=message):
            ProfilerHandler(**options)

    def test_second_engine(self, tmp_path):
        """A handler profiles one engine at a time."""
        handler = ProfilerHandler(tmp_path)
        handle = handler.attach(FakeEngine())
        handler.attach(FakeEngine())  # the first engine no longer exists
        handle.remove()
        fake = FakeEngine()
        handler.attach(fake)
        with pytest.raises(ValueError, match="already attached to an engine"):
            handler.attach(FakeEngine())


def test_ranks(run_ranks, tmp_path):
    """Each rank writes a trace that is named after it."""

    def ranks(rank):
        from pathlib import Path

        import torch.distributed as dist

        from glowplug import Engine
        from glowplug_timers import ProfilerHandler

        folder = Path(__file__).parent / "traces"
        engine = Engine(lambda engine, batch: None)
        ProfilerHandler(folder).attach(engine)
        engine.run(range(10))
        dist.barrier()
        return sorted(path.name.split(".")[0] for path in folder.iterdir())

    assert run_ranks(ranks) == [["rank0", "rank1"]] * 2
