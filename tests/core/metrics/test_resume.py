"""Metrics within the state of an engine: a resumed run publishes what an uninterrupted one does."""

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
    """Return an engine with metrics of all rhythms, one of them a combination, and its log."""
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
    """Return what was logged after an iteration; at its own events only what had been published anew by then."""
    return [entry for entry in log if entry[1] > iteration]


@pytest.mark.parametrize("stop", range(1, len(DATA) * EPOCHS))
def test_metrics_go_on_in_mid_epoch(stop):
    """Stopped after any iteration, saved and loaded into fresh objects, all later values are the same (C4)."""
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
    batchwise = [BatchWise.usage_name, RunningBatchWise.usage_name, SingleEpochRunningBatchWise.usage_name]
    for resumed, uninterrupted in zip(logged(log, stop), logged(whole, stop), strict=True):
        assert [resumed[2][name] for name in batchwise] == [uninterrupted[2][name] for name in batchwise]


def test_state_that_waits_for_its_metric():
    """State that was loaded before the metric was attached is handed over when it is (C4)."""
    engine, total = Engine(lambda engine, batch: batch), Total()
    total.attach(engine, "total")
    states = []
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: states.append(e.state_dict()))
    engine.run(DATA)
    fresh = Engine(lambda engine, batch: batch)
    fresh.load_state_dict(states[0])
    Total().attach(fresh, "total")
    assert fresh.run(DATA).metrics == {"total": 15.0}


def test_state_of_a_finished_epoch_is_not_carried_on():
    """A state saved at the end of an epoch does not add that epoch to the next."""
    engine, _ = make_engine()
    engine.run(DATA)
    fresh, _ = make_engine()
    fresh.load_state_dict(engine.state_dict())
    metrics = fresh.run(DATA, max_epochs=2).metrics
    assert metrics["epoch_wise"] == metrics["single_epoch_running_batch_wise"] == 15.0
    assert metrics["running_batch_wise"] == 30.0


def test_a_run_that_starts_anew_keeps_nothing():
    """After a load, a run that is forced to start from nothing resets all metrics (E-096)."""
    engine, _ = make_engine()
    states = []
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: states.append(e.state_dict()))
    expected = engine.run(DATA).metrics
    fresh, _ = make_engine()
    fresh.load_state_dict(states[0])
    fresh.state.max_epochs = None
    assert fresh.run(DATA).metrics == expected


def test_a_loaded_metric_is_reset_by_a_new_run():
    """A state that was loaded by hand does not leak into a run that starts from nothing."""
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
def test_loaded_data_is_kept_unless_the_run_is_new(run_start, total):
    """The engine's run_start decides, whatever its iteration is."""
    fake, metric = FakeEngine(), Total()
    metric.attach(fake, "total", RunningBatchWise())
    metric.update(5.0)
    metric.keep_for_epoch(1, 4)
    fake.fire(Events.STARTED, epoch=1, iteration=4 if run_start is RunStart.NEW else 0, run_start=run_start)
    assert metric.compute() == total


def test_two_metrics_of_one_name():
    """A second metric of the same name would hide the first, and is refused without a trace."""
    engine, second = Engine(lambda engine, batch: batch), Total()
    handle = Total().attach(engine, "total")
    with pytest.raises(ValueError, match="Total: the engine already has a metric named 'total'"):
        second.attach(engine, "total")
    assert not second.is_attached(engine)
    assert not engine.has_event_handler(second.iteration_completed)
    handle.remove()
    second.attach(engine, "total")
    assert engine.run(DATA).metrics == {"total": 15.0}


def test_metrics_without_state_attach_all_the_same():
    """A metric that declares no state has none in the engine's."""

    class Plain(Total):
        _state_dict_all_req_keys = ()

    engine = Engine(lambda engine, batch: batch)
    Plain().attach(engine, "plain")
    assert engine.run(DATA).metrics == {"plain": 15.0}
    assert "handlers" not in engine.state_dict()


@pytest.mark.parametrize("combined", [False, True])
def test_what_holds_a_metric_without_state_has_none(combined):
    """A combination with a part that declares no state is left out of the engine's, which can still be saved (M-071)."""

    class Plain(Total):
        _state_dict_all_req_keys = ()

    engine = Engine(lambda engine, batch: batch)
    metric = Total() + (Plain() if combined else Total())
    metric.attach(engine, "sum")
    assert engine.run(DATA).metrics == {"sum": 30.0}
    assert ("handlers" in engine.state_dict()) is not combined


@pytest.mark.parametrize("stop", [2, 4, 6, 8])
def test_running_epoch_wise_goes_on(stop):
    """Stopped in mid-epoch nothing is lost; after an epoch's last iteration its output is, and a warning says so (M-021, M-027)."""

    def engine_with_total():
        engine = Engine(lambda engine, batch: batch)
        Total().attach(engine, "total", RunningEpochWise())
        return engine

    engine, states = engine_with_total(), []
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda e: states.append(e.state_dict()))
    assert engine.run(DATA, max_epochs=EPOCHS).metrics == {"total": 24.0}
    fresh = engine_with_total()
    fresh.load_state_dict(states[0])
    if stop % len(DATA):
        assert fresh.run(DATA, max_epochs=EPOCHS).metrics == {"total": 24.0}
    else:
        with pytest.warns(GlowplugWarning, match=f"after iteration {stop}, whose output was not saved"):
            assert fresh.run(DATA, max_epochs=EPOCHS).metrics == {"total": 16.0}


def test_a_loaded_state_skips_no_output_of_another_run():
    """Only the lost output is left out: a run that starts anew takes all, None among them (M-021)."""
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


def test_one_rank_can_save_an_engine_alone(run_ranks):
    """A checkpoint on rank 0 only does not hang, and each rank takes its own state only (M-070)."""

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
                Events.ITERATION_COMPLETED(once=stop), lambda e: (saved.append(e.state_dict()), e.terminate())
            )
            return engine.run([1, 2, 4], max_epochs=1).metrics, saved

        from glowplug.distributed import broadcast

        _, saved = run(None, 2)
        everyone, _ = run(saved[0], 10)
        # What rank 0 saw is not counted on rank 1 once more.
        only_zero, _ = run(broadcast(saved[0]), 10)
        return [everyone, only_zero]

    assert run_ranks(check) == [[{"total": 14}, {"total": 11}]] * 2
