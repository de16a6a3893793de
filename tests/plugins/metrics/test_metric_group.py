"""MetricGroup."""

import pickle

import pytest
import torch

from glowplug import BatchWise, Engine, Events, GlowplugWarning, Metric, RunningBatchWise
from glowplug_metrics import Accuracy, Average, Loss, MetricGroup, RunningAverage


class Seen(Metric):
    """Records the arguments of update()."""

    required_output_keys = None
    _state_dict_all_req_keys = ("outputs",)

    def reset(self):
        self.outputs = []

    def update(self, output):
        self.outputs.append(output)

    def compute(self):
        return self.outputs


def run(group, *outputs, **options):
    """Return the metrics of an engine that has the group attached as "group"."""
    engine = Engine(lambda engine, batch: batch)
    group.attach(engine, "group")
    return engine.run(outputs, **options).metrics


def test_published_names():
    """Each value is published under its name, and a dictionary of all under the group's name (M-081)."""
    metrics = run(MetricGroup({"a": Average(), "b": Average(output_transform=lambda x: 2 * x)}), 1.0, 2.0)
    assert metrics == {"a": 1.5, "b": 3.0, "group": {"a": 1.5, "b": 3.0}}


def test_output_transforms_are_chained():
    """The group's output_transform runs once, then each metric's output_transform (M-081)."""
    calls = []

    def prepared(output):
        calls.append(output)
        return output["y"]

    group = MetricGroup({"a": Seen(), "b": Seen(output_transform=lambda y: -y)}, output_transform=prepared)
    assert run(group, {"y": 1}, {"y": 2})["group"] == {"a": [1, 2], "b": [-1, -2]}
    assert calls == [{"y": 1}, {"y": 2}]


def test_mappings():
    """The group and its metrics reduce mappings to (y_pred, y) (M-081)."""
    output = {"y": torch.tensor([1]), "y_pred": torch.tensor([1]), "loss": 7}
    accuracy = Accuracy(output_transform=lambda pair: {"y": pair[1], "y_pred": pair[0], "more": 0})
    group = MetricGroup({"seen": Seen(), "accuracy": accuracy})
    metrics = run(group, output)
    assert metrics["seen"] == [(output["y_pred"], output["y"])]
    assert metrics["accuracy"] == 1.0


def test_group_unrolls_lists():
    """The group unrolls lists of samples, unless skip_unrolling is set (M-081)."""
    lists = [1.0, 2.0], [3.0, 4.0]
    pairs = run(MetricGroup({"seen": Seen()}), lists)["seen"]
    assert [(x.tolist(), y.tolist()) for x, y in pairs] == [([1.0], [3.0]), ([2.0], [4.0])]
    assert run(MetricGroup({"seen": Seen()}, skip_unrolling=True), lists)["seen"] == [lists]


def test_combinations_count_each_output_once():
    """Metrics, arithmetic on them and nested groups count each output once (M-081)."""
    total = Average()
    group = MetricGroup(
        {"mean": total, "double": 2 * total, "inner": MetricGroup({"seen": Seen()}), "seen": Seen()}
    )
    metrics = run(group, 1.0, 5.0, max_epochs=2)
    assert (metrics["mean"], metrics["double"], metrics["seen"]) == (3.0, 6.0, [1.0, 5.0])
    assert metrics["inner"] == {"seen": [1.0, 5.0]}
    assert total.num_examples == 2


def test_running_average_in_a_group():
    """A RunningAverage in a group updates its metric once per iteration (M-081)."""

    class Total(Seen):
        def compute(self):
            return sum(self.outputs)

    group = MetricGroup({"running": RunningAverage(Total(), alpha=0.5)})
    engine = Engine(lambda engine, batch: batch)
    group.attach(engine, "group", RunningBatchWise())
    assert engine.run([4.0, 2.0]).metrics["running"] == 3.0


def test_usages_and_detach():
    """The group's usage applies, and detach() releases its metrics (M-081)."""
    engine, seen = Engine(lambda engine, batch: batch), Seen()
    group = MetricGroup({"seen": seen})
    group.attach(engine, "group", BatchWise())
    assert engine.run([1, 2]).metrics["seen"] == [2]
    group.detach(engine, "batch_wise")
    assert not engine.has_event_handler(group.iteration_completed)
    seen.attach(engine, "free")
    assert engine.run([1, 2]).metrics == {"free": [1, 2]}


def test_metrics_cannot_be_attached_separately():
    """A metric that is attached separately or in another group is refused (M-005)."""
    engine, seen = Engine(lambda engine, batch: batch), Seen()
    group = MetricGroup({"seen": seen})
    handle = group.attach(engine, "group")
    for other in (seen, MetricGroup({"again": seen})):
        with pytest.raises(
            ValueError, match=r"Seen is already in use as a member of a MetricGroup.*copy\.deepcopy"
        ):
            other.attach(engine, "other")
    group.attach(engine, "second name")
    handle.remove()
    assert engine.run([1]).metrics["second name"] == {"seen": [1]}


def test_group_without_data():
    """A group without data has no value, and a warning names the metric (M-010)."""
    engine = Engine(lambda engine, batch: ([], []))
    MetricGroup({"accuracy": Accuracy()}).attach(engine, "group")
    with pytest.warns(GlowplugWarning, match="'group' .* Accuracy has received no examples"):
        assert engine.run([1]).metrics == {}


def test_state_resumes_and_pickles():
    """A state saved in the middle of an epoch resumes with the same values; copies are independent."""

    def make():
        engine = Engine(lambda engine, batch: (torch.full((2,), batch), torch.zeros(2)))
        mse, mean = Loss(torch.nn.functional.mse_loss), Average(output_transform=lambda out: out[0].mean())
        group = MetricGroup({"mse": mse, "ratio": mse / mean})
        group.attach(engine, "group")
        return engine, group

    engine, _ = make()
    states = []
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: states.append(e.state_dict()))
    expected = engine.run([1.0, 2.0, 3.0]).metrics["group"]
    fresh, _ = make()
    fresh.load_state_dict(states[0])
    assert fresh.run([1.0, 2.0, 3.0]).metrics["group"] == expected
    other = pickle.loads(pickle.dumps(MetricGroup({"mean": Average(), "double": Average() * 2})))
    other.update(3.0)
    assert other.compute() == {"mean": 3.0, "double": 6.0}


def test_invalid_metrics():
    """A group needs a mapping of names to metrics."""
    with pytest.raises(TypeError, match="dictionary that maps names to metrics, got list"):
        MetricGroup([Average()])
    with pytest.raises(TypeError, match="metric 'mean' of the group must be a Metric, got function"):
        MetricGroup({"mean": sum_of})


def sum_of():
    """Do nothing; an object that is not a metric."""


def test_two_ranks(run_ranks):
    """Two ranks with uneven or missing data return the values of all (D2, M-082, M-090)."""

    def check(rank):
        import torch

        from glowplug import Engine
        from glowplug_metrics import (
            Frequency,
            GeometricAverage,
            MeanAbsoluteError,
            MeanSquaredError,
            MetricGroup,
            RootMeanSquaredError,
        )

        group = MetricGroup(
            {
                "mae": MeanAbsoluteError(),
                "mse": MeanSquaredError(),
                "rmse": RootMeanSquaredError(),
                "geometric": GeometricAverage(output_transform=lambda out: out[0].view(-1, 1)),
            }
        )
        values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
        own = values[:4] if rank == 0 else values[4:]
        batches = [own[:3], own[3:]]
        engine = Engine(lambda engine, batch: (batches[batch], torch.zeros_like(batches[batch])))
        group.attach(engine, "group")
        first = engine.run([0, 1] if rank == 0 else [0]).metrics["group"]
        group.reset()
        if rank == 0:
            group.update((values, values + 1))
        second = group.compute()
        values = [{name: float(value) for name, value in of.items()} for of in (first, second)]
        frequency = Frequency()
        frequency.update(30 if rank == 0 else 70)
        return [*values, frequency.compute(), frequency._seconds]

    results = run_ranks(check)
    slower = max(seconds for *_, seconds in results)
    for first, second, frequency, _ in results:
        assert frequency == pytest.approx(100 / slower)
        squares = (1 + 4 + 16 + 64 + 256) / 5
        assert first == pytest.approx({"mae": 31 / 5, "mse": squares, "rmse": squares**0.5, "geometric": 4.0})
        assert second == pytest.approx({"mae": 1.0, "mse": 1.0, "rmse": 1.0, "geometric": 4.0})
