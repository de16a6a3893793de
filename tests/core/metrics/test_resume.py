"""Metrics in the engine's state: a resumed run publishes the values of an uninterrupted one."""

import pytest
import torch

from glowplug import (
    BatchWise,
    Engine,
    EpochWise,
    Events,
    GlowplugWarning,
    Metric,
    RunningBatchWise,
    RunningEpochWise,
    RunStart,
    SingleEpochRunningBatchWise,
)
from glowplug.testing import FakeEngine

DATA = [1.0, 2.0, 4.0, 8.0]
EPOCHS = 3


class Total(Metric):
    _state_dict_all_req_keys = ("total",)

    def reset(self):
        self.total = torch.zeros(())

    def update(self, output):
        self.total += output

    def compute(self):
        return self.total


def make_engine():
    """Return an engine with metrics of every usage and a composed one, and its log."""
    engine, log = Engine(lambda engine, batch: batch), []
    usages = (EpochWise, BatchWise, RunningBatchWise, SingleEpochRunningBatchWise)
    for usage in usages:
        Total().attach(engine, usage.usage_name, usage())
    (Total() / Total(output_transform=lambda _: 1)).attach(engine, "mean")
    engine.add_event_handler(
        Events.ITERATION_COMPLETED | Events.EPOCH_COMPLETED,
        lambda e: log.append((e.last_event_name, e.state.iteration, dict(e.state.metrics))),
    )
    return engine, log


def logged(log, iteration):
    """Return the entries logged after an iteration."""
    return [entry for entry in log if entry[1] > iteration]


class TestNewRun:
    def test_forced_new_run(self):
        """A new run that is forced after a load resets all metrics (E-096)."""
        engine, _ = make_engine()
        states = []
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: states.append(e.state_dict()))
        expected = engine.run(DATA).metrics
        fresh, _ = make_engine()
        fresh.load_state_dict(states[0])
        fresh.state.max_epochs = None
        assert fresh.run(DATA).metrics == expected

    def test_metric_loaded_by_the_user(self):
        """A new run resets a metric whose state the user has loaded."""
        loaded, engine = Total(), Engine(lambda engine, batch: batch)
        other = Total()
        other.update(100.0)
        loaded.load_state_dict(other.state_dict())
        assert loaded.compute() == 100.0
        loaded.attach(engine, "total", RunningBatchWise())
        assert engine.run(DATA).metrics == {"total": 15.0}

    @pytest.mark.parametrize(
        ("run_start", "total"), [(RunStart.NEW, 0.0), (RunStart.CONTINUED, 5.0), (RunStart.LOADED, 5.0)]
    )
    def test_run_start_decides(self, run_start, total):
        """Loaded data is kept or reset according to run_start, whatever the iteration."""
        fake, metric = FakeEngine(), Total()
        metric.attach(fake, "total", RunningBatchWise())
        metric.update(5.0)
        metric.keep_for_epoch(1, 4)
        fake.fire(
            Events.STARTED, epoch=1, iteration=4 if run_start is RunStart.NEW else 0, run_start=run_start
        )
        assert metric.compute() == total


class TestStateKeys:
    def test_same_name_is_refused(self):
        """A second metric of the same name is refused, and nothing is attached."""
        engine, second = Engine(lambda engine, batch: batch), Total()
        handle = Total().attach(engine, "total")
        with pytest.raises(ValueError, match="Total: the engine already has a metric named 'total'"):
            second.attach(engine, "total")
        assert not second.is_attached(engine)
        assert not engine.has_event_handler(second.iteration_completed)
        handle.remove()
        second.attach(engine, "total")
        assert engine.run(DATA).metrics == {"total": 15.0}

    def test_metric_without_state(self):
        """A metric without declared state can be attached and has no state in the engine."""

        class Plain(Total):
            _state_dict_all_req_keys = ()

        engine = Engine(lambda engine, batch: batch)
        Plain().attach(engine, "plain")
        assert engine.run(DATA).metrics == {"plain": 15.0}
        assert "handlers" not in engine.state_dict()

    @pytest.mark.parametrize("combined", [False, True])
    def test_composed_metric_without_state(self, combined):
        """A composed metric with a part without state has no state in the engine (M-071)."""

        class Plain(Total):
            _state_dict_all_req_keys = ()

        engine = Engine(lambda engine, batch: batch)
        metric = Total() + (Plain() if combined else Total())
        metric.attach(engine, "sum")
        assert engine.run(DATA).metrics == {"sum": 30.0}
        assert ("handlers" in engine.state_dict()) is not combined


class TestResume:
    @pytest.mark.parametrize("stop", range(1, len(DATA) * EPOCHS))
    def test_at_every_iteration(self, stop):
        """After a stop at any iteration, new objects that load the state publish the same later values (C4)."""
        engine, whole = make_engine()
        engine.run(DATA, max_epochs=EPOCHS)

        engine, _ = make_engine()
        states = []
        engine.add_event_handler(
            Events.ITERATION_COMPLETED(once=stop), lambda e: (states.append(e.state_dict()), e.terminate())
        )
        engine.run(DATA, max_epochs=EPOCHS)

        fresh, log = make_engine()
        fresh.load_state_dict(states[0])
        fresh.run(DATA, max_epochs=EPOCHS)
        last_epoch_end = [entry for entry in log if entry[0] is Events.EPOCH_COMPLETED and entry[1] > stop]
        assert last_epoch_end == [
            entry for entry in whole if entry[0] is Events.EPOCH_COMPLETED and entry[1] > stop
        ]
        batchwise = [
            BatchWise.usage_name,
            RunningBatchWise.usage_name,
            SingleEpochRunningBatchWise.usage_name,
        ]
        for resumed, uninterrupted in zip(logged(log, stop), logged(whole, stop), strict=True):
            assert [resumed[2][name] for name in batchwise] == [uninterrupted[2][name] for name in batchwise]

    def test_attached_after_the_load(self):
        """State loaded before a metric is attached is restored when it is (C4)."""
        engine, total = Engine(lambda engine, batch: batch), Total()
        total.attach(engine, "total")
        states = []
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: states.append(e.state_dict()))
        engine.run(DATA)
        fresh = Engine(lambda engine, batch: batch)
        fresh.load_state_dict(states[0])
        Total().attach(fresh, "total")
        assert fresh.run(DATA).metrics == {"total": 15.0}

    def test_finished_epoch(self):
        """State saved at the end of an epoch does not count in the next epoch (C4)."""
        engine, _ = make_engine()
        engine.run(DATA)
        fresh, _ = make_engine()
        fresh.load_state_dict(engine.state_dict())
        metrics = fresh.run(DATA, max_epochs=2).metrics
        assert metrics["epoch_wise"] == metrics["single_epoch_running_batch_wise"] == 15.0
        assert metrics["running_batch_wise"] == 30.0

    @pytest.mark.parametrize("is_plain", [True, False], ids=["plain output", "other output"])
    @pytest.mark.parametrize("stop", [2, 4, 6, 8])
    def test_running_epoch_wise(self, stop, is_plain):
        """A RunningEpochWise metric resumes exactly, unless an epoch's last output cannot be saved; a warning says so (M-021, M-027)."""

        class Box:
            def __init__(self, value):
                self.value = value

        def engine_with_total():
            engine = Engine(lambda engine, batch: batch if is_plain else Box(batch))
            Total(lambda output: output if is_plain else output.value).attach(
                engine, "total", RunningEpochWise()
            )
            return engine

        engine, states = engine_with_total(), []
        engine.add_event_handler(
            Events.ITERATION_COMPLETED(once=stop), lambda e: states.append(e.state_dict())
        )
        assert engine.run(DATA, max_epochs=EPOCHS).metrics == {"total": 24.0}
        fresh = engine_with_total()
        fresh.load_state_dict(states[0])
        if is_plain or stop % len(DATA):
            assert fresh.run(DATA, max_epochs=EPOCHS).metrics == {"total": 24.0}
        else:
            with (
                pytest.warns(GlowplugWarning, match=f"at iteration {stop} and does not contain the output"),
                pytest.warns(GlowplugWarning, match="contains an object of type Box"),
            ):
                assert fresh.run(DATA, max_epochs=EPOCHS).metrics == {"total": 16.0}

    def test_skipped_output_is_that_of_the_loaded_run(self):
        """Only the lost output is skipped; a new run counts every output, None included (M-021)."""
        seen = []

        class Seen(Total):
            def update(self, output):
                seen.append(output)

        engine = Engine(lambda engine, batch: None)
        Seen().attach(engine, "seen", RunningEpochWise())
        engine.run(DATA)
        fresh = Engine(lambda engine, batch: None)
        Seen().attach(fresh, "seen", RunningEpochWise())
        fresh.load_state_dict(engine.state_dict())
        fresh.state.max_epochs = None
        fresh.run(DATA)
        assert seen == [None, None]

    def test_save_on_one_rank(self, run_ranks):
        """Saving on rank 0 only does not block, and each rank loads its own state only (M-070)."""

        def check(rank):
            from glowplug import Engine, Events, Metric, sync_all_reduce

            class Total(Metric):
                _state_dict_all_req_keys = ("total",)

                def reset(self):
                    self.total = 0

                def update(self, output):
                    self.total += output

                @sync_all_reduce("total")
                def compute(self):
                    return self.total

            def run(state, stop):
                engine = Engine(lambda engine, batch: batch)
                Total().attach(engine, "total")
                if state:
                    engine.load_state_dict(state)
                saved = []
                engine.add_event_handler(
                    Events.ITERATION_COMPLETED(once=stop),
                    lambda e: (saved.append(e.state_dict()), e.terminate()),
                )
                return engine.run([1, 2, 4], max_epochs=1).metrics, saved

            from glowplug.distributed import broadcast

            _, saved = run(None, 2)
            everyone, _ = run(saved[0], 10)
            # Rank 1 must not load the data of rank 0.
            only_zero, _ = run(broadcast(saved[0]), 10)
            return [everyone, only_zero]

        assert run_ranks(check) == [[{"total": 14}, {"total": 11}]] * 2
