"""BasicTimeProfiler and HandlersTimeProfiler: what they measure, and their results."""

import copy
import csv
import pickle
import re

import pytest
import torch
from torch import nn

import glowplug_timers.run_meter
from glowplug import Engine, EventEnum, Events
from glowplug.testing import FakeEngine
from glowplug_testing.engine_play import registered
from glowplug_timers import BasicTimeProfiler, HandlersTimeProfiler

each_profiler = pytest.mark.parametrize("profiler_class", [BasicTimeProfiler, HandlersTimeProfiler])


class Custom(EventEnum):
    """Events that the step fires."""

    HALFTIME = "halftime"


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests advance: ``clock[0] += seconds``."""
    now = [100.0]
    monkeypatch.setattr(glowplug_timers.run_meter, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def takes(clock):
    """Return a function that returns a named handler that takes some seconds."""

    def make(name, seconds):
        def handler():
            clock[0] += seconds

        handler.__qualname__ = name
        return handler

    return make


@pytest.fixture
def data(clock):
    """Return a function that returns batches, each of which takes 0.5 seconds."""

    class Data:
        def __init__(self, length):
            self.length = length

        def __iter__(self):
            for number in range(self.length):
                clock[0] += 0.5
                yield number

    return Data


@pytest.fixture
def trainer(clock, takes):
    """An engine whose step takes 2 seconds, and a handler of a custom event in it 1 second, with handlers at many events."""

    def step(engine, batch):
        clock[0] += 2.0
        engine.fire_event(Custom.HALFTIME)

    trainer = Engine(step)
    trainer.register_events(*Custom)
    trainer.add_event_handler(Custom.HALFTIME, takes("halve", 1.0))
    trainer.add_event_handler(Events.STARTED, takes("prepare", 7.0))
    trainer.add_event_handler(Events.GET_BATCH_STARTED, takes("announce", 0.25))
    trainer.add_event_handler(Events.GET_BATCH_COMPLETED, takes("inspect", 0.125))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, takes("log", 0.75))
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), takes("draw", 3.0))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, takes("save", 20.0))
    trainer.add_event_handler(Events.COMPLETED(once=100), takes("never", 1.0))
    return trainer


class TestResults:
    def test_basic(self, trainer, data):
        """The step, the data and the handlers of each event are measured, and the handlers are named (H-092)."""
        profiler = BasicTimeProfiler()
        profiler.attach(trainer)
        trainer.run(data(3), max_epochs=2)
        results = profiler.get_results()
        assert results["processing_stats"] == {
            "total": 18.0, "min/index": (3.0, 0), "max/index": (3.0, 0), "mean": 3.0, "std": 0.0
        }  # fmt: skip
        assert results["dataflow_stats"] == {
            "total": 3.0, "min/index": (0.5, 0), "max/index": (0.5, 0), "mean": 0.5, "std": 0.0
        }  # fmt: skip
        handlers, names = results["event_handlers_stats"], results["event_handlers_names"]
        assert handlers["STARTED"] == {"total": 7.0}
        assert handlers["ITERATION_STARTED"] == {"total": 0.0}
        assert handlers["COMPLETED"] == {"total": "not yet triggered"}
        assert handlers["EPOCH_COMPLETED"]["total"] == 40.0
        completed = handlers["ITERATION_COMPLETED"]
        assert (completed["min/index"], completed["max/index"]) == ((0.75, 0), (3.75, 1))
        assert completed["mean"] == pytest.approx(2.25)
        assert completed["std"] == pytest.approx(torch.tensor([0.75, 3.75] * 3).std().item())
        assert handlers["GET_BATCH_COMPLETED"]["total"] == 6 * 0.125
        assert handlers["total_time"].item() == sum(
            each["total"]
            for name, each in handlers.items()
            if name != "total_time" and not isinstance(each["total"], str)
        )
        assert names["ITERATION_COMPLETED_names"] == ["log", "draw"]
        assert names["STARTED_names"] == ["prepare"]

    def test_handlers(self, trainer, data):
        """Each handler is measured, a skipped call is not counted, and custom events are included (H-093)."""
        profiler = HandlersTimeProfiler()
        profiler.attach(trainer)
        trainer.run(data(3), max_epochs=2)
        rows = {(row[0], row[1]): row[2:] for row in profiler.get_results()}
        assert rows["draw", "ITERATION_COMPLETED"] == [9.0, (3.0, 0), (3.0, 0), 3.0, 0.0]
        assert rows["log", "ITERATION_COMPLETED"] == [4.5, (0.75, 0), (0.75, 0), 0.75, 0.0]
        assert rows["prepare", "STARTED"] == [7.0, (7.0, 0), (7.0, 0), 7.0, "None"]
        assert rows["halve", "HALFTIME"][0] == 6.0
        assert rows["never", "COMPLETED"] == [
            "not triggered", ("None", "None"), ("None", "None"), "None", "None"
        ]  # fmt: skip
        # An engine requests a batch seven times: it notices the end of the first epoch when there is no fourth batch.
        last = profiler.get_results()[-3:]
        assert [row[:3] for row in last] == [
            ["Total", "", 7.0 + 6.0 + 1.75 + 0.75 + 4.5 + 9.0 + 40.0],
            ["Processing", "None", 18.0],
            ["Dataflow", "None", 3.0],
        ]

    def test_short_filtered_call(self, takes, clock):
        """A call counts however short it is, also at a filtered event (H-093)."""
        engine, profiler = Engine(lambda engine, batch: None), HandlersTimeProfiler()
        profiler.attach(engine)
        engine.add_event_handler(Events.EPOCH_STARTED(once=2), takes("short", 1e-6))
        engine.run([1], max_epochs=2)
        assert profiler.get_results()[0][:2] == ["short", "EPOCH_STARTED"]
        assert profiler.get_results()[0][2] == pytest.approx(1e-6)

    def test_threshold(self, trainer, data):
        """Short calls at filtered events are ignored if the threshold is set (H-093)."""
        profiler = HandlersTimeProfiler()
        profiler.EVENT_FILTER_THESHOLD_TIME = 3.5
        profiler.attach(trainer)
        trainer.run(data(3), max_epochs=2)
        totals = {row[0]: row[2] for row in profiler.get_results()}
        assert (totals["draw"], totals["log"]) == ("not triggered", 4.5)

    @each_profiler
    def test_real_training(self, profiler_class):
        """In a real training, all times together are not more than the time of the run, and none is missing (H-092, H-093)."""
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def step(engine, batch):
            optimizer.zero_grad()
            model(batch).mean().backward()
            optimizer.step()

        trainer, profiler = Engine(step), profiler_class()
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: torch.ones(100, 100).inverse)
        trainer.attach(profiler)
        trainer.run(torch.utils.data.DataLoader(torch.ones(32, 4), batch_size=8), max_epochs=3)
        times = profiler.processing_times, profiler.dataflow_times
        assert [len(each) for each in times] == [12, 12]
        seconds = sum(sum(getattr(each, "seconds", each)) for each in times)
        assert 0 < seconds < trainer.state.times["COMPLETED"]

    @each_profiler
    @pytest.mark.parametrize("run", [{"max_iters": 5}, {"max_epochs": 2}])
    def test_unknown_length(self, trainer, clock, profiler_class, run):
        """Neither max_iters nor data of unknown length is a problem (H-092)."""

        class Endless:
            def __iter__(self):
                for number in range(3):
                    clock[0] += 0.5
                    yield number

        profiler = profiler_class()
        profiler.attach(trainer)
        iterations = trainer.run(Endless(), **run).iteration
        assert iterations in {5, 6}
        assert len(profiler.processing_times) == len(profiler.dataflow_times) == iterations

    @each_profiler
    def test_without_data(self, trainer, profiler_class):
        """A run without data has no time of the data (H-092)."""
        profiler = profiler_class()
        profiler.attach(trainer)
        trainer.run(max_epochs=1, epoch_length=2)
        assert (len(profiler.processing_times), len(profiler.dataflow_times)) == (2, 0)


class TestRuns:
    @each_profiler
    @pytest.mark.parametrize("end", ["completes", "skips completed", "fails", "fails at the start"])
    def test_no_handlers_are_left(self, trainer, data, profiler_class, end):
        """However the run ends, no handler is left, and the exception is raised (H-092, H-093)."""
        before = registered(trainer)
        handle = profiler_class().attach(trainer)
        attached = registered(trainer)
        actions = {
            "completes": (Events.STARTED, lambda: None),
            "skips completed": (
                Events.ITERATION_COMPLETED(once=2), lambda: trainer.terminate(skip_completed=True)
            ),
            "fails": (Events.ITERATION_COMPLETED(once=2), lambda: 1 / 0),
            "fails at the start": (Events.STARTED, lambda: 1 / 0),
        }  # fmt: skip
        with trainer.add_event_handler(*actions[end]):
            if end.startswith("fails"):
                with pytest.raises(ZeroDivisionError):
                    trainer.run(data(3))
            else:
                trainer.run(data(3))
        assert registered(trainer) == attached
        assert len(attached) == len(before) + 2
        handle.remove()
        assert registered(trainer) == before

    @each_profiler
    def test_new_and_continued_run(self, trainer, data, profiler_class):
        """A new run discards the times; a run that continues, also after interrupt(), adds to them (H-092)."""
        profiler = profiler_class()
        profiler.attach(trainer)
        for _ in range(2):
            trainer.state.max_epochs = None
            trainer.run(data(3), max_epochs=1)
            assert len(profiler.processing_times) == 3
        with trainer.add_event_handler(Events.ITERATION_COMPLETED, trainer.interrupt):
            trainer.run(data(3), max_epochs=2)
        assert len(profiler.processing_times) == 4
        trainer.run(data(3), max_epochs=2)
        assert len(profiler.processing_times) == 6

    @each_profiler
    def test_during_the_run(self, trainer, data, profiler_class, capsys):
        """Results can be printed during the run, and do not contain the profiler itself (H-092, H-093)."""
        profiler, printed = profiler_class(), []
        profiler.attach(trainer)

        @trainer.on(Events.ITERATION_COMPLETED(every=2))
        def show():
            printed.append(profiler.print_results(profiler.get_results()))

        trainer.run(data(3), max_epochs=2)
        assert capsys.readouterr().out == "".join(f"{text}\n" for text in printed)
        assert len(printed) == 3
        assert all("draw" in text and "nan" not in text and "Profiler" not in text for text in printed)

    @each_profiler
    def test_failing_handler(self, trainer, data, profiler_class):
        """The time of a handler that fails counts (H-093)."""
        profiler = profiler_class()
        profiler.attach(trainer)
        failing = trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: 1 / 0)
        with failing, pytest.raises(ZeroDivisionError):
            trainer.run(data(3))
        assert "<lambda>" in str(profiler.get_results())

    @each_profiler
    def test_second_engine(self, profiler_class):
        """A profiler measures one engine at a time, and only an engine (H-092)."""
        profiler, fake = profiler_class(), FakeEngine()
        handle = profiler.attach(fake)
        with pytest.raises(ValueError, match=f"this {profiler_class.__name__} is already attached"):
            profiler.attach(FakeEngine())
        handle.remove()
        profiler.attach(FakeEngine())
        with pytest.raises(TypeError, match=r"attach needs a glowplug engine, got None"):
            profiler.attach(None)

    @each_profiler
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda engine: pickle.loads(pickle.dumps(engine))])
    def test_copied_engine(self, profiler_class, copied):
        """An engine with a profiler can be copied, also by way of the profiler, and the copy is measured by a copy."""
        engine, profiler = Engine(_step), profiler_class()
        profiler.attach(engine)
        for other in (copied(engine), copied((profiler, engine))[1]):
            other.run([1, 2])
            (meter,) = {
                each.handler.__self__ for each in other.registrations() if each.event is Events.STARTED
            }
            assert len(meter.owner.processing_times) == 2
        assert len(profiler.processing_times) == 0


def _step(engine, batch):
    """A step that can be pickled."""


def rows_of(path):
    """Return the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class TestFilesAndTables:
    def test_csv_of_basic(self, trainer, data, tmp_path):
        """The file has a row for each iteration, with the times of its epoch (H-092)."""
        profiler = BasicTimeProfiler()
        profiler.attach(trainer)
        trainer.run(data(3), max_epochs=2)
        profiler.write_results(tmp_path / "times.csv")
        rows = rows_of(tmp_path / "times.csv")
        assert [(row["epoch"], row["iteration"]) for row in rows] == [
            ("1", "1"), ("1", "2"), ("1", "3"), ("2", "4"), ("2", "5"), ("2", "6")
        ]  # fmt: skip
        assert {row["processing_stats"] for row in rows} == {"3.0"}
        assert {row["dataflow_stats"] for row in rows} == {"0.5"}
        assert [row["Event_ITERATION_COMPLETED"] for row in rows] == ["0.75", "3.75"] * 3
        assert {row["Event_EPOCH_COMPLETED"] for row in rows} == {"20.0"}
        assert {row["Event_STARTED"] for row in rows} == {"7.0"}
        assert {row["Event_COMPLETED"] for row in rows} == {""}
        assert {row["Event_GET_BATCH_COMPLETED"] for row in rows} == {"0.125"}
        # The request that finds the end of the first epoch belongs to the next iteration, like the one after it.
        assert [row["Event_GET_BATCH_STARTED"] for row in rows] == [
            "0.25",
            "0.25",
            "0.25",
            "0.5",
            "0.25",
            "0.25",
        ]

    def test_csv_of_handlers(self, trainer, data, tmp_path):
        """The file has a column for each handler, with a cell for each call (H-093)."""
        profiler = HandlersTimeProfiler()
        profiler.attach(trainer)
        trainer.run(data(3), max_epochs=2)
        profiler.write_results(str(tmp_path / "times.csv"))
        rows = rows_of(tmp_path / "times.csv")
        assert [row["#"] for row in rows][:3] == ["1", "2", "3"]
        assert [row["processing_stats"] for row in rows][:7] == ["3.0"] * 6 + [""] * (len(rows) > 6)
        assert [row["draw (ITERATION_COMPLETED)"] for row in rows][:4] == ["3.0", "3.0", "3.0", ""]
        assert [row["save (EPOCH_COMPLETED)"] for row in rows][:3] == ["20.0", "20.0", ""]

    def test_table_of_handlers(self, trainer, data, capsys):
        """The table begins with the slowest handler, and printing does not change the results (H-093)."""
        profiler = HandlersTimeProfiler()
        profiler.attach(trainer)
        trainer.run(data(3), max_epochs=2)
        results = profiler.get_results()
        before = copy.deepcopy(results)
        assert profiler.print_results(results) == profiler.print_results(results)
        assert results == before
        lines = capsys.readouterr().out.splitlines()[: len(results) + 1]
        assert [line.split()[0] for line in lines] == [
            *("handler", "save", "draw", "prepare", "halve", "log", "announce", "inspect", "never"),
            *("Total", "Processing", "Dataflow"),
        ]
        assert re.fullmatch(
            r"draw +ITERATION_COMPLETED +9\.00000 +3\.00000/0 +3\.00000/0 +3\.00000  0\.00000", lines[2]
        )
        assert (
            len({line.index(" ITERATION_COMPLETED") for line in lines if "ITERATION_COMPLETED" in line}) == 1
        )

    def test_table_of_basic(self, trainer, data, capsys):
        """The table has a line for each event, with the names of its handlers (H-092)."""
        profiler = BasicTimeProfiler()
        profiler.attach(trainer)
        trainer.run(data(3), max_epochs=2)
        text = profiler.print_results(profiler.get_results())
        assert capsys.readouterr().out == f"{text}\n"
        line = next(line for line in text.splitlines() if line.startswith("  ITERATION_COMPLETED"))
        assert re.fullmatch(
            r"  ITERATION_COMPLETED +13\.50000 +0\.75000/0 +3\.75000/1 +2\.25000  1\.64317  log, draw", line
        )
